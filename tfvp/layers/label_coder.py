"""Encoders and decoders of label maps, after the structure generator of Lee et al. (ICLR 2021)."""

import functools

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import recompute, split_conv
from tfvp.layers.convolution import Conv2D
from tfvp.layers.per_frame import per_frame
from tfvp.layers.svg_coder import grouped, normal_weights

# Outputs of the convolutions of each block in units of `width`; pooling lies between the blocks.
ENCODERS = {
    "64": ((1, 1), (2, 2), (4, 4, 4)),
    "128": ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8)),
    "256": ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8)),
    "128x256": ((1, 1), (2, 2), (4, 4, 4), (4, 4, 4), (4, 4, 4)),
}
# Without the last convolution, to the classes.
DECODERS = {
    "64": ((4, 4, 2), (2, 1), (1,)),
    "128": ((8, 8, 4), (4, 4, 2), (2, 1), (1,)),
    "256": ((8, 8, 8), (8, 8, 4), (4, 4, 2), (2, 1), (1,)),
    "128x256": ((4, 4, 4), (4, 4, 4), (4, 4, 2), (2, 1), (1,)),
}
POOLED_AT_THE_END = {"64": True, "128": True, "256": True, "128x256": False}


def reduction(kind):
    """Pixels per side of an entry of the code."""
    return 2 ** (len(ENCODERS[kind]) - (not POOLED_AT_THE_END[kind]))


# Without normalization, N(0, 0.02^2) passes a signal on only through hundreds of channels.
INITIALIZERS = {"normal": normal_weights, "he": keras.initializers.HeNormal}


def conv3x3(filters, initializer, **kwargs):
    """A 3x3 convolution that begins as `INITIALIZERS` says."""
    return Conv2D(filters, 3, padding="same", kernel_initializer=INITIALIZERS[initializer](), **kwargs)


class LabelEncoder(keras.layers.Layer):
    """One-hot label maps [B, T, H, W, K] -> codes [B, T, h, w, code_size] and the feature maps of every block.

    Args:
        kind: "64", "128", "256" or "128x256".
        code_size: channels of the code; 128 as published.
        width: channels of the first block; 64 as published.
        initializer: "normal" as published, or "he".
    """

    def __init__(self, kind, code_size=128, width=64, initializer="normal", **kwargs):
        super().__init__(**kwargs)
        self.pool_at_the_end = POOLED_AT_THE_END[kind]
        self.sizes = [len(block) for block in ENCODERS[kind]]
        self.convs = [conv3x3(width * n, initializer, activation="relu") for block in ENCODERS[kind] for n in block]
        self.last = conv3x3(code_size, initializer, activation="relu")

    def build(self, input_shape):
        channels = input_shape[-1]
        for layer in [*self.convs, self.last]:
            layer.build((None, None, None, channels))
            channels = layer.filters
        self.built = True

    def call(self, one_hot):
        """(codes float32, the feature maps of every block before it is pooled, finest first)."""
        x, skips = one_hot, []
        for block in grouped(self.convs, self.sizes):
            x = recompute.block(functools.partial(_encoded, block, bool(skips)), x)
            skips.append(x)
        x = per_frame(self.last, _pooled(x) if self.pool_at_the_end else x)
        return tf.cast(x, tf.float32), skips


class LabelDecoder(keras.layers.Layer):
    """Codes and an encoder's feature maps -> logits [B, T, H, W, classes], float32.

    The terms that the first convolution of each block adds for its feature maps are computed apart, as in SVG's
    decoder: frames that share feature maps share them.

    Args:
        kind, code_size, width, initializer: as in `LabelEncoder`.
        classes: K.
    """

    def __init__(self, kind, classes, code_size=128, width=64, initializer="normal", **kwargs):
        super().__init__(**kwargs)
        self.code_size, self.grow_first = code_size, POOLED_AT_THE_END[kind]
        self.skip_channels = [width * block[-1] for block in ENCODERS[kind]][::-1]
        self.sizes = [len(block) for block in DECODERS[kind]]
        self.convs = [conv3x3(width * n, initializer, activation="relu") for block in DECODERS[kind] for n in block]
        self.last = conv3x3(classes, initializer, dtype="float32")

    def build(self, input_shape):
        channels = self.code_size
        for block, skip in zip(self.blocks, self.skip_channels):
            channels += skip
            for layer in block:
                layer.build((None, None, None, channels))
                channels = layer.filters
        self.last.build((None, None, None, channels))
        self.built = True

    @property
    def blocks(self):
        """The layers of each block, in order."""
        return grouped(self.convs, self.sizes)

    def skip_terms(self, skips):
        """The terms of an encoder's feature maps, a list of [B, T, h, w, c] in the same order."""

        def term(layer, features):
            return per_frame(lambda frames: split_conv.of_last(layer, frames), features)

        return [term(block[0], features) for block, features in zip(self.blocks, skips[::-1])][::-1]

    def call(self, codes, skip_terms):
        """`skip_terms`: from `skip_terms`, [B, T, h, w, c] each."""
        x = codes
        for n, (block, skip_term) in enumerate(zip(self.blocks, skip_terms[::-1])):
            grown = n > 0 or self.grow_first
            x = recompute.block(functools.partial(_decoded, block, grown), tf.cast(x, skip_term.dtype), skip_term)
        return tf.cast(per_frame(self.last, x), tf.float32)


def _encoded(block, pooled, x):
    x = _pooled(x) if pooled else x
    for layer in block:
        x = per_frame(layer, x)
    return x


def _decoded(block, grown, x, skip_term):
    first = block[0]
    if grown:
        x = tf.repeat(tf.repeat(x, 2, axis=2), 2, axis=3)
    x = first.activation(per_frame(lambda frames: split_conv.of_first(first, frames), x) + skip_term)
    for layer in block[1:]:
        x = per_frame(layer, x)
    return x


def _pooled(x):
    return per_frame(lambda frames: tf.nn.max_pool2d(frames, 2, 2, "VALID"), x)
