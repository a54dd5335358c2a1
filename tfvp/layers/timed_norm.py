"""Batch norm whose statistics are taken for each time step by itself."""

import tensorflow as tf
from tensorflow import keras

EPSILON = 1e-5
MOMENTUM = 0.9


class TimedBatchNorm(keras.layers.Layer):
    """Batch norm of [B, T, h, w, c] over B, h and w, for every t by itself.

    One call on T frames computes what T calls on one frame each do, which merging B and T into
    one axis does not. Statistics are those of all replicas together. The running ones move once
    per time step, with the unbiased variance, as PyTorch's do.

    Modes: "train" = statistics of the batch, which enter the running ones; "batch" = statistics
    of the batch; "running" = the running ones.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)

    def build(self, input_shape):
        shape = (input_shape[-1],)
        near_one = keras.initializers.RandomNormal(1.0, 0.02)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer=near_one, dtype="float32")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", dtype="float32")
        self.moving_mean = self._statistic("moving_mean", shape, "zeros")
        self.moving_variance = self._statistic("moving_variance", shape, "ones")
        self.built = True

    def _statistic(self, name, shape, initializer):
        return self.add_weight(name=name, shape=shape, initializer=initializer, trainable=False, dtype="float32")

    def call(self, inputs, mode):
        x = tf.cast(inputs, tf.float32)
        if mode == "running":
            mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        else:
            mean, variance, count = _moments(x)
            if mode == "train":
                unbiased = variance * count / tf.maximum(count - 1.0, 1.0)
                for moving, found in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
                    moving.assign(_moved(moving, tf.stop_gradient(found)))
            mean, variance = mean[:, None, None], variance[:, None, None]
        scale = tf.convert_to_tensor(self.gamma) * tf.math.rsqrt(variance + EPSILON)
        return tf.cast((x - mean) * scale + tf.convert_to_tensor(self.beta), inputs.dtype)


def _moments(x):
    """(mean [T, c], biased variance [T, c], elements behind each) over all replicas."""
    shape = tf.shape(x)
    count = tf.cast(shape[0] * shape[2] * shape[3], tf.float32)
    mean = tf.reduce_mean(x, axis=[0, 2, 3])
    variance = tf.reduce_mean(tf.square(x - mean[:, None, None]), axis=[0, 2, 3])
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return mean, variance, count
    # One exchange: the variance of all is the mean of the variances and the variance of the means.
    moments = tf.stack([mean, variance + tf.square(mean)])
    mean, square = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.MEAN, moments))
    return mean, square - tf.square(mean), count * context.num_replicas_in_sync


def _moved(moving, found):
    """The running statistic after one update per row of `found` [T, c], in order."""
    steps = tf.shape(found)[0]
    ages = tf.cast(steps - 1 - tf.range(steps), tf.float32)
    weights = (1.0 - MOMENTUM) * tf.pow(MOMENTUM, ages)
    kept = tf.pow(MOMENTUM, tf.cast(steps, tf.float32))
    return kept * tf.convert_to_tensor(moving) + tf.tensordot(weights, found, 1)
