"""What XLA compiles, the training step and rollouts, computes the same for every model."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.contract.test_models import CASES, FIRST_VARIANTS, Case, on_both_stacks

pytestmark = pytest.mark.usefixtures("plain_graphs")

# The image generator has a test of its own.
COMPILED = [case for case in FIRST_VARIANTS if case != "hierarchical"]
# XLA is a part of TensorFlow: on the original stack one model, with noise, shows that it is there and what it is given.
ON_BOTH_STACKS = ("svg-lp",)


def one_step(model):
    """The part of training that is compiled: batch -> logs."""
    if getattr(model, "per_frame", False):
        return lambda batch: model.frame_step(batch, None, tf.constant(0))[0]
    return model.train_step


@pytest.mark.parametrize("name", on_both_stacks(ON_BOTH_STACKS, COMPILED))
def test_the_compiled_step_and_rollout_agree_with_the_others(name):
    case = Case(*CASES[name])
    model = case.model
    model.compile(optimizer=keras.optimizers.SGD(1e-2), jit_compile=False)
    start, results = [np.array(v) for v in model.variables], []
    context = case.video[:2, : case.context]
    for jit in (False, True):
        model.xla_rollouts = jit
        model._graphs.values.clear()
        video = np.concatenate(list(model.rollout(context, 3)), axis=2)
        for metric in model.metrics:
            metric.reset_state()
        logs = tf.function(one_step(model), jit_compile=jit)(case.batch)
        moved = [np.array(v) - old for v, old in zip(model.variables, start)]
        for variable, old in zip(model.variables, start):
            variable.assign(old)
        model.optimizer.iterations.assign(0)
        results.append((video, {k: float(v) for k, v in logs.items()}, moved))
    (video, logs, moved), (video_xla, logs_xla, moved_xla) = results
    np.testing.assert_allclose(video_xla, video, rtol=1e-4, atol=1e-4 * np.abs(video).max())
    for key, value in logs.items():
        assert logs_xla[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    largest = max(np.abs(change).max() for change in moved)
    assert largest > 0
    for ours, theirs in zip(moved_xla, moved):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * largest)
