"""Graphs are let go, although TensorFlow keeps the gradients that were written for parts of them."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from tests.contract.test_models import CASES, Case
from tests.unit import test_training_step
from tfvp.layers import recompute

pytestmark = pytest.mark.usefixtures("plain_graphs")


def kept_by(use):
    """How many graphs are alive after `use` that were not before; it is called twice, as the first may fill caches."""
    counts = []
    for _ in range(2):
        use()
        gc.collect()
        counts.append(sum(isinstance(thing, tf.Graph) for thing in gc.get_objects()))
    return counts[1] - counts[0]


def test_a_written_gradient_lives_as_long_as_its_graph():
    @tf.custom_gradient
    def halved(x):
        return x / 2.0, lambda upstream: 5.0 * upstream  # a wrong one, to see that it is used

    @tf.function(autograph=False)
    def squared(x):
        y = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, halved(y)), (0, x))[1]
        return y * y

    x = tf.constant(8.0)
    graph = weakref.ref(squared.get_concrete_function(x).graph)
    gc.collect()
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = squared(x)
    assert float(y) == 1.0 and float(tape.gradient(y, x)) == 2 * 1.0 * 5.0**3
    assert graph() is not None
    del squared, tape, y
    gc.collect()
    assert graph() is None


def block(x):
    return recompute.block(tf.nn.tanh, x)


@pytest.mark.parametrize("function", [tf.nn.silu, block])
def test_second_derivatives_let_their_graphs_go(function):
    """Their gradients are written while others are computed."""
    x = tf.Variable(np.linspace(-2, 2, 5, dtype=np.float32))

    def differentiate():
        @tf.function(autograph=False)
        def curvature():
            with recompute.recomputed_blocks(True), tf.GradientTape() as outer:
                with tf.GradientTape() as inner:
                    y = tf.reduce_sum(function(x))
                slope = inner.gradient(y, x)
            return outer.gradient(slope, x)

        assert np.any(curvature())

    assert kept_by(differentiate) == 0


@pytest.mark.parametrize("devices", [1, 2])
def test_a_model_that_was_trained_lets_its_graphs_go(devices):
    """With several replicas, the sums over them, too."""

    def train():
        model, _ = test_training_step.make(devices)
        test_training_step.fit(model, [test_training_step.batch_of(4)])

    assert kept_by(train) == 0


def test_a_model_that_was_asked_for_frames_lets_its_graphs_go():
    def predict():
        case = Case(*CASES["simvp"])
        assert len(list(case.model.rollout(case.video[:, : case.context], 1))) == 1

    assert kept_by(predict) == 0
