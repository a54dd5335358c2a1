"""Layer norm and group norm whose gradients are written down.

TensorFlow derives 40 to 60 operations from Keras's layers, and keeps several maps of the input's size for them. Here a
gradient is a dozen operations, and the input is all that is kept.
"""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import winograd
from tfvp.layers.per_frame import sizes


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer norm over the last axis; the class's name is in weight files.

    In a training step the gradient is written down. Elsewhere the layer is Keras's, whose operations any runtime has.
    """

    def call(self, inputs):
        if not winograd.differentiated():
            return super().call(inputs)
        x = tf.reshape(tf.cast(inputs, tf.float32), [-1, inputs.shape[-1]])
        normed = over_channels(x, _float32(self.gamma), _float32(self.beta), self.epsilon)
        return tf.cast(tf.reshape(normed, sizes(inputs)), self.compute_dtype)


class GroupNormalization(keras.layers.GroupNormalization):
    """Keras's group norm of images; the class's name is in weight files. As for `LayerNormalization`."""

    def call(self, inputs):
        if not winograd.differentiated():
            return super().call(inputs)
        batch, height, width, channels = shape = sizes(inputs)
        x = tf.reshape(tf.cast(inputs, tf.float32), [batch, height * width, channels])
        normed = over_groups(x, _float32(self.gamma), _float32(self.beta), self.groups, self.epsilon)
        return tf.cast(tf.reshape(normed, shape), self.compute_dtype)


def over_channels(x, gamma, beta, epsilon):
    """Rows of x [n, c], float32, normalised each by itself, times gamma [c], plus beta [c]."""

    def mean_of(values):
        return tf.reduce_mean(values, axis=1, keepdims=True)

    @tf.custom_gradient
    def normalized(x, gamma, beta):
        mean = mean_of(x)
        centred = x - mean
        inverse = tf.math.rsqrt(mean_of(tf.square(centred)) + epsilon)

        def gradient(upstream):
            normed = (x - mean) * inverse
            scaled = upstream * gamma
            to_x = inverse * (scaled - mean_of(scaled) - normed * mean_of(scaled * normed))
            return to_x, tf.reduce_sum(upstream * normed, axis=0), tf.reduce_sum(upstream, axis=0)

        return centred * inverse * gamma + beta, gradient

    return normalized(x, gamma, beta)


def over_groups(x, gamma, beta, groups, epsilon):
    """x [B, n, c], float32, normalised over n and the channels of each group, times gamma [c], plus beta [c]."""
    channels = x.shape[-1]
    each = channels // groups

    def mean_of(values):
        """[B, c] -> [B, 1, c], the mean of each group in the place of its channels."""
        means = tf.reduce_mean(tf.reshape(values, [-1, groups, each]), axis=2, keepdims=True)
        return tf.reshape(tf.tile(means, [1, 1, each]), [-1, 1, channels])

    @tf.custom_gradient
    def normalized(x, gamma, beta):
        # Sums over the middle axis first: they take a tenth of the time of sums over two of four axes.
        mean = mean_of(tf.reduce_mean(x, axis=1))
        centred = x - mean
        inverse = tf.math.rsqrt(mean_of(tf.reduce_mean(tf.square(centred), axis=1)) + epsilon)

        def gradient(upstream):
            normed = (x - mean) * inverse
            common, along = tf.reduce_mean(upstream, axis=1), tf.reduce_mean(upstream * normed, axis=1)
            to_x = inverse * (upstream * gamma - mean_of(common * gamma) - normed * mean_of(along * gamma))
            places = tf.cast(sizes(x)[1], tf.float32)
            return to_x, places * tf.reduce_sum(along, axis=0), places * tf.reduce_sum(common, axis=0)

        return centred * (inverse * gamma) + beta, gradient

    return normalized(x, gamma, beta)


def _float32(variable):
    return tf.cast(tf.convert_to_tensor(variable), tf.float32)  # Keras 2 reads it in the compute dtype
