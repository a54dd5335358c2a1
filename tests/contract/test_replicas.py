"""One replica or two: the same training, for every model."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.contract.test_models import CASES, FIRST_VARIANTS, Case, on_both_stacks
from tfvp.training import strategies

RECOMPUTED = "simvp"  # its replicas compute activations again in the backward pass

# A model with noise, one that is updated at every frame, one with batch norm and recomputation, two optimizers.
ON_BOTH_STACKS = ("svg-lp", "iam4vp", RECOMPUTED, "hierarchical")

pytestmark = pytest.mark.usefixtures("plain_graphs")


def train_two_steps(case, devices, batch, **compile_options):
    strategy = strategies.make_strategy(devices)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = case.make()
        model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False, **compile_options)
    data = tf.data.Dataset.from_tensors(batch).repeat()
    history = model.fit(data, epochs=1, steps_per_epoch=2, verbose=0)
    return model, {k: v[-1] for k, v in history.history.items()}


@pytest.mark.parametrize("name", on_both_stacks(ON_BOTH_STACKS, FIRST_VARIANTS))
def test_two_replicas_train_as_one(name):
    case = Case(*CASES[name])
    one, logs_one = train_two_steps(case, 1, case.batch, clip_norm=1.0)
    case.recompute = name == RECOMPUTED
    two, logs_two = train_two_steps(case, 2, case.batch, clip_norm=1.0)
    assert logs_one["grad_norm"] > 0
    for key in logs_one:
        assert logs_one[key] == pytest.approx(logs_two[key], rel=1e-4, abs=1e-6), key
    for ours, theirs in zip(one.variables, two.variables, strict=True):
        # Batch norm amplifies the rounding of sums that are split among replicas.
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-3, atol=2e-4)
