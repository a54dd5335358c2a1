"""LSTM layers with two bias vectors, as PyTorch's LSTMCell has them."""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import unroll


class TwoBiasLSTM(keras.layers.Layer):
    """LSTM over [B, T, D] -> [B, T, units] float32, gates in the order i, f, g, o.

    The two biases get the same gradient, so their sum moves twice as fast under Adam as one bias
    would; all parameters start uniform on +-1/sqrt(units), without a forget-gate bias of 1.

    Args:
        units: size of the state.
    """

    def __init__(self, units, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.units = units

    def build(self, input_shape):
        def weight(name, shape):
            bound = self.units**-0.5
            return self.add_weight(
                name=name, shape=shape, initializer=keras.initializers.RandomUniform(-bound, bound), dtype="float32"
            )

        self.kernel = weight("kernel", (input_shape[-1], 4 * self.units))
        self.recurrent_kernel = weight("recurrent_kernel", (self.units, 4 * self.units))
        self.bias = weight("bias", (4 * self.units,))
        self.recurrent_bias = weight("recurrent_bias", (4 * self.units,))
        self.built = True

    def zero_state(self, batch):
        """{"h", "c"} of zeros, [B, units] float32 each."""
        return {"h": tf.zeros([batch, self.units]), "c": tf.zeros([batch, self.units])}

    def call(self, inputs, state):
        """Runs the recurrence.

        Args:
            inputs: [B, T, D].
            state: {"h", "c"} before the first step.

        Returns:
            (outputs [B, T, units], {"h", "c"} after the last step).
        """
        inputs = tf.cast(inputs, tf.float32)
        from_inputs = tf.tensordot(inputs, self.kernel, 1) + self.bias + self.recurrent_bias
        recurrent_kernel = tf.convert_to_tensor(self.recurrent_kernel)

        def step(x, state):
            i, f, g, o = tf.split(x + tf.matmul(state["h"], recurrent_kernel), 4, axis=-1)
            memory = tf.sigmoid(f) * state["c"] + tf.sigmoid(i) * tf.tanh(g)
            hidden = tf.sigmoid(o) * tf.tanh(memory)
            return hidden, {"h": hidden, "c": memory}

        if inputs.shape[1] == 1:
            hidden, state = step(from_inputs[:, 0], state)
            return hidden[:, None], state
        return unroll.scan(step, from_inputs, state, like=tf.TensorSpec([None, self.units], tf.float32))
