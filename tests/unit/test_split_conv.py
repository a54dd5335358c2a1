"""A convolution taken apart is the convolution of the whole."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfvp.layers import split_conv


@pytest.mark.parametrize("kind", [keras.layers.Conv2D, keras.layers.Conv2DTranspose])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (4, 2)])
def test_parts_sum_to_the_whole(kind, size, stride):
    layer = kind(6, size, strides=stride, padding="same", bias_initializer="ones")
    layer.build((None, None, None, 5))
    random = np.random.default_rng(0)
    x, kept = (tf.constant(random.normal(size=(2, 8, 12, n)).astype(np.float32)) for n in (2, 3))
    whole = layer(tf.concat([x, kept], axis=-1))
    parts = split_conv.of_first(layer, x) + split_conv.of_last(layer, kept)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert parts.shape == whole.shape


def test_sizes_are_known_while_tracing():
    layer = keras.layers.Conv2DTranspose(6, 4, strides=2, padding="same")
    layer.build((None, None, None, 5))
    traced = tf.function(lambda x: split_conv.of_last(layer, x))
    found = traced.get_concrete_function(tf.TensorSpec([None, 8, 12, 5], tf.bfloat16))
    assert found.structured_outputs.shape.as_list() == [None, 16, 24, 6]
    assert found.structured_outputs.dtype == tf.bfloat16
