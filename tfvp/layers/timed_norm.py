"""Batch norm whose statistics are taken for each time step by itself."""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers.per_frame import sizes

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
        batch, steps, height, width, channels = shape = sizes(inputs)
        # [B * T, h * w, c] and [B * T, 1, c] throughout: sums over the middle axis, in the forward pass and in the
        # gradient of what is broadcast over it, take a tenth of the time of sums over three of five axes.
        x = tf.reshape(tf.cast(inputs, tf.float32), [batch * steps, height * width, channels])

        def spread(values):
            """[T, c] or [1, c] -> [B * T, 1, c]."""
            return tf.reshape(tf.broadcast_to(values, [batch, steps, channels]), [batch * steps, 1, channels])

        def mean_over_frames(values):
            """[B * T, h * w, c] -> [T, c]."""
            return tf.reduce_mean(tf.reshape(tf.reduce_mean(values, axis=1), [batch, steps, channels]), axis=0)

        if mode == "running":
            mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        else:
            mean = mean_over_frames(x)
            variance = mean_over_frames(tf.square(x - spread(mean)))
            mean, variance, count = _of_all_replicas(mean, variance, tf.cast(batch * height * width, tf.float32))
            if mode == "train":
                unbiased = variance * count / tf.maximum(count - 1.0, 1.0)
                for moving, found in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
                    moving.assign(_moved(moving, tf.stop_gradient(found)))
        scale = tf.convert_to_tensor(self.gamma) * tf.math.rsqrt(variance + EPSILON)
        normed = (x - spread(mean)) * spread(scale) + spread(tf.convert_to_tensor(self.beta))
        return tf.cast(tf.reshape(normed, shape), inputs.dtype)


def _of_all_replicas(mean, variance, count):
    """(mean [T, c], biased variance [T, c], elements behind each) of all replicas, from those of this one."""
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
