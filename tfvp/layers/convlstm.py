"""Convolutional LSTM layers with one interface, over a whole sequence or a single step.

Both layers here hold a state {"h": [B, H, W, F], "c": [B, H, W, F]}, zero at the start, and
offer `sequence(inputs, state)` for frames that are known and `step(inputs, state)` for frames
that are generated one by one.
"""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import convolution, initializers, unroll, winograd


def hard_sigmoid(x):
    """clip(0.2 x + 0.5, 0, 1): Keras 2's hard sigmoid, whatever Keras runs (Keras 3 has x/6)."""
    return tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0)


GATE_ACTIVATIONS = {"sigmoid": tf.sigmoid, "hard_sigmoid": hard_sigmoid}


class ConvLSTM(keras.layers.Layer):
    """ConvLSTM with the choices that the published variants differ in.

    i, f = s(Wx * x + Wh * h + w o c + b); g = a(Wx * x + Wh * h + b); c' = f o c + i o g;
    o = s(Wx * x + Wh * h + w o c' + b); h' = o o a(c'), with * a same-padded convolution and o
    the element-wise product (Shi et al. 2015, arXiv 1506.04214, equation 3). Channels of the
    kernels are ordered i, f, g, o. The cell c stays float32 under any precision policy.

    The convolution of the inputs is done for all time steps at once, outside of the loop.

    Args:
        filters: F, channels of the state.
        kernel_size: odd side of both kernels.
        activation: a, of the candidate and of the output: "tanh" or "relu".
        peephole: whether the gates see the cell, through one weight per gate and channel.
        bias: "none", "single" (one per gate) or "double" (PyTorch's two, which add).
        initializer: "glorot" (kernels, with biases 0), "torch" (kernels and biases, by the number
            of inputs per output) or "lstm" (the same by the number of filters alone).
    """

    def __init__(
        self, filters, kernel_size, activation="tanh", peephole=False, bias="single", initializer="glorot", **kwargs
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.activation = keras.activations.get(activation)
        self.peephole = peephole
        self.bias = bias
        self.initializer = initializer

    def build(self, input_shape):
        """Creates the weights for inputs [..., C]; `None` for a layer that has no input."""
        self.kernel = self.input_bias = self.state_bias = self.peephole_weights = None
        if input_shape is not None:
            self.kernel = self._kernel("kernel", input_shape[-1])
        self.recurrent_kernel = self._kernel("recurrent_kernel", self.filters)
        if self.bias != "none":
            self.input_bias = self._bias("input_bias", self.filters if input_shape is None else input_shape[-1])
        if self.bias == "double":
            self.state_bias = self._bias("state_bias", self.filters)
        if self.peephole:
            self.peephole_weights = self.add_weight(name="peephole", shape=(3, self.filters), initializer="zeros")
        self.built = True

    def _kernel(self, name, channels):
        shape = (self.kernel_size, self.kernel_size, channels, 4 * self.filters)
        if self.initializer == "lstm":
            initializer = initializers.torch_bias(self.filters)
        else:
            initializer = initializers.torch_kernel() if self.initializer == "torch" else "glorot_uniform"
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def _bias(self, name, channels):
        fan_in = self.filters if self.initializer == "lstm" else self.kernel_size**2 * channels
        initializer = "zeros" if self.initializer == "glorot" else initializers.torch_bias(fan_in)
        return self.add_weight(name=name, shape=(4 * self.filters,), initializer=initializer)

    def zero_state(self, batch, height, width):
        """The state before the first frame."""
        shape = [batch, height, width, self.filters]
        return {"h": tf.zeros(shape, self.compute_dtype), "c": tf.zeros(shape, tf.float32)}

    def sequence(self, inputs, state):
        """Inputs [B, T, H, W, C] -> (outputs [B, T, H, W, F], the state after them)."""
        shape = tf.shape(inputs)
        flat = tf.reshape(inputs, tf.concat([[-1], shape[2:]], 0))
        projected = self.project(flat)
        projected = tf.reshape(projected, tf.concat([shape[:4], [4 * self.filters]], 0))
        projected.set_shape([*inputs.shape[:4], 4 * self.filters])
        return unroll.scan(self._recur, projected, state, like=state["h"])

    def step(self, inputs, state, kernels=None):
        """One input [B, H, W, C], or None -> (output [B, H, W, F], the state after it).

        `kernels`: from `kernels`, for a recomputed block in a loop, which cannot read variables again.
        """
        kernel, recurrent_kernel = kernels or (None, None)
        return self._recur(None if inputs is None else self.project(inputs, kernel), state, recurrent_kernel)

    def free_run(self, steps, state):
        """Without inputs, for a number of steps: (outputs [B, steps, H, W, F], the state after them)."""
        return unroll.generate(lambda at_t, _: self.step(None, at_t), state, steps, like=state["h"])

    def kernels(self, height, width):
        """Both kernels as the convolutions of feature maps of that size take them."""
        return tuple(self._prepared(kernel, height, width) for kernel in (self.kernel, self.recurrent_kernel))

    def project(self, inputs, kernel=None):
        """The inputs' share of the gates' pre-activations, [N, H, W, 4 F]."""
        projected = self._convolve(inputs, self._once(self.kernel, inputs) if kernel is None else kernel)
        if self.input_bias is not None:
            projected += tf.cast(self.input_bias, projected.dtype)
        return projected

    def call(self, inputs, state):
        return self.sequence(inputs, state)

    def _prepared(self, kernel, height, width):
        kernel = tf.cast(kernel, self.compute_dtype)
        gains = winograd.gains((height, width), kernel.shape, kernel.dtype)
        return winograd.transformed(kernel) if gains else kernel

    def _once(self, kernel, x):
        height, width = x.shape[1:3]
        return unroll.once((id(kernel), height, width), lambda: self._prepared(kernel, height, width))

    def _convolve(self, x, kernel):
        convolve = winograd.conv2d if kernel.shape.rank == 3 else convolution.direct
        return convolve(tf.cast(x, self.compute_dtype), kernel)

    def _recur(self, projected, state, recurrent_kernel=None):
        h = state["h"]
        gates = self._convolve(
            h, self._once(self.recurrent_kernel, h) if recurrent_kernel is None else recurrent_kernel
        )
        bias = self.state_bias if projected is not None else self.input_bias
        if projected is not None:
            gates += projected
        if bias is not None:
            gates += tf.cast(bias, gates.dtype)
        i, f, g, o = tf.split(tf.cast(gates, tf.float32), 4, axis=-1)
        c = state["c"]
        if self.peephole:
            w = tf.cast(self.peephole_weights, tf.float32)
            i, f = i + w[0] * c, f + w[1] * c
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * self.activation(g)
        if self.peephole:
            o = o + w[2] * c
        h = tf.cast(tf.sigmoid(o) * self.activation(c), self.compute_dtype)
        return h, {"h": h, "c": c}


class KerasConvLSTM(keras.layers.Layer):
    """`keras.layers.ConvLSTM2D` behind the interface of this module.

    Args:
        filters: F, channels of the state.
        kernel_size: odd side of both kernels.
        activation: of the candidate and of the output.
        recurrent_activation: of the gates, "sigmoid" or "hard_sigmoid" (Keras 2's).
    """

    def __init__(self, filters, kernel_size, activation="relu", recurrent_activation="sigmoid", **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.recurrent = keras.layers.ConvLSTM2D(
            filters,
            kernel_size,
            padding="same",
            activation=activation,
            recurrent_activation=GATE_ACTIVATIONS[recurrent_activation],
            return_sequences=True,
            return_state=True,
        )

    def build(self, input_shape):
        self.recurrent.build((None, None, *input_shape[-3:]))
        self.built = True

    def zero_state(self, batch, height, width):
        """The state before the first frame."""
        zeros = tf.zeros([batch, height, width, self.filters], self.compute_dtype)
        return {"h": zeros, "c": zeros}

    def sequence(self, inputs, state):
        """Inputs [B, T, H, W, C] -> (outputs [B, T, H, W, F], the state after them)."""
        outputs, h, c = self.recurrent(inputs, initial_state=[state["h"], state["c"]])
        return outputs, {"h": h, "c": c}

    def step(self, inputs, state):
        """One input [B, H, W, C] -> (output [B, H, W, F], the state after it)."""
        h, (_, c) = self.recurrent.cell(inputs, [state["h"], state["c"]])
        return h, {"h": h, "c": c}

    def call(self, inputs, state):
        return self.sequence(inputs, state)
