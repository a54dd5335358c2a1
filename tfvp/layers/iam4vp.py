"""Blocks of IAM4VP (Seo et al. 2023): spatial coders, large-kernel attention, ConvNeXt blocks with a time query."""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import initializers, recompute
from tfvp.layers.convolution import Conv2D
from tfvp.layers.depthwise import DepthwiseConv2D
from tfvp.layers.norms import LayerNormalization
from tfvp.layers.per_frame import sizes
from tfvp.layers.simvp import exact_gelu, strides

NORM_EPSILON = 1e-6


class ConvUnit(keras.layers.Layer):
    """3x3 convolution, layer norm over channels, SiLU; one pixel of padding on every side.

    Args:
        filters: output channels.
        stride: 1 or 2.
        upsample: double the resolution instead, by convolving to 4 * filters and shuffling pixels.
        skip: channels of a second input, which is convolved beside the first.
    """

    def __init__(self, filters, stride=1, upsample=False, skip=0, **kwargs):
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
        # Apart from the first input's convolution, so that it can be kept while that input changes.
        self.skip_conv = None
        if skip:
            self.skip_conv = Conv2D(
                filters, 3, padding="same", use_bias=False, kernel_initializer=initializers.normal()
            )
        self.skip = skip
        self.norm = LayerNormalization(epsilon=NORM_EPSILON)

    def build(self, input_shape):
        self.conv.build((None, None, None, input_shape[-1]))
        if self.skip_conv is not None:
            self.skip_conv.build((None, None, None, self.skip))
        self.norm.build((None, None, None, self.filters))
        self.built = True

    def call(self, x, skip_term=None):
        """`skip_term`: what `skip_conv` made of the second input."""
        if self.stride == 2:
            x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = self.conv(x)
        if skip_term is not None:
            x += skip_term
        if self.upsample:
            x = tf.nn.depth_to_space(x, 2)
        return tf.nn.silu(self.norm(x))


class SpatialEncoder(keras.layers.Layer):
    """Frames [N, H, W, C] -> (latents [N, h, w, filters], feature maps [N, H, W, filters] of the first unit).

    h is H / 2^(depth // 2), and w likewise.

    Args:
        filters: channels of every unit.
        depth: units; every second one halves the resolution.
    """

    def __init__(self, filters, depth, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.units = [ConvUnit(filters, stride) for stride in strides(depth)]

    def build(self, input_shape):
        channels = input_shape[-1]
        for unit in self.units:
            unit.build((None, None, None, channels))
            channels = self.filters
        self.built = True

    def call(self, frames):
        skip = x = recompute.block(self.units[0], frames)
        for unit in self.units[1:]:
            x = recompute.block(unit, x)
        return x, skip


class SpatialDecoder(keras.layers.Layer):
    """Latents [N, h, w, filters] -> feature maps [N, H, W, filters], with a skip into the last unit.

    Args:
        filters, depth: as in `SpatialEncoder`.
    """

    def __init__(self, filters, depth, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        order = strides(depth)[::-1]
        self.units = [
            ConvUnit(filters, upsample=stride == 2, skip=filters if i == depth - 1 else 0)
            for i, stride in enumerate(order)
        ]

    def build(self, input_shape):
        for unit in self.units:
            unit.build((None, None, None, self.filters))
        self.built = True

    def skip_term(self, skip):
        """What the last unit makes of the feature maps of `SpatialEncoder`; the same for any latents."""
        return self.units[-1].skip_conv(skip)

    def call(self, latents, skip_term):
        for unit in self.units[:-1]:
            latents = recompute.block(unit, latents)
        return recompute.block(self.units[-1], latents, skip_term)


class LargeKernelAttention(keras.layers.Layer):
    """x times a 1x1 convolution of a dilated 7x7 of a 5x5 depthwise convolution of x (arXiv 2202.09741)."""

    def build(self, input_shape):
        channels = input_shape[-1]
        self.local = DepthwiseConv2D(5, **initializers.torch_depthwise(5))
        self.wide = DepthwiseConv2D(7, dilation_rate=3, **initializers.torch_depthwise(7))
        self.mix = Conv2D(channels, 1, **initializers.torch_default(channels))
        for layer in (self.local, self.wide, self.mix):
            layer.build((None, None, None, channels))
        self.built = True

    def call(self, x):
        return x * self.mix(self.wide(self.local(x)))


class QueryBlock(keras.layers.Layer):
    """ConvNeXt block with large-kernel attention, to which the embedding of the queried time is added.

    Args:
        channels: of input and output.
        hidden: width of the pointwise layers, 4 * channels as published.
        scale: initial value of the branch's factor per channel.
        time_size: of the embedding of the queried time.
    """

    def __init__(self, channels, hidden=None, scale=1e-6, time_size=64, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.hidden = hidden or 4 * channels
        self.scale = scale
        self.time_size = time_size
        self.time_head = keras.layers.Dense(channels, **initializers.torch_default(time_size))
        self.norm = LayerNormalization(epsilon=NORM_EPSILON)
        self.expand = keras.layers.Dense(self.hidden, **initializers.torch_default(channels))
        self.project = keras.layers.Dense(channels, **initializers.torch_default(self.hidden))

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma", shape=(self.channels,), initializer=keras.initializers.Constant(self.scale), dtype="float32"
        )
        self.build_mixer()
        self.time_head.build((None, self.time_size))
        for layer in (self.norm, self.expand):
            layer.build((None, None, None, self.channels))
        self.project.build((None, None, None, self.hidden))
        self.built = True

    def build_mixer(self):
        self.mixer = LargeKernelAttention()
        self.mixer.build((None, None, None, self.channels))

    def call(self, x, time):
        """[B, h, w, channels], and the embedding [B, time_size] -> [B, h, w, channels]."""
        return x + self.branch(self.mixer(x), time)

    def branch(self, mixed, time):
        mixed += self.time_head(exact_gelu(time))[:, None, None]
        mixed = self.project(exact_gelu(self.expand(self.norm(mixed))))
        return mixed * tf.cast(self.gamma, mixed.dtype)


class BottleBlock(QueryBlock):
    """The first block: observed frames and queue, [B, h, w, D_o] and [B, h, w, D_q] -> [B, h, w, D_o].

    A 7x7 convolution sees two channels for each output channel where D_o = D_q, that is a
    depthwise one whose neighbours are summed; else the depthwise one is followed by a 1x1 one.
    What the observed frames contribute is apart, so that it can be kept while the queue grows.

    Args:
        observed, queued: channels of both inputs.
        hidden, scale, time_size: as in `QueryBlock`.
    """

    def __init__(self, observed, queued, hidden=None, scale=1e-6, time_size=64, **kwargs):
        super().__init__(observed, hidden, scale, time_size, **kwargs)
        self.observed = observed
        self.queued = queued
        self.pairs = observed == queued

        def pointwise(use_bias):
            return Conv2D(observed, 1, use_bias=use_bias, **initializers.torch_default(observed + queued))

        self.depthwise = [
            DepthwiseConv2D(7, use_bias=False, **initializers.torch_depthwise(7, 2 if self.pairs else 1))
            for _ in range(2)
        ]
        self.residual = [pointwise(use_bias=True), pointwise(use_bias=False)]
        self.pointwise = None if self.pairs else [pointwise(use_bias=False) for _ in range(2)]

    def build_mixer(self):
        for part, channels in enumerate((self.observed, self.queued)):
            for layers in (self.depthwise, self.residual, self.pointwise or ()):
                if layers:
                    layers[part].build((None, None, None, channels))
        bias = initializers.torch_bias(2 * 7**2 if self.pairs else self.observed + self.queued)
        self.bias = self.add_weight(name="bias", shape=(self.observed,), initializer=bias, dtype="float32")

    def terms(self, x, part):
        """(convolved, residual) of the observed frames (part 0) or of the queue (part 1)."""
        mixed = self.depthwise[part](x)
        if self.pairs:
            batch, height, width, channels = sizes(mixed)
            if channels % 2:  # the pair in the middle has one channel of each part
                mixed = tf.pad(mixed, [[0, 0]] * 3 + [[1, 0] if part else [0, 1]])
            mixed = tf.reduce_sum(tf.reshape(mixed, [batch, height, width, -(-channels // 2), 2]), axis=-1)
        else:
            mixed = self.pointwise[part](mixed)
        return mixed, self.residual[part](x)

    def call(self, observed_terms, queue, time):
        mixed, residual = self.terms(queue, 1)
        observed, observed_residual = observed_terms
        # Where pairs are summed, the first half of the channels sees the observed frames alone, the rest the queue.
        if self.pairs and self.observed % 2:
            middle = observed[..., -1:] + mixed[..., :1]
            mixed = tf.concat([observed[..., :-1], middle, mixed[..., 1:]], axis=-1)
        else:
            mixed = tf.concat([observed, mixed], axis=-1) if self.pairs else observed + mixed
        mixed += tf.cast(self.bias, mixed.dtype)
        return observed_residual + residual + self.branch(mixed, time)


class Refinement(keras.layers.Layer):
    """1x1 convolution, GELU, large-kernel attention, 1x1 convolution, and the input."""

    def build(self, input_shape):
        channels = input_shape[-1]
        self.into, self.out = (Conv2D(channels, 1, **initializers.torch_default(channels)) for _ in range(2))
        self.attention = LargeKernelAttention()
        for layer in (self.into, self.attention, self.out):
            layer.build((None, None, None, channels))
        self.built = True

    def call(self, x):
        return x + self.out(self.attention(exact_gelu(self.into(x))))
