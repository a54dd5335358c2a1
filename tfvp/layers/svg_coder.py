"""Encoders and decoders of SVG (Denton and Fergus 2018), in the manner of DCGAN and of VGG.

Those for 64 and 128 pixels are the published ones; those for 32 leave their deepest block out.
"""

import functools

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import recompute, split_conv
from tfvp.layers.convolution import Conv2D
from tfvp.layers.per_frame import per_frame
from tfvp.layers.timed_norm import TimedBatchNorm

# Channels of each block, in units of `width`.
ENCODERS = {
    ("dcgan", 32): ((1,), (2,), (4,)),
    ("dcgan", 64): ((1,), (2,), (4,), (8,)),
    ("dcgan", 128): ((1,), (2,), (4,), (8,), (8,)),
    ("vgg", 32): ((1, 1), (2, 2), (4, 4, 4)),
    ("vgg", 64): ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8)),
    ("vgg", 128): ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8)),
}
DECODERS = {
    ("dcgan", 32): ((2,), (1,)),
    ("dcgan", 64): ((4,), (2,), (1,)),
    ("dcgan", 128): ((8,), (4,), (2,), (1,)),
    ("vgg", 32): ((8, 8, 4), (4, 2), (1,)),
    ("vgg", 64): ((8, 8, 4), (4, 4, 2), (2, 1), (1,)),
    ("vgg", 128): ((8, 8, 8), (8, 8, 4), (4, 4, 2), (2, 1), (1,)),
}


def normal_weights():
    """N(0, 0.02^2), the initialisation of all convolutions and dense layers."""
    return keras.initializers.RandomNormal(0.0, 0.02)


def leaky_relu(x):
    return tf.nn.leaky_relu(x, 0.2)


class ConvBlock(keras.layers.Layer):
    """Convolution with a bias, batch norm per time step, activation, on [B, T, h, w, c].

    Args:
        filters, kernel, strides, padding: of the convolution.
        activation: a function.
        transpose: a transposed convolution instead.
        norm: whether batch norm follows.
    """

    def __init__(
        self, filters, kernel, strides=1, padding="same", activation=leaky_relu, transpose=False, norm=True, **kwargs
    ):
        super().__init__(**kwargs)
        kind = keras.layers.Conv2DTranspose if transpose else Conv2D
        self.conv = kind(filters, kernel, strides=strides, padding=padding, kernel_initializer=normal_weights())
        self.norm = TimedBatchNorm() if norm else None
        self.activation, self.filters = activation, filters

    def build(self, input_shape):
        self.conv.build((None, None, None, input_shape[-1]))
        if self.norm is not None:
            self.norm.build((None, None, None, None, self.filters))
        self.built = True

    def skip_term(self, maps):
        """What the convolution makes of its last input channels: [B, T, h, w, c] -> [B, T, h', w', filters]."""
        return per_frame(lambda frames: split_conv.of_last(self.conv, frames), maps)

    def call(self, inputs, mode, skip_term=None):
        """`skip_term`: from `skip_term`, of the channels that `inputs` lacks then."""
        if skip_term is None:
            x = per_frame(self.conv, inputs)
        else:
            x = per_frame(lambda frames: split_conv.of_first(self.conv, frames), inputs) + skip_term
        if self.norm is None:
            x = tf.cast(x, tf.float32)
        else:
            x = self.norm(x, mode=mode)
        return self.activation(x)


class FrameEncoder(keras.layers.Layer):
    """[B, T, H, W, C] -> a code [B, T, code_size] in (-1, 1), float32, and the feature maps of every block.

    Args:
        kind: "dcgan" or "vgg".
        side: 32, 64 or 128 pixels.
        code_size: of the vector; 128 as published.
        width: channels of the first block; 64 as published.
    """

    def __init__(self, kind, side, code_size=128, width=64, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.code_size = kind, code_size
        size, strides = (4, 2) if kind == "dcgan" else (3, 1)
        self.sizes = [len(block) for block in ENCODERS[kind, side]]
        # One flat list: weights in lists of lists are not saved.
        self.convs = [ConvBlock(width * n, size, strides) for block in ENCODERS[kind, side] for n in block]
        self.last = ConvBlock(code_size, 4, padding="valid", activation=tf.tanh)

    def build(self, input_shape):
        channels = input_shape[-1]
        for layer in [*self.convs, self.last]:
            layer.build((None, None, None, None, channels))
            channels = layer.filters
        self.built = True

    @property
    def blocks(self):
        """The layers of each block, in order."""
        return grouped(self.convs, self.sizes)

    def call(self, video, mode):
        """(codes, skips): see the class; `mode` as in `TimedBatchNorm`."""
        x, skips = video, []
        for number, block in enumerate(self.blocks):
            x = recompute.block(functools.partial(self._run, number > 0, block, mode), x)
            skips.append(x)
        x = self.last(_pooled(x) if self.kind == "vgg" else x, mode=mode)
        return tf.cast(x[:, :, 0, 0], tf.float32), skips

    def _run(self, pooled, block, mode, x):
        x = _pooled(x) if pooled and self.kind == "vgg" else x
        for layer in block:
            x = layer(x, mode=mode)
        return x


class FrameDecoder(keras.layers.Layer):
    """Vectors [B, T, code_size] and an encoder's feature maps -> frames [B, T, H, W, channels] in (0, 1), float32.

    The first convolution of every block gets feature maps beside the block before it. What it
    makes of them is apart, so that it is computed once for feature maps that serve many frames.

    Args:
        kind, side, code_size, width: as in `FrameEncoder`.
        channels: of a frame.
    """

    def __init__(self, kind, side, channels, code_size=128, width=64, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.code_size = kind, code_size
        self.skip_channels = [width * block[-1] for block in ENCODERS[kind, side]][::-1]
        size, strides = (4, 2) if kind == "dcgan" else (3, 1)
        transpose = kind == "dcgan"
        self.first = ConvBlock(8 * width, 4, padding="valid", transpose=True)
        self.sizes = [len(block) for block in DECODERS[kind, side]]
        self.convs = [
            ConvBlock(width * n, size, strides, transpose=transpose) for block in DECODERS[kind, side] for n in block
        ]
        self.convs.append(ConvBlock(channels, size, strides, transpose=True, norm=False, activation=tf.sigmoid))
        if kind == "dcgan":
            self.sizes.append(1)  # the output is a block of its own
        else:
            self.sizes[-1] += 1

    def build(self, input_shape):
        self.first.build((None, None, None, None, self.code_size))
        channels = self.first.filters
        for block, skip in zip(self.blocks, self.skip_channels):
            channels += skip
            for layer in block:
                layer.build((None, None, None, None, channels))
                channels = layer.filters
        self.built = True

    @property
    def blocks(self):
        """The layers of each block, in order."""
        return grouped(self.convs, self.sizes)

    def skip_terms(self, skips):
        """What the decoder makes of an encoder's feature maps, a list of [B, T, h, w, c] in the same order."""
        return [block[0].skip_term(maps) for block, maps in zip(self.blocks, skips[::-1])][::-1]

    def call(self, vectors, skip_terms, mode):
        """`skip_terms`: from `skip_terms`, [B, T, h, w, c] each; `mode` as in `TimedBatchNorm`."""
        x = self.first(vectors[:, :, None, None], mode=mode)
        for block, skip_term in zip(self.blocks, skip_terms[::-1]):
            x = recompute.block(functools.partial(self._run, block, mode), x, skip_term)
        return tf.cast(x, tf.float32)

    def _run(self, block, mode, x, skip_term):
        if self.kind == "vgg":
            x = tf.repeat(tf.repeat(x, 2, axis=2), 2, axis=3)
        x = block[0](x, mode=mode, skip_term=skip_term)
        for layer in block[1:]:
            x = layer(x, mode=mode)
        return x


def grouped(layers, sizes):
    """A flat list cut into lists of the given sizes."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [layers[end - size : end] for end, size in zip(ends, sizes)]


def _pooled(x):
    return per_frame(lambda frames: tf.nn.max_pool2d(frames, 2, 2, "VALID"), x)
