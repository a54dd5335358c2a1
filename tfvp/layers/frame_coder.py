"""Frames to features and states to frames, for the clockwork VAE family.

`ConvEncoder` and `ConvDecoder` are those of CW-VAE, for 64x64 pixels; `LadderEncoder` and
`LadderDecoder` are those of HTSR-S, whose decoder draws a hierarchy of spatial latents.
"""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import latent, recompute
from tfvp.layers.convolution import Conv2D
from tfvp.layers.residual import ResidualCell

LADDER = ((4, 256, 8), (8, 128, 4), (16, 64, 2))  # (grid at 64x64 pixels, channels, latents per cell)


def leaky_relu(x):
    """Leaky ReLU with TensorFlow's slope of 0.2."""
    return tf.nn.leaky_relu(x, 0.2)


def dark(activation):
    """Initialises the output's bias so that frames begin near black.

    The references' tanh does so by itself. A sigmoid begins at grey, from where training drives
    it past black into saturation, and stays there: measured on Moving MNIST, the loss remained
    that of a blank prediction for 1,200 steps.
    """
    return keras.initializers.Constant(-3.0 if activation == "sigmoid" else 0.0)


class ConvEncoder(keras.layers.Layer):
    """[N, 64, 64, C] -> [N, 1024 mult]: four valid 4x4 convolutions of stride 2.

    Args:
        width: channels of the first convolution, 32 as published; doubled by each further one.
        cells: "none", or the mode of a residual cell after the first convolution.
    """

    def __init__(self, width=32, cells="none", **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.convs = [Conv2D(width * 2**i, 4, strides=2, padding="valid", activation=leaky_relu) for i in range(4)]
        self.cell = ResidualCell(width, cells) if cells != "none" else None
        self.features = 2 * 2 * 8 * width

    def build(self, input_shape):
        channels = input_shape[-1]
        for conv in self.convs:
            conv.build((None, None, None, channels))
            channels = conv.filters
        if self.cell is not None:
            self.cell.build((None, None, None, self.width))
        self.built = True

    def call(self, frames):
        for layer in _followed(self.convs, 0, self.cell):
            frames = recompute.block(layer, frames)
        return tf.reshape(frames, [-1, self.features])


class ConvDecoder(keras.layers.Layer):
    """[N, S] -> [N, 64, 64, C] float32: dense, then four valid transposed convolutions of stride 2.

    Args:
        channels: C.
        width: channels before the last convolution, 32 as published.
        cells: "none", or the mode of a residual cell before the last convolution.
        activation: of the output, "sigmoid" or "tanh".
    """

    def __init__(self, channels, width=32, cells="none", activation="sigmoid", **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.dense = keras.layers.Dense(32 * width)
        self.convs = [
            keras.layers.Conv2DTranspose(filters, side, strides=2, padding="valid", activation=leaky_relu)
            for filters, side in ((4 * width, 5), (2 * width, 5), (width, 6))
        ]
        self.cell = ResidualCell(width, cells) if cells != "none" else None
        self.output_conv = keras.layers.Conv2DTranspose(
            channels,
            6,
            strides=2,
            padding="valid",
            activation=activation,
            bias_initializer=dark(activation),
            dtype="float32",
        )

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1]))
        channels = 32 * self.width
        for conv in self.convs:
            conv.build((None, None, None, channels))
            channels = conv.filters
        if self.cell is not None:
            self.cell.build((None, None, None, self.width))
        self.output_conv.build((None, None, None, self.width))
        self.built = True

    def call(self, states):
        x = tf.reshape(self.dense(states), [-1, 1, 1, 32 * self.width])
        for layer in _followed(self.convs, len(self.convs) - 1, self.cell):
            x = recompute.block(layer, x)
        return self.output_conv(x)


class LadderEncoder(keras.layers.Layer):
    """[N, H, W, C] -> ([N, 1024], {grid: features}): `same` convolutions, for sizes that 16 divides.

    Args:
        width: channels of the first convolution, 32 at full size.
        cells: "none", or the mode of the residual cell after the first convolution.
    """

    def __init__(self, width=32, cells="nvae", **kwargs):
        super().__init__(**kwargs)
        self.width, self.features = width, 32 * width
        self.convs = [Conv2D(width * 2**i, 4, strides=2, padding="same", activation=leaky_relu) for i in range(4)]
        self.cell = ResidualCell(width, cells) if cells != "none" else None
        self.dense = keras.layers.Dense(self.features)

    def build(self, input_shape):
        _, height, width, channels = input_shape
        for conv in self.convs:
            conv.build((None, None, None, channels))
            channels = conv.filters
        if self.cell is not None:
            self.cell.build((None, None, None, self.width))
        self.flat = height // 16 * (width // 16) * channels
        self.dense.build((None, self.flat))
        self.built = True

    def call(self, frames):
        x, feature_maps = frames, []
        for layer in _followed(self.convs, 0, self.cell):
            x = recompute.block(layer, x)
            feature_maps.append(x)
        feature_maps = feature_maps[-3:]
        return self.dense(tf.reshape(x, [-1, self.flat])), feature_maps[::-1]


class LadderDecoder(keras.layers.Layer):
    """States to frames through up to three groups of spatial latents, coarse to fine (HTSR-S).

    A group g with feature map d: prior p = N(mean, exp(log stddev)^2) from a 3x3 convolution of swish(d);
    posterior in residual form (see `TemporalCell`, "nvae") from d and the encoder's features of
    that grid; d + conv1x1(z), a residual cell, twice the size. Prior and posterior heads start
    at zero, so the posterior starts as the prior, which starts as N(0, 1).

    Args:
        image_shape: (height, width, channels), both sides multiples of 16.
        groups: groups of latents, coarsest first: 0 to 3.
        width: channels before the last convolution, 32 at full size.
        cells: "none", or the mode of the residual cells before each doubling of the size.
        activation: of the output, "sigmoid" or "tanh".
    """

    def __init__(self, image_shape, groups=3, width=32, cells="nvae", activation="sigmoid", **kwargs):
        super().__init__(autocast=False, **kwargs)  # the noise keeps its precision
        height, columns, channels = image_shape
        self.grid = (height // 16, columns // 16)
        self.groups, self.width = groups, width
        self.shapes = [(self.grid[0] * 2**g, self.grid[1] * 2**g, LADDER[g][2]) for g in range(groups)]
        self.filters = [entry[1] * width // 32 for entry in LADDER]
        self.dense = keras.layers.Dense(self.grid[0] * self.grid[1] * self.filters[0])
        zero = {"kernel_initializer": "zeros", "dtype": "float32"}
        self.priors, self.mixers, self.posteriors, self.injectors = [], [], [], []
        for g in range(groups):
            self.priors.append(Conv2D(2 * LADDER[g][2], 3, padding="same", **zero))
            self.mixers.append(Conv2D(self.filters[g], 3, padding="same", activation=tf.nn.swish))
            self.posteriors.append(Conv2D(2 * LADDER[g][2], 1, **zero))
            self.injectors.append(Conv2D(self.filters[g], 1))
        sizes = (*self.filters, width) if cells != "none" else ()
        self.cells = [ResidualCell(filters, cells) for filters in sizes]
        self.growers = [
            Conv2D(filters, 3, padding="same", activation=tf.nn.swish) for filters in (*self.filters[1:], width)
        ]
        self.output_conv = Conv2D(
            channels, 3, padding="same", activation=activation, bias_initializer=dark(activation), dtype="float32"
        )

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1]))
        for g in range(self.groups):
            shape = (None, None, None, self.filters[g])
            self.priors[g].build(shape)
            self.mixers[g].build((None, None, None, 2 * self.filters[g]))
            self.posteriors[g].build(shape)
            self.injectors[g].build((None, None, None, LADDER[g][2]))
        for cell, filters in zip(self.cells, (*self.filters, self.width)):
            cell.build((None, None, None, filters))
        for grower, filters in zip(self.growers, self.filters):
            grower.build((None, None, None, filters))
        self.output_conv.build((None, None, None, self.width))
        self.built = True

    def call(self, states, noise, features=None, temperature=1.0):
        """Decodes states.

        Args:
            states: [N, S].
            noise: list of N(0, 1) draws [N, h, w, Z], one per group; see `shapes`. None for the
                means in the place of samples.
            features: the encoder's feature maps, coarse to fine, to draw from the posterior; None to
                draw from the prior.
            temperature: factor of the prior's standard deviation in sampling.

        Returns:
            (frames [N, H, W, C] float32, list of KL(q || p) [N] per group, in nats).
        """
        d = tf.reshape(self.dense(states), [-1, *self.grid, self.filters[0]])
        cells = self.cells or [tf.identity] * (len(self.filters) + 1)
        divergences = []
        for g in range(len(self.filters)):
            if g < self.groups:
                mean, log_stddev = tf.split(self.priors[g](tf.nn.swish(d)), 2, axis=-1)
                stddev = tf.exp(latent.soft_clamp(log_stddev))
                if features is None:
                    stddev_z = temperature * stddev
                else:
                    mixed = self.mixers[g](tf.concat([d, features[g]], axis=-1))
                    shift, log_ratio = tf.split(self.posteriors[g](mixed), 2, axis=-1)
                    stddev_z = stddev * tf.exp(latent.soft_clamp(log_ratio))
                    divergences.append(tf.reduce_sum(latent.kl_diagonal(mean + shift, stddev_z, mean, stddev), [1, 2]))
                    mean = mean + shift
                d = d + self.injectors[g](mean if noise is None else mean + stddev_z * noise[g])
            d = recompute.block(lambda d, g=g: self.growers[g](_double(cells[g](d))), d)
        return recompute.block(lambda d: self.output_conv(_double(cells[-1](d))), d), divergences


def _followed(convs, place, cell):
    """The layers `convs`, with `cell`, if there is one, after that at `place`."""
    return convs if cell is None else [*convs[: place + 1], cell, *convs[place + 1 :]]


def _double(x):
    """Nearest-neighbour upsampling by two."""
    return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
