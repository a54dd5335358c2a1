"""Depthwise convolutions: the values and the gradients of TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from tfvp.layers import depthwise


@pytest.mark.parametrize("batch, height, width, side, rate", [(3, 6, 9, 5, 1), (2, 8, 7, 7, 3), (1, 4, 4, 5, 2)])
def test_values_and_gradients_are_those_of_tensorflow(batch, height, width, side, rate):
    rng = np.random.default_rng(side)
    inputs = tf.constant(rng.normal(size=(batch, height, width, 4)), tf.float32)
    kernel = tf.constant(rng.normal(size=(side, side, 4, 1)), tf.float32)
    weights = tf.constant(rng.normal(size=inputs.shape), tf.float32)

    def results(function):
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel])
            outputs = function(inputs, kernel)
            total = tf.reduce_sum(weights * outputs)
        return [outputs, *tape.gradient(total, [inputs, kernel])]

    def reference(inputs, kernel):
        return tf.nn.depthwise_conv2d(inputs, kernel, [1, 1, 1, 1], "SAME", dilations=[rate, rate])

    ours = tf.function(lambda: results(lambda *arguments: depthwise.convolved(*arguments, rate)))()
    for own, expected in zip(ours, results(reference)):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side, rate", [(3, 1), (5, 1), (7, 3)])
def test_the_layer_is_that_of_keras(side, rate):
    layer = depthwise.DepthwiseConv2D(side, dilation_rate=rate, bias_initializer="normal")
    video = tf.random.stateless_uniform([2, 6, 6, 3], [1, 2])
    with tf.GradientTape(persistent=True) as tape:
        own = tf.square(layer(video))
        expected = tf.square(super(depthwise.DepthwiseConv2D, layer).call(video))
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)
    names = [v.name for v in layer.trainable_variables]
    assert len(names) == 2
    for name, ours, theirs in zip(
        names, *(tape.gradient(values, layer.trainable_variables) for values in (own, expected))
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=name)


def test_any_number_of_clips_has_its_gradient():
    """A graph that was traced for any batch size."""

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 2]), tf.TensorSpec([None, 6, 6, 2])])
    def gradient(inputs, upstream):
        return depthwise.kernel_gradient(inputs, upstream, 5, 1)

    inputs, upstream = np.random.default_rng(0).normal(size=(2, 3, 6, 6, 2)).astype(np.float32)
    whole = gradient(inputs, upstream)
    assert whole.shape == (5, 5, 2, 1)
    single = [gradient(inputs[i : i + 1], upstream[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(whole, sum(single), atol=1e-4)
