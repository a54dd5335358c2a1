"""Initial weights as PyTorch draws them, for models that were published in PyTorch."""

from tensorflow import keras


def torch_kernel():
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of PyTorch's convolutions and linear layers."""
    return keras.initializers.VarianceScaling(scale=1.0 / 3.0, mode="fan_in", distribution="uniform")


def torch_bias(fan_in):
    """The same interval for the bias of a layer whose kernel has `fan_in` inputs per output."""
    bound = fan_in**-0.5
    return keras.initializers.RandomUniform(-bound, bound)
