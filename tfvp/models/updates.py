"""One update of a model's weights, under any number of replicas and micro-batches."""

import tensorflow as tf

from tfvp import compat


class Untracked:
    """Keeps values on a model without Keras taking them for layers or weights."""

    def __init__(self, values):
        self.values = values


def accumulated_gradients(loss_fn, variables, batch, parts):
    """(terms [B], mean gradients) of `loss_fn`, computed in `parts` micro-batches, one after the other."""

    def gradients_of(part):
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
    return terms, [None if gradient is None else tf.convert_to_tensor(gradient) / parts for gradient in total]


def apply_if_finite(strategy, finite, gradients, optimizer, variables, average):
    """Runs once for all replicas: the optimizer's update and the average's, or neither."""

    def apply():
        strategy.extended.call_for_each_replica(compat.apply_reduced_gradients, args=(optimizer, gradients, variables))
        if average is not None:
            average.update(strategy, tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64))
        return tf.constant(True)

    # A merge_call inside a branch is not allowed, so the branch is taken here, outside of the replicas.
    return tf.cond(strategy.experimental_local_results(finite)[0], apply, lambda: tf.constant(False))
