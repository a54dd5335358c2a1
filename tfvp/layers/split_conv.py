"""A convolution of concatenated feature maps, taken apart, so that what some of them contribute can be kept.

conv(concat([x, kept])) = of_first(x) + of_last(kept).
"""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import unroll, winograd


def of_first(layer, images):
    """What a convolution makes of its first input channels.

    Args:
        layer: a built `Conv2D` or `Conv2DTranspose` with padding "same".
        images: [N, h, w, c], with c at most the layer's input channels.

    Returns:
        [N, h', w', filters], without bias and activation.
    """
    return _convolved(layer, images, slice(None, images.shape[-1]))


def of_last(layer, images):
    """What a convolution makes of its last input channels, and its bias; else as `of_first`."""
    return tf.nn.bias_add(_convolved(layer, images, slice(-images.shape[-1], None)), tf.cast(layer.bias, images.dtype))


def _convolved(layer, images, channels):
    transpose = isinstance(layer, keras.layers.Conv2DTranspose)
    kept = range(layer.kernel.shape[3 if transpose else 2])[channels]
    shape = (*layer.kernel_size, len(kept), layer.filters)
    gains = not transpose and {*layer.strides} == {1} and winograd.gains(images.shape[1:3], shape, images.dtype)

    def part():
        kernel = tf.cast(tf.convert_to_tensor(layer.kernel), images.dtype)
        kernel = kernel[..., channels] if transpose else kernel[:, :, channels]
        return winograd.transformed(kernel) if gains else kernel

    # A copy of the kernel, which in a rollout would take more than a quarter of the time if each frame made its own.
    kernel = unroll.once((id(layer), channels.start, channels.stop, images.dtype, gains), part)
    if gains:
        return winograd.conv2d(images, kernel)
    if not transpose:
        return tf.nn.conv2d(images, kernel, layer.strides, "SAME")
    size = tf.shape(images)
    stride = layer.strides
    shape = [size[0], images.shape[1] * stride[0], images.shape[2] * stride[1], layer.filters]
    return tf.nn.conv2d_transpose(images, kernel, shape, stride, "SAME")
