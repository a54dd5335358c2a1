"""Batch norm whose running variance is PyTorch's."""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import recompute, timed_norm
from tfvp.layers.per_frame import sizes


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch norm, synchronized over replicas, with the running variance that PyTorch keeps.

    Both normalize by the biased variance of the batch. PyTorch lets the unbiased one, n / (n - 1)
    times as large for n values per channel, enter the running variance; Keras the biased one. Only
    evaluation differs. The class has Keras's name, since weight files name layers by their class.

    Args:
        momentum: weight of the old running statistic, 1 minus PyTorch's `momentum`.
        epsilon: added to the variance.
        **kwargs: as in `keras.layers.BatchNormalization`.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, synchronized=True, **kwargs)

    def call(self, inputs, training=False):
        if not training:
            return super().call(inputs, training=False)
        batch, *_, channels = shape = sizes(inputs)
        x = tf.reshape(tf.cast(inputs, tf.float32), [batch, -1, channels])
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        outputs, mean, variance = timed_norm.normalize(x, gamma, beta, batch, 1, self.epsilon)
        if not recompute.again():
            timed_norm.move(self.moving_mean, mean, self.momentum)
            timed_norm.move(self.moving_variance, timed_norm.unbiased(variance, tf.size(x) // channels), self.momentum)
        return tf.cast(tf.reshape(outputs, shape), inputs.dtype)
