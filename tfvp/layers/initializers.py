"""Initial weights as PyTorch draws them, for models that were published in PyTorch.

An initializer without a seed draws the same numbers again when it is used again, so each call
here makes a new one: one for each variable.
"""

from tensorflow import keras


def torch_kernel():
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of PyTorch's convolutions and linear layers.

    The fan-in is read from the variable's shape. Not for depthwise kernels, whose fan-in Keras
    takes for as many times too large as there are channels; see `torch_depthwise`.
    """
    return keras.initializers.VarianceScaling(scale=1.0 / 3.0, mode="fan_in", distribution="uniform")


def torch_bias(fan_in):
    """The same interval for the bias of a layer whose kernel has `fan_in` inputs per output."""
    bound = fan_in**-0.5
    return keras.initializers.RandomUniform(-bound, bound)


def torch_default(fan_in):
    """PyTorch's default as keyword arguments of a Keras convolution or dense layer.

    Args:
        fan_in: inputs per output, kernel height * kernel width * input channels. PyTorch takes
            the output channels in a transposed convolution.
    """
    return {"kernel_initializer": torch_bias(fan_in), "bias_initializer": torch_bias(fan_in)}


def torch_depthwise(side, per_output=1):
    """PyTorch's default as keyword arguments of `keras.layers.DepthwiseConv2D`.

    Args:
        side: of the kernel.
        per_output: input channels that are summed into an output, for a grouped convolution
            that is written as a depthwise one and a sum.
    """
    fan_in = side**2 * per_output
    return {"depthwise_initializer": torch_bias(fan_in), "bias_initializer": torch_bias(fan_in)}


def normal(stddev=0.02):
    """N(0, stddev^2). The `trunc_normal_` of PyTorch and timm cuts it at +-2, which is 100 deviations: not at all."""
    return keras.initializers.RandomNormal(0.0, stddev)


def he_fan_out(fan_out):
    """N(0, 2 / fan_out) (He et al. 2015, arXiv 1502.01852, equation 14), never truncated.

    Args:
        fan_out: kernel height * kernel width * output channels / groups.
    """
    return normal((2.0 / fan_out) ** 0.5)
