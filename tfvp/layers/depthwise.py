"""Depthwise convolutions whose kernels' gradients are quick on CPUs."""

import tensorflow as tf
from tensorflow import keras

from tfvp import compat, quiet
from tfvp.layers import per_frame

LARGE = 5  # side of the smallest kernel whose gradient is quicker this way; for 3x3, moving the batch costs more


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` of stride 1, same padding and one output per channel.

    Values are the same. On a CPU oneDNN takes seven times as long for the gradient of a large kernel as for
    the forward pass; here that gradient is a forward pass, too. Without oneDNN, or with a GPU, the layer is Keras's.
    """

    def __init__(self, side, dilation_rate=1, **kwargs):
        super().__init__(side, padding="same", dilation_rate=dilation_rate, **kwargs)

    def call(self, inputs):
        side, rate = self.kernel_size[0], self.dilation_rate[0]
        gains = side >= LARGE and inputs.dtype == tf.float32 and quiet.onednn()
        if not gains or tf.config.list_physical_devices("GPU"):
            return super().call(inputs)
        outputs = convolved(inputs, tf.convert_to_tensor(compat.depthwise_kernel(self)), rate)
        return outputs + self.bias if self.use_bias else outputs


def convolved(inputs, kernel, rate):
    """[B, H, W, C] convolved with [side, side, C, 1], an odd side, same padding, dilated by `rate`: [B, H, W, C]."""

    def same(frames, taps):
        return tf.nn.depthwise_conv2d(frames, taps, [1, 1, 1, 1], "SAME", dilations=[rate, rate])

    @tf.custom_gradient
    def operation(inputs, kernel):
        def gradients(upstream):
            turned = tf.reverse(kernel, [0, 1])
            return same(upstream, turned), kernel_gradient(inputs, upstream, kernel.shape[0], rate)

        return same(inputs, kernel), gradients

    return operation(inputs, kernel)


def kernel_gradient(inputs, upstream, side, rate):
    """d sum(upstream * convolved(inputs, kernel, rate)) / d kernel, [side, side, C, 1].

    Tap (i, j) of a channel is the product, summed over clips and places, of `upstream` and of `inputs` moved by
    (i, j) * rate: a convolution of the padded inputs whose kernel is `upstream`, of stride `rate`. Clips
    have kernels of their own, so they stand beside each other as channels.
    """
    batch, height, width, channels = per_frame.sizes(inputs)
    pad, beside = rate * (side - 1) // 2, [1, 2, 0, 3]
    padded = tf.pad(tf.transpose(inputs, beside), [[pad, pad], [pad, pad], [0, 0], [0, 0]])
    padded = tf.reshape(padded, [1, height + 2 * pad, width + 2 * pad, batch * channels])
    taps = tf.reshape(tf.transpose(upstream, beside), [height, width, batch * channels, 1])
    products = tf.nn.depthwise_conv2d(padded, taps, [1, rate, rate, 1], "VALID")
    return tf.reduce_sum(tf.reshape(products, [side, side, batch, channels]), axis=2)[..., None]
