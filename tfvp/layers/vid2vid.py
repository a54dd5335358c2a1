"""Generator and discriminators of vid2vid (Wang et al. 2018, arXiv 1808.06601), as Lee et al. (ICLR 2021) use them.

The published networks run on one sequence at a time with batch norm that is never switched to
running statistics. The statistics here are therefore those of one example (all its frames, in a
discriminator), which is the same with one sequence, and keeps examples apart with several.
"""

import tensorflow as tf
from tensorflow import keras

from tfvp import compat
from tfvp.layers import initializers, unroll, winograd
from tfvp.layers.per_frame import per_frame

EPSILON = 1e-5
DOWNSAMPLINGS = 2


class Conv(keras.layers.Layer):
    """Padding, convolution with a bias, norm, activation, on frames [B, h, w, c] or videos [B, n, h, w, c].

    The norm is batch norm with the statistics of each example, over its frames, rows and columns.

    Args:
        filters, kernel_size, strides: of the convolution.
        pad: pixels added on every side.
        kind: of the padding, "reflect" or "constant".
        norm: whether the norm follows.
        activation: a function, or None.
        transpose: PyTorch's transposed convolution of kernel 3, stride 2, padding 1 and output
            padding 1, which doubles the size.
    """

    def __init__(
        self, filters, kernel_size, strides=1, pad=0, kind="reflect", norm=True, activation=None, transpose=False, **kw
    ):
        super().__init__(**kw)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.pad, self.kind = pad, kind
        self.norm = norm
        self.activation = activation
        self.transpose = transpose

    def build(self, input_shape):
        channels, side = input_shape[-1], self.kernel_size
        ends = (self.filters, channels) if self.transpose else (channels, self.filters)
        self.kernel = self.add_weight(
            name="kernel", shape=(side, side, *ends), initializer=keras.initializers.RandomNormal(0.0, 0.02)
        )
        # PyTorch takes the fan-in of a transposed kernel from its output channels.
        bias = initializers.torch_bias(side**2 * ends[0])
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer=bias)
        if self.norm:
            near_one = keras.initializers.RandomNormal(1.0, 0.02)
            self.gamma = self.add_weight(name="gamma", shape=(self.filters,), initializer=near_one)
            self.beta = self.add_weight(name="beta", shape=(self.filters,), initializer="zeros")
        self.built = True

    def call(self, inputs):
        x = tf.cast(inputs, self.compute_dtype)
        x = per_frame(self._convolve, x) if x.shape.rank == 5 else self._convolve(x)
        if self.norm:
            x = tf.cast(self._normalised(tf.cast(x, tf.float32)), x.dtype)
        return x if self.activation is None else self.activation(x)

    def _convolve(self, x):
        if self.pad:
            x = tf.pad(x, [[0, 0], [self.pad] * 2, [self.pad] * 2, [0, 0]], self.kind.upper())
        if self.strides == 1 and not self.transpose and winograd.gains(x.shape[1:3], self.kernel.shape, x.dtype):
            tiles = unroll.once((id(self), "winograd"), lambda: winograd.transformed(self.kernel))
            return winograd.conv2d(x, tiles, "VALID") + tf.convert_to_tensor(self.bias)
        kernel, bias = (tf.cast(tf.convert_to_tensor(w), x.dtype) for w in (self.kernel, self.bias))
        if not self.transpose:
            return tf.nn.conv2d(x, kernel, self.strides, "VALID") + bias
        height, width = x.shape[1:3]
        size = [tf.shape(x)[0], 2 * height + 1, 2 * width + 1, self.filters]
        return (tf.nn.conv2d_transpose(x, kernel, size, 2, "VALID") + bias)[:, 1:, 1:]

    def _normalised(self, x):
        gamma, beta = (tf.cast(tf.convert_to_tensor(w), tf.float32) for w in (self.gamma, self.beta))
        mean, variance = tf.nn.moments(x, list(range(1, x.shape.rank - 1)), keepdims=True)
        return (x - mean) * (gamma * tf.math.rsqrt(variance + EPSILON)) + beta


class ResBlock(keras.layers.Layer):
    """x + norm(conv(relu(norm(conv(x))))), kernels of 3, reflected borders."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.first = Conv(filters, 3, pad=1, activation=tf.nn.relu)
        self.second = Conv(filters, 3, pad=1)
        self.filters = filters

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build((None, None, None, self.filters))
        self.built = True

    def call(self, inputs):
        return inputs + self.second(self.first(inputs))


class Stack(keras.layers.Layer):
    """Layers one after the other."""

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.parts = list(layers)

    def build(self, input_shape):
        channels = input_shape[-1]
        for layer in self.parts:
            layer.build((None, None, None, channels))
            channels = layer.filters
        self.filters = channels
        self.built = True

    def call(self, inputs):
        x = inputs
        for layer in self.parts:
            x = layer(x)
        return x


def _down(width, blocks):
    """Two halvings, then residual blocks."""
    convs = [Conv(width, 7, pad=3, activation=tf.nn.relu)]
    for n in range(1, DOWNSAMPLINGS + 1):
        convs.append(Conv(width * 2**n, 3, 2, pad=1, kind="constant", activation=tf.nn.relu))
    return Stack([*convs, *(ResBlock(width * 2**DOWNSAMPLINGS) for _ in range(blocks))])


def _up(width, blocks):
    """Residual blocks, then two doublings."""
    size = width * 2**DOWNSAMPLINGS
    ups = [Conv(size // 2 ** (n + 1), 3, 2, transpose=True, activation=tf.nn.relu) for n in range(DOWNSAMPLINGS)]
    return Stack([*(ResBlock(size) for _ in range(blocks)), *ups])


def _head(filters, activation):
    return Conv(filters, 7, pad=3, norm=False, activation=activation, dtype="float32")


class FrameGenerator(keras.layers.Layer):
    """The composite generator: an image h~, the previous one warped by a flow w~, and a weight m between them.

    `tfvp.models.vid2vid` has the equation and says what the symbols mean.

    Args:
        width: channels of the first convolutions; 128 as published.
        blocks: residual blocks; 9 as published. Label and image branch have half of them,
            rounded up, the heads the others each, the foreground branch all.
        foreground: whether there is a branch for foreground classes.
        flow_scale: pixels per unit of the flow head; 20 as published.
    """

    def __init__(self, width=128, blocks=9, foreground=False, flow_scale=20.0, **kwargs):
        super().__init__(autocast=False, **kwargs)  # the previous frame is warped in float32
        before = blocks - blocks // 2
        self.foreground = Stack([_down(width, blocks), _up(width, 0), _head(3, tf.tanh)]) if foreground else None
        self.from_labels, self.from_frames = _down(width, before), _down(width, before)
        self.image = Stack([_up(width, blocks // 2), _head(3, tf.tanh)])
        self.motion = _up(width, blocks // 2)
        self.flow, self.weight = _head(2, None), _head(1, tf.sigmoid)
        self.width, self.flow_scale = width, flow_scale

    def build(self, input_shape):
        """`input_shape`: channels of (the stack of labels, the stack of previous frames)."""
        labels, frames = ((None, None, None, channels) for channels in input_shape)
        if self.foreground is not None:
            self.foreground.build(labels)
        self.from_labels.build(labels)
        self.from_frames.build(frames)
        for layer in (self.image, self.motion):
            layer.build((None, None, None, self.width * 2**DOWNSAMPLINGS))
        for layer in (self.flow, self.weight):
            layer.build((None, None, None, self.width))
        self.built = True

    def call(self, labels, previous, mask=None):
        """One frame.

        Args:
            labels: one-hot classes of the last frames and of this one, oldest first, in channels.
            previous: the last frames in [-1, 1], oldest first, in channels: [B, H, W, 3 n].
            mask: [B, H, W, 1], 1 where this frame's classes are in the foreground.

        Returns:
            {"final", "raw" [B, H, W, 3] in [-1, 1], "flow" [B, H, W, 2] in pixels (x, y), to the
            place in the previous frame, "weight" [B, H, W, 1] of the raw image, "warped"}.
        """
        coded = self.from_labels(labels) + self.from_frames(previous)
        raw, motion = self.image(coded), self.motion(coded)
        flow, weight = self.flow_scale * self.flow(motion), self.weight(motion)
        warped = compat.warp(tf.cast(previous[..., -3:], tf.float32), flow)
        final = weight * raw + (1.0 - weight) * warped
        if self.foreground is not None:
            foreground, mask = self.foreground(labels), tf.cast(mask, tf.float32)
            final, raw = (mask * foreground + (1.0 - mask) * x for x in (final, raw))
        return {"final": final, "raw": raw, "flow": flow, "weight": weight, "warped": warped}


class PatchDiscriminator(keras.layers.Layer):
    """PatchGAN on frames or videos; with several scales, each sees the input at half the size of the one before.

    Args:
        width: channels of the first convolution at the coarsest scale; 64 as published.
        layers: strided convolutions; 3 as published.
        scales: how many discriminators; 1 as published.
    """

    def __init__(self, width=64, layers=3, scales=1, **kwargs):
        super().__init__(**kwargs)
        self.layers, self.scales = layers, scales
        self.convs = []  # coarsest scale first, as the references order it
        for scale in range(scales):
            first = min(max(64, width), width * 2 ** (scales - 1 - scale))
            for n in range(layers + 1):
                filters = min(512, first * 2**n)
                self.convs.append(self._conv(filters, 1 if n == layers else 2, norm=n > 0))
            self.convs.append(self._conv(1, 1, norm=False, activation=None))

    def _conv(self, filters, strides, norm, activation=lambda x: tf.nn.leaky_relu(x, 0.2)):
        dtype = {} if activation else {"dtype": "float32"}
        return Conv(filters, 4, strides, pad=2, kind="constant", norm=norm, activation=activation, **dtype)

    def build(self, input_shape):
        for n, layer in enumerate(self.convs):
            first = n % (self.layers + 2) == 0
            layer.build((None, None, None, input_shape[-1] if first else self.convs[n - 1].filters))
        self.built = True

    def call(self, inputs):
        """A list per scale, finest first, of the outputs of all convolutions; the last is the logits."""
        outputs, x = [], inputs
        for scale in range(self.scales):
            if scale:
                x = per_frame(_halved, x) if x.shape.rank == 5 else _halved(x)
            start = (self.scales - 1 - scale) * (self.layers + 2)
            features = [x]
            for layer in self.convs[start : start + self.layers + 2]:
                features.append(layer(features[-1]))
            outputs.append(features[1:])
        return outputs


def _halved(x):
    """The mean over 3x3 pixels around every second one; pixels beyond the border do not count."""

    def mean(values):
        return tf.nn.avg_pool2d(tf.pad(values, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")

    return mean(x) / mean(tf.ones_like(x[:1, :, :, :1]))
