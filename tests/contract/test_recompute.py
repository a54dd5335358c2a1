"""Activations computed again in the backward pass: the same gradients and statistics, for each model that offers it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.contract.test_models import CASES, FIRST_VARIANTS, OF_EACH_FILE, Case, on_both_stacks
from tfvp import registry
from tfvp.errors import UserError
from tfvp.models.updates import accumulated_gradients
from tfvp.training import checks

pytestmark = pytest.mark.usefixtures("plain_graphs")

LARGER = {"svg-lp": "svg-fp", "htsr-cwvae": "htsr-S"}  # VGG's blocks for DCGAN's; spatial latents
OFFERING = [LARGER.get(case, case) for case in OF_EACH_FILE if registry.lookup("model", CASES[case][0]).can_recompute]
REFUSING = [case for case in FIRST_VARIANTS if not registry.lookup("model", CASES[case][0]).can_recompute]


def one_pass(case, recompute):
    """(losses, gradients, variables after it, number of convolutions) of a forward and a backward pass."""
    model, before = case.model, [np.array(v) for v in case.model.variables]

    @tf.function
    def run(batch):
        return accumulated_gradients(
            lambda part: model.loss_terms(part, training=True), model.trainable_variables, batch, 1, recompute
        )

    graph = run.get_concrete_function(case.batch)
    terms, gradients = graph(case.batch)
    after = [np.array(v) for v in model.variables]
    for variable, old in zip(model.variables, before):
        variable.assign(old)
    definition = graph.graph.as_graph_def()
    nodes = [*definition.node, *(node for part in definition.library.function for node in part.node_def)]
    forward = ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput")
    return np.array(terms["loss"]), gradients, after, sum(node.op in forward for node in nodes)


@pytest.mark.parametrize("name", on_both_stacks(["simvp", "svg-fp"], OFFERING))
def test_recomputed_activations_give_the_same_gradients_and_statistics(name):
    case = Case(*CASES[name])
    losses, gradients, after, convolutions = one_pass(case, recompute=False)
    losses_2, gradients_2, after_2, convolutions_2 = one_pass(case, recompute=True)
    assert convolutions_2 > convolutions
    np.testing.assert_allclose(losses_2, losses, rtol=1e-6)
    moved = [v for v, start in zip(after, case.model.variables) if np.any(v != np.array(start))]
    assert bool(moved) == any("moving" in v.name for v in case.model.variables)
    for ours, theirs in zip(after_2, after):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    largest = max(np.abs(np.asarray(g)).max() for g in gradients if g is not None)
    for ours, theirs in zip(gradients_2, gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.parametrize("name", REFUSING)
def test_models_without_such_blocks_say_so(name):
    model = Case(*CASES[name]).unbuilt
    with pytest.raises(UserError, match=f"^{model.registered_name} does not support train.recompute"):
        checks.check_recompute(True, model)
    checks.check_recompute(False, model)
