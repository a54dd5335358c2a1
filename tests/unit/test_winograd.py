"""Convolutions by Winograd's algorithm, against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfvp import devices
from tfvp.layers import convolution, unroll, winograd
from tfvp.layers.convlstm import ConvLSTM
from tfvp.serving.signatures import ServedModel

SHAPES = [  # height, width, channels, filters, side
    (16, 16, 32, 48, 5),
    (9, 14, 64, 64, 3),  # tiles that reach beyond the map
    (4, 5, 33, 40, 5),
]


def gradients_of(function, images, kernel, upstream):
    with tf.GradientTape() as tape:
        tape.watch([images, kernel])
        outputs = function(images, kernel)
    return outputs, *tape.gradient(outputs, [images, kernel], upstream)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("height, width, channels, filters, side", SHAPES)
def test_outputs_and_gradients_are_those_of_conv2d(height, width, channels, filters, side, padding):
    if padding == "VALID":
        height, width = height + side - 1, width + side - 1
    random = np.random.default_rng(0)
    images = tf.constant(random.normal(size=(2, height, width, channels)), tf.float32)
    kernel = tf.constant(random.normal(size=(side, side, channels, filters)), tf.float32)
    expected = tf.nn.conv2d(tf.cast(images, tf.float64), tf.cast(kernel, tf.float64), 1, padding)
    upstream = tf.constant(random.normal(size=expected.shape), tf.float32)
    exact = gradients_of(
        lambda x, k: tf.nn.conv2d(x, k, 1, padding),
        *(tf.cast(t, tf.float64) for t in (images, kernel, upstream)),
    )
    ours = gradients_of(lambda x, k: winograd.conv2d(x, winograd.transformed(k), padding), images, kernel, upstream)
    for found, wanted in zip(ours, exact):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.std(wanted))


@pytest.mark.parametrize("side, tile", [(3, 6), (5, 8)])
def test_one_dimension_is_exact_in_float64(side, tile):
    out, kernel, images = winograd.matrices(side)
    random = np.random.default_rng(1)
    x, k = random.normal(size=tile), random.normal(size=side)
    found = out @ ((kernel @ k) * (images @ x))
    np.testing.assert_allclose(found, np.correlate(x, k, "valid"), rtol=0, atol=1e-11)


def test_a_batch_of_unknown_size():
    kernel = winograd.transformed(tf.ones([3, 3, 64, 64]) / (9 * 64))
    function = tf.function(
        lambda x: winograd.conv2d(x, kernel), input_signature=[tf.TensorSpec([None, 8, 8, 64], tf.float32)]
    )
    for batch in (1, 3):
        outputs = function(tf.ones([batch, 8, 8, 64]))
        assert outputs.shape == (batch, 8, 8, 64)
        np.testing.assert_allclose(outputs[:, 1:-1, 1:-1], 1.0, atol=1e-4)


def test_where_it_gains(monkeypatch):
    wide, narrow = (3, 3, 64, 128), (3, 3, 64, 8)
    monkeypatch.delenv("TFVP_WINOGRAD", raising=False)
    monkeypatch.setattr(devices, "avx512", lambda: False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert winograd.gains((16, 16), wide, tf.float32)
    assert not winograd.gains((16, 16), narrow, tf.float32)
    assert not winograd.gains((16, 16), (7, 7, 64, 64), tf.float32)
    assert not winograd.gains((16, 16), wide, tf.bfloat16)
    assert not winograd.gains((None, 16), wide, tf.float32)
    assert not winograd.gains((64, 64), wide, tf.float32)
    assert not winograd.gains((16, 16), (3, 3, 64, 64), tf.float32)
    with winograd.trained():
        assert winograd.gains((64, 64), wide, tf.float32)
        assert winograd.gains((16, 16), (3, 3, 64, 64), tf.float32)
    monkeypatch.setattr(devices, "avx512", lambda: True)
    assert not winograd.gains((16, 16), wide, tf.float32)
    with winograd.trained():
        assert winograd.gains((16, 16), wide, tf.float32)
        assert not winograd.gains((16, 16), (3, 3, 64, 64), tf.float32)
    monkeypatch.setattr(devices, "avx512", lambda: False)
    with winograd.direct():
        assert not winograd.gains((16, 16), wide, tf.float32)
    monkeypatch.setenv("TFVP_WINOGRAD", "0")
    assert not winograd.gains((16, 16), wide, tf.float32)
    monkeypatch.delenv("TFVP_WINOGRAD")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert not winograd.gains((16, 16), wide, tf.float32)


@pytest.fixture
def calls(monkeypatch):
    """Names of what was called of `winograd.conv2d` and `winograd.transformed`, as on a CPU."""
    made = []

    def noted(name, function):
        def call(*args):
            made.append(name)
            return function(*args)

        return call

    for name in ("conv2d", "transformed"):
        monkeypatch.setattr(winograd, name, noted(name, getattr(winograd, name)))
    monkeypatch.delenv("TFVP_WINOGRAD", raising=False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    return made


@pytest.mark.parametrize(
    "side, channels, filters, avx512, taken",
    [
        (1, 2048, 16, False, False),
        (1, 8, 16, True, False),
        (3, 64, 128, False, True),
        (3, 64, 128, True, False),
        (5, 32, 32, False, True),
        (3, 4, 4, False, False),
    ],
)
def test_the_layer_is_kerass(calls, monkeypatch, side, channels, filters, avx512, taken):
    monkeypatch.setattr(devices, "avx512", lambda: avx512)
    ours = convolution.Conv2D(filters, side, padding="same", activation="relu")
    theirs = keras.layers.Conv2D(filters, side, padding="same", activation="relu")
    for layer in (ours, theirs):
        layer.build((None, None, None, channels))
    ours.set_weights([ours.get_weights()[0], np.linspace(-1, 1, filters)])
    theirs.set_weights(ours.get_weights())
    x = tf.random.stateless_normal([2, 8, 8, channels], [0, 1])
    wanted = theirs(x)
    np.testing.assert_allclose(ours(x), wanted, rtol=0, atol=1e-4 * np.std(wanted))
    assert bool(calls) == taken

    @tf.function
    def looped(x):  # the kernel is made ready outside of the loop
        return unroll.generate(lambda state, t: (ours(state), state), x, 3, like=tf.TensorSpec(wanted.shape))[0]

    np.testing.assert_allclose(looped(x)[:, 2], wanted, rtol=0, atol=1e-4 * np.std(wanted))


def test_a_convlstm_and_its_gradients_are_the_same(calls, monkeypatch):
    monkeypatch.setattr(devices, "avx512", lambda: False)
    layer = ConvLSTM(32, 5)
    layer.build((None, 8, 8, 32))
    x = tf.random.stateless_normal([2, 3, 8, 8, 32], [0, 1])

    def both(x):
        with tf.GradientTape() as tape:
            outputs, _ = layer.sequence(x, layer.zero_state(2, 8, 8))
            loss = tf.reduce_mean(outputs**2)
        return outputs, *tape.gradient(loss, [layer.kernel, layer.recurrent_kernel])

    ours = tf.function(both, autograph=False)(x)
    assert calls.count("transformed") == 2  # once for each kernel, not for each frame
    monkeypatch.setenv("TFVP_WINOGRAD", "0")
    calls.clear()
    for found, wanted in zip(ours, tf.function(both, autograph=False)(x)):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.std(wanted))
    assert not calls


def test_exports_have_ordinary_convolutions(calls, monkeypatch):
    kernel = tf.ones([5, 5, 32, 32])
    spec = {"images": tf.TensorSpec([1, 8, 8, 32])}
    functions = {"serving_default": (lambda images: convolution.same(images, kernel), spec)}
    monkeypatch.setattr(devices, "avx512", lambda: False)
    monkeypatch.setattr(ServedModel, "functions", lambda self: functions)
    ServedModel.__new__(ServedModel).signatures()
    assert not calls
    convolution.same(tf.ones([1, 8, 8, 32]), kernel)
    assert calls
