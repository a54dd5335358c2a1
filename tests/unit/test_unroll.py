"""Time loops: what does not change from turn to turn is computed once."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfvp.layers import split_conv, unroll


@pytest.fixture(scope="module")
def layer():
    layer = keras.layers.Conv2DTranspose(3, 3, padding="same", bias_initializer="ones")
    layer.build((None, None, None, 5))
    return layer


def looped(layer, steps):
    """Repeats a convolution of the first three of five channels, from three channels to three."""

    def run(x):
        def step(state, _):
            # The inner loop is part of the outer one's turn.
            inner = unroll.generate(lambda s, _: (s, tf.tanh(split_conv.of_first(layer, s))), state, 2, like=x)[1]
            return inner, inner

        return unroll.generate(step, x, steps, like=x)[1]

    return run


def test_a_kernel_is_cut_once_for_all_turns_and_loops_within(layer):
    run = tf.function(looped(layer, 4))
    graph = run.get_concrete_function(tf.TensorSpec([2, 4, 4, 3])).graph.as_graph_def()
    assert [node.op for node in graph.node].count("StridedSlice") == 1
    bodies = [node.op for function in graph.library.function for node in function.node_def]
    assert "Conv2DBackpropInput" in bodies and "ReadVariableOp" not in bodies


@pytest.mark.parametrize("steps", [3, None])
def test_values_and_gradients_are_those_of_a_loop_in_python(layer, steps):
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32))

    def of(run):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(run(x)))
        return loss, *tape.gradient(loss, [x, layer.kernel])

    expected = of(looped(layer, 3))  # eagerly
    if steps is None:
        found = tf.function(lambda n: of(looped(layer, n)))(tf.constant(3))
    else:
        found = tf.function(lambda: of(looped(layer, steps)))()
    for there, here in zip(found, expected):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("xla", [False, True])
def test_a_loop_of_no_turns_leaves_the_state(xla):
    spec = tf.TensorSpec([None, 4, 3])

    def of(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, after = unroll.scan(lambda at_t, s: (s[:, None], s + at_t), x[:, 5:], 2.0 * x[:, 0], like=spec)
            return outputs, after, tape.gradient(tf.reduce_sum(outputs) + tf.reduce_sum(after), x)

    outputs, after, gradient = tf.function(of, jit_compile=xla)(tf.ones([2, 5, 3]))
    assert outputs.shape == (2, 0, 4, 3)
    np.testing.assert_array_equal(after, 2.0 * tf.ones([2, 3]))
    np.testing.assert_array_equal(gradient, [[[2.0] * 3] + [[0.0] * 3] * 4] * 2)


def test_two_loops_and_later_calls_do_not_share_what_the_first_kept(layer):
    x = tf.ones([1, 4, 4, 3])
    run = tf.function(lambda x: looped(layer, 2)(looped(layer, 1)(x)))
    before = run(x)
    np.testing.assert_allclose(before, looped(layer, 3)(x), rtol=1e-5)
    kernel = tf.convert_to_tensor(layer.kernel)
    layer.kernel.assign(2 * kernel)
    np.testing.assert_allclose(run(x), looped(layer, 3)(x), rtol=1e-5)
    layer.kernel.assign(kernel)
    assert np.abs(run(x) - before).max() < 1e-6
