"""The residual cell of HTSR: two 3x3 convolutions and squeeze-and-excitation."""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers.convolution import Conv2D

BRANCH_SCALE = 0.1


class ResidualCell(keras.layers.Layer):
    """F(x) = SE(swish(conv(swish(conv(x))))), joined to x.

    SE scales the channels by a sigmoid of a two-layer perceptron of their means.

    Args:
        filters: channels of x, kept throughout.
        mode: "nvae" for x + 0.1 F(x) (Vahdat and Kautz 2020), "legacy" for 0.1 x + F(x), as in
            HTSR's released code.
    """

    def __init__(self, filters, mode="nvae", **kwargs):
        super().__init__(**kwargs)
        self.mode = mode
        self.conv_a = Conv2D(filters, 3, padding="same", activation=tf.nn.swish)
        self.conv_b = Conv2D(filters, 3, padding="same", activation=tf.nn.swish)
        self.reduce = keras.layers.Dense(max(filters // 16, 4), activation="relu")
        self.expand = keras.layers.Dense(filters, activation="sigmoid")

    def build(self, input_shape):
        filters = input_shape[-1]
        self.conv_a.build((None, None, None, filters))
        self.conv_b.build((None, None, None, filters))
        self.reduce.build((None, filters))
        self.expand.build((None, self.reduce.units))
        self.built = True

    def call(self, x):
        branch = self.conv_b(self.conv_a(x))
        weights = self.expand(self.reduce(tf.reduce_mean(branch, axis=[1, 2])))
        branch = branch * weights[:, None, None]
        return x + BRANCH_SCALE * branch if self.mode == "nvae" else BRANCH_SCALE * x + branch
