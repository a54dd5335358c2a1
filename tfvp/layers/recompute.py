"""Blocks whose activations are computed again in the backward pass instead of being kept (`train.recompute`).

Of a block, its inputs alone are kept between the passes (Chen et al. 2016, arXiv 1604.06174). Two things must hold
for a block to compute the same both times: noise and random masks come in as inputs, and running statistics move the
first time alone, for which batch norm asks `again`.
"""

import contextlib
import threading

import tensorflow as tf

_thread = threading.local()  # each replica of a MirroredStrategy is traced in a thread of its own


@contextlib.contextmanager
def recomputed_blocks(enabled):
    """Within it, and within gradients computed in it, `block` keeps no activations; if `enabled`."""
    with _set("enabled", enabled):
        yield


def again():
    """Whether a block is being computed for the second time, in the backward pass."""
    return getattr(_thread, "again", False)


def block(function, *inputs):
    """`function(*inputs)`, whose activations are not kept for the backward pass within `recomputed_blocks`.

    Args:
        function: of nested structures of float tensors, which reads any variables. What it takes from anywhere but
            its inputs gets no gradient.
        *inputs: nested structures of float tensors.

    Returns:
        What `function` returns: a nested structure of float tensors.
    """
    if not getattr(_thread, "enabled", False):
        return function(*inputs)

    @tf.custom_gradient
    def run(*flat):
        outputs = function(*tf.nest.pack_sequence_as(inputs, flat))

        def gradient(*upstream, variables=None):
            variables = list(variables or [])
            later = _after(flat, upstream[0])
            with _set("again", True):
                with tf.GradientTape() as tape:
                    tape.watch(later)
                    outputs = tf.nest.flatten(function(*tf.nest.pack_sequence_as(inputs, later)))
                zero = tf.UnconnectedGradients.ZERO
                gradients = tape.gradient(outputs, [*later, *variables], list(upstream), unconnected_gradients=zero)
            to_inputs, to_variables = gradients[: len(flat)], gradients[len(flat) :]
            return (to_inputs, to_variables) if variables else to_inputs

        return outputs, gradient

    return run(*tf.nest.flatten(inputs))


def _after(tensors, upstream):
    """Equal tensors that are there only once `upstream` is.

    Without it, the second computation would be merged with the first, or made along with it, as it needs nothing else.
    A zero made of the gradient is added, since XLA heeds no control dependencies.
    """
    some = tf.reduce_max(tf.reshape(upstream, [-1])[:1])  # -inf of none
    zero = tf.minimum(tf.maximum(some, 0), 0)
    return [tensor + tf.cast(zero, tensor.dtype) for tensor in tensors]


@contextlib.contextmanager
def _set(name, value):
    before = getattr(_thread, name, False)
    setattr(_thread, name, value)
    try:
        yield
    finally:
        setattr(_thread, name, before)
