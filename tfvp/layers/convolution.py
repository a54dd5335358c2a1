"""Convolutions that are quick on CPUs."""

import tensorflow as tf
from tensorflow import keras

from tfvp import devices
from tfvp.layers import per_frame, unroll, winograd

# Without AVX-512. With it, every 1x1 convolution takes at least as long as a matrix product.
WIDE = 2048  # channels on either side from which 1x1 convolutions and their gradients are slower than matrix products
WIDE_ALONE = 1024  # and from which the forward pass alone is


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, by matrix products where those are quicker; the class's name is in weight files.

    On CPUs, in float32, with stride 1: kernels of 3x3 and 5x5 by Winograd's algorithm where it gains, 1x1 ones, or
    wide ones of them, as one matrix product. All else is Keras's.
    """

    def convolution_op(self, inputs, kernel):
        plain = {*self.strides, *self.dilation_rate, self.groups} == {1}
        if plain and winograd.wanted(inputs.dtype):
            if self.kernel_size == (1, 1) and max(kernel.shape[2:]) >= _wide():
                return self._pointwise(inputs, kernel)
            if self.padding == "same" and winograd.gains(inputs.shape[1:3], kernel.shape, inputs.dtype):
                tiles = unroll.once((id(self), "winograd"), lambda: winograd.transformed(kernel))
                return winograd.conv2d(inputs, tiles)
        return super().convolution_op(inputs, kernel)

    def _pointwise(self, images, kernel):
        *places, channels = per_frame.sizes(images)
        rows = tf.reshape(images, [-1, channels])

        def matrix():
            return tf.reshape(tf.convert_to_tensor(kernel), kernel.shape[2:])

        if devices.avx512():
            outputs = tf.matmul(rows, matrix())
        else:
            # For few rows, oneDNN takes up to twice as long with the kernel as it is, whose rows are a power of two
            # apart.
            turned = unroll.once((id(self), "turned"), lambda: tf.transpose(matrix()))
            outputs = tf.matmul(rows, turned, transpose_b=True)
        return tf.reshape(outputs, [*places, self.filters])


def _wide():
    """The number of channels on either side from which a 1x1 convolution is done as a matrix product."""
    if devices.avx512():
        return 0
    return WIDE if winograd.differentiated() else WIDE_ALONE


def direct(images, kernel):
    """[N, H, W, C] convolved with [side, side, C, K], same padding: [N, H, W, K]."""
    return tf.nn.conv2d(images, kernel, 1, "SAME")


def same(images, kernel):
    """As `direct`, by Winograd's algorithm where it gains."""
    if winograd.gains(images.shape[1:3], kernel.shape, images.dtype):
        return winograd.conv2d(images, winograd.transformed(kernel))
    return direct(images, kernel)
