"""Convolutions that are quick on CPUs."""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import per_frame, unroll, winograd

WIDE = 2048  # channels on either side from which oneDNN's 1x1 convolutions and their gradients are slow


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, by matrix products where those are quicker; the class's name is in weight files.

    On CPUs, in float32, with stride 1 and same padding: kernels of 3x3 and 5x5 by Winograd's algorithm where it
    gains, wide 1x1 ones as one matrix product. All else is Keras's.
    """

    def convolution_op(self, inputs, kernel):
        plain = {*self.strides, *self.dilation_rate, self.groups} == {1}
        if plain and inputs.dtype == tf.float32 and not tf.config.list_physical_devices("GPU"):
            if self.kernel_size == (1, 1) and max(kernel.shape[2:]) >= WIDE:
                return pointwise(inputs, tf.convert_to_tensor(kernel))
            if self.padding == "same" and winograd.gains(inputs.shape[1:3], kernel.shape, inputs.dtype):
                return winograd.conv2d(
                    inputs, unroll.once((id(self), "winograd"), lambda: winograd.transformed(kernel))
                )
        return super().convolution_op(inputs, kernel)


def pointwise(images, kernel):
    """[N, H, W, C] convolved with [1, 1, C, K]: [N, H, W, K]."""
    *places, channels = per_frame.sizes(images)
    outputs = tf.matmul(tf.reshape(images, [-1, channels]), tf.reshape(kernel, kernel.shape[2:]))
    return tf.reshape(outputs, [*places, kernel.shape[-1]])


def direct(images, kernel):
    """[N, H, W, C] convolved with [side, side, C, K], same padding: [N, H, W, K]."""
    return tf.nn.conv2d(images, kernel, 1, "SAME")


def same(images, kernel):
    """As `direct`, by Winograd's algorithm where it gains."""
    if winograd.gains(images.shape[1:3], kernel.shape, images.dtype):
        return winograd.conv2d(images, winograd.transformed(kernel))
    return direct(images, kernel)
