"""Batch norm whose running variance is PyTorch's."""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import recompute, timed_norm


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
        if recompute.again():
            return self._normalized(inputs)
        before = tf.identity(tf.convert_to_tensor(self.moving_variance))
        with tf.control_dependencies([before]):
            outputs = super().call(inputs, training=True)
        with tf.control_dependencies([outputs]):
            biased = tf.identity(tf.convert_to_tensor(self.moving_variance))
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], biased.dtype)
        context = tf.distribute.get_replica_context()
        if context is not None:
            count *= context.num_replicas_in_sync
        # The batch's own part of the running variance is (1 - momentum) * biased variance.
        own = biased - self.momentum * before
        self.moving_variance.assign(biased + own / tf.maximum(count - 1.0, 1.0))
        return outputs

    def _normalized(self, inputs):
        """The outputs of training, without an update of the running statistics."""
        batch, channels = tf.shape(inputs)[0], inputs.shape[-1]
        x = tf.reshape(tf.cast(inputs, tf.float32), [batch, -1, channels])
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        outputs, _, _ = timed_norm.normalize(x, gamma, beta, batch, 1, self.epsilon)
        return tf.cast(tf.reshape(outputs, tf.shape(inputs)), inputs.dtype)
