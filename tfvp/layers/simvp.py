"""Blocks of SimVP-gSTA (Tan et al. 2022): spatial coders and the gated attention of the translator."""

import math

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import initializers, winograd
from tfvp.layers.batch_norm import BatchNormalization
from tfvp.layers.convolution import Conv2D
from tfvp.layers.depthwise import DepthwiseConv2D
from tfvp.layers.norms import GroupNormalization
from tfvp.layers.per_frame import sizes

GROUPS = 2  # of group norm
SCALE = 1e-2  # initial factor of the translator's branches


def exact_gelu(x):
    """GELU in its erf form; in a training step with a gradient of fewer operations than TensorFlow derives."""
    return _gelu(x) if winograd.differentiated() else tf.nn.gelu(x, approximate=False)


@tf.custom_gradient
def _gelu(x):
    below = 0.5 * tf.math.erfc(x * -math.sqrt(0.5))

    def gradient(upstream):
        return upstream * (below + x * tf.exp(-0.5 * tf.square(x)) * (1.0 / math.sqrt(2.0 * math.pi)))

    return x * below, gradient


def folded(x):
    """[B, T, h, w, C] -> [B, h, w, T * C]; channels are slot-major."""
    batch, slots, height, width, channels = sizes(x)
    return tf.reshape(tf.transpose(x, [0, 2, 3, 1, 4]), [batch, height, width, slots * channels])


def unfolded(x, slots):
    """[B, h, w, T * C] -> [B, T, h, w, C]."""
    batch, height, width, channels = sizes(x)
    return tf.transpose(tf.reshape(x, [batch, height, width, slots, channels // slots]), [0, 3, 1, 2, 4])


def strides(depth):
    """Strides of an encoder's units: 1, 2, 1, 2, ..."""
    return [1 + unit % 2 for unit in range(depth)]


class NormedConv(keras.layers.Layer):
    """3x3 convolution, group norm, SiLU; one pixel of padding on every side.

    Args:
        filters: output channels.
        stride: 1 or 2.
        upsample: double the resolution instead.
    """

    def __init__(self, filters, stride=1, upsample=False, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride
        self.upsample = upsample
        self.conv = Conv2D(
            4 * filters if upsample else filters,
            3,
            strides=stride,
            padding="valid" if stride == 2 else "same",
            kernel_initializer=initializers.normal(),
        )
        self.norm = GroupNormalization(GROUPS, epsilon=1e-5)

    def build(self, input_shape):
        self.conv.build((None, None, None, input_shape[-1]))
        self.norm.build((None, None, None, self.filters))
        self.built = True

    def call(self, x):
        if self.stride == 2:
            x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = self.conv(x)
        return tf.nn.silu(self.norm(tf.nn.depth_to_space(x, 2) if self.upsample else x))


class GatedBlock(keras.layers.Layer):
    """Large-kernel attention with a gate, then a pointwise network with a depthwise 3x3 in it.

    Args:
        channels: of the input.
        out: of the output; another number is reached by a 1x1 convolution.
        ratio: width of the pointwise network relative to `channels`.
    """

    def __init__(self, channels, out, ratio, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio = channels, ratio

        def pointwise(filters):
            return Conv2D(filters, 1, kernel_initializer=initializers.he_fan_out(filters))

        def depthwise(side, **options):
            return DepthwiseConv2D(side, depthwise_initializer=initializers.he_fan_out(side**2), **options)

        self.norms = [BatchNormalization() for _ in range(2)]
        self.into = pointwise(channels)
        self.gate = pointwise(2 * channels)
        self.out = pointwise(channels)
        self.local = depthwise(5)
        self.wide = depthwise(7, dilation_rate=3)
        self.expand, self.project = pointwise(ratio * channels), pointwise(channels)
        self.mix = depthwise(3)
        self.resize = None
        if out != channels:  # outside of what the published block draws itself, so by PyTorch's default
            self.resize = Conv2D(out, 1, **initializers.torch_default(channels))

    def build(self, input_shape):
        small, large = (None, None, None, self.channels), (None, None, None, self.ratio * self.channels)
        for layer in (*self.norms, self.into, self.gate, self.out, self.local, self.wide, self.expand, self.resize):
            if layer is not None:
                layer.build(small)
        for layer in (self.mix, self.project):
            layer.build(large)
        self.scales = [
            self.add_weight(
                name=f"scale_{i}",
                shape=(self.channels,),
                initializer=keras.initializers.Constant(SCALE),
                dtype="float32",
            )
            for i in range(2)
        ]
        self.built = True

    def call(self, x, factors=None, training=False):
        """`factors`: of both branches of each example, [B, 2]; 1 by default."""
        y = normed = self.norms[0](x, training=training)
        y = self.wide(self.local(exact_gelu(self.into(y))))
        value, gate = tf.split(self.gate(y), 2, axis=-1)
        y = normed + self.out(tf.sigmoid(gate) * value)
        x += self._scaled(y, 0, factors)
        y = self.mix(self.expand(self.norms[1](x, training=training)))
        x += self._scaled(self.project(exact_gelu(y)), 1, factors)
        return x if self.resize is None else self.resize(x)

    def _scaled(self, y, branch, factors):
        y *= tf.cast(self.scales[branch], y.dtype)
        return y if factors is None else y * tf.cast(factors[:, branch, None, None, None], y.dtype)
