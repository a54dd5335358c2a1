"""One update of a model's weights, under any number of replicas and micro-batches."""

import contextlib

import tensorflow as tf

from tfvp import compat
from tfvp.layers import recompute, winograd


class Untracked:
    """Keeps values on a model without Keras taking them for layers or weights."""

    def __init__(self, values):
        self.values = values


def accumulated_gradients(loss_fn, variables, batch, parts, recomputed=False):
    """(terms [B], mean gradients) of `loss_fn`, computed in `parts` micro-batches, one after the other.

    With `recomputed`, activations of the model's blocks are computed again for the gradients, not kept.
    """

    def gradients_of(part):
        with recompute.recomputed_blocks(recomputed), winograd.trained():
            with tf.GradientTape() as tape:
                terms = loss_fn(part)
                loss = tf.reduce_mean(terms["loss"])
            return terms, tape.gradient(loss, variables)

    found, total = [], None
    for part in range(parts):
        micro = {key: tf.split(value, parts, axis=0)[part] for key, value in batch.items()}
        # Unrolled, as a loop's body could not synchronize batch norm; one after the other, as
        # they would all take up memory at once otherwise.
        with tf.control_dependencies([] if total is None else [g for g in total if g is not None]):
            terms, gradients = gradients_of({key: tf.identity(value) for key, value in micro.items()})
        found.append(terms)
        total = gradients if total is None else [g if t is None else t + g for t, g in zip(total, gradients)]
    terms = {name: tf.concat([terms[name] for terms in found], axis=0) for name in found[0]}
    total = [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in total]
    return terms, [gradient if gradient is None or parts == 1 else gradient / parts for gradient in total]


def apply_if_finite(finite, gradients, optimizer, variables, average):
    """The optimizer's update and the average's, or neither; to be called in a replica context.

    No branch is taken, as a branch makes the host wait for the device: the update is made either
    way. An optimizer with `masked_by` makes it one that changes nothing, at no cost; of any other,
    weights and state are copied before and written back.

    Args:
        finite: whether the update counts, a boolean scalar, equal on all replicas.
        gradients: list of finite tensors, equal on all replicas.
        optimizer: a built optimizer.
        variables: the variables that the gradients belong to.
        average: a `tfvp.training.optimizers.WeightAverage`, or None.
    """
    state = compat.optimizer_variables(optimizer)
    masked = hasattr(optimizer, "masked_by") and optimizer.masks_itself
    kept = [v for v in state if len(v.shape) == 0] if masked else [*variables, *state]
    kept = [compat.backing_variable(v) for v in kept]
    before = [tf.identity(v) for v in kept]
    with optimizer.masked_by(finite, variables) if masked else contextlib.nullcontext([]) as advanced:
        compat.apply_reduced_gradients(optimizer, gradients, variables)
    advancing = [compat.backing_variable(variable) for variable, _ in advanced]

    def finish(strategy, finite, before, after):
        for variable, old in zip(kept, before):
            strategy.extended.update(
                variable, lambda v, f, o: v.assign(tf.where(f, v, o)), args=(finite, old), group=False
            )
        for variable, new in zip(advancing, after):
            strategy.extended.update(
                variable, lambda v, f, n: v.assign(tf.where(f, n, v)), args=(finite, new), group=False
            )
        if average is not None:
            iterations = tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64)
            average.update(strategy, iterations, finite)

    # Where the strategy updates variables within a replica (several GPUs), a merge_call cannot be compiled.
    tf.__internal__.distribute.interim.maybe_merge_call(
        finish, tf.distribute.get_strategy(), finite, before, [value for _, value in advanced]
    )
