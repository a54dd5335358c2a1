"""Layer norm, group norm and GELU in a training step, beside what TensorFlow derives from Keras's."""

import numpy as np
import pytest
import tensorflow as tf

from tfvp import compat
from tfvp.layers import norms, simvp, winograd

SHAPE = (3, 5, 4, 6)


def with_gradients(call, x, variables, seed):
    """What `call` makes of x, and the gradients of a weighted sum of it to x and the variables; float32 arrays."""
    weights = tf.constant(np.random.default_rng(seed).normal(size=SHAPE), tf.float32)

    @tf.function
    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * weights)
        return y, tape.gradient(loss, [x, *variables])

    y, gradients = compute(x)
    return [tf.cast(value, tf.float32).numpy() for value in (y, *gradients)]


def compare(call, policy, variables=()):
    x = tf.constant(np.random.default_rng(0).normal(3.0, 2.0, SHAPE), policy.removeprefix("mixed_"))
    derived = with_gradients(call, x, variables, 1)
    with winograd.trained():
        written = with_gradients(call, x, variables, 1)
    for actual, expected in zip(written, derived, strict=True):
        tolerance = {"float32": 3e-6, "mixed_bfloat16": 3e-2}[policy] * np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["layer", "group"])
def test_gradients_of_norms_are_those_that_tensorflow_derives(kind, policy, monkeypatch):
    if kind == "layer":
        layer, written = norms.LayerNormalization(epsilon=1e-6, dtype=policy), "over_channels"
    else:
        layer, written = norms.GroupNormalization(2, epsilon=1e-5, dtype=policy), "over_groups"
    layer.build((None, None, None, SHAPE[-1]))
    for n, variable in enumerate(layer.trainable_variables):
        variable.assign(np.random.default_rng(n + 2).normal(1.0, 0.5, variable.shape))
    calls, original = [], getattr(norms, written)
    monkeypatch.setattr(norms, written, lambda *arguments: calls.append(1) or original(*arguments))
    compare(layer, policy, [compat.backing_variable(v) for v in layer.trainable_variables])
    assert len(calls) == 1


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_gradient_of_gelu_is_what_tensorflow_derives(policy, monkeypatch):
    calls, original = [], simvp._gelu
    monkeypatch.setattr(simvp, "_gelu", lambda x: calls.append(1) or original(x))
    compare(simvp.exact_gelu, policy)
    assert len(calls) == 1
