"""Time loops inside the graph, for recurrences of static or dynamic length."""

import contextlib
import contextvars

import tensorflow as tf

_written_out = contextvars.ContextVar("written_out", default=False)
_around = contextvars.ContextVar("around", default=None)  # (graph around the outermost loop, {key: value made in it})


@contextlib.contextmanager
def written_out():
    """Context manager: loops of static length are written out step by step.

    For converters that know no lists of tensors. The graph grows with the number of steps; loops of
    dynamic length stay loops.
    """
    token = _written_out.set(True)
    try:
        yield
    finally:
        _written_out.reset(token)


def once(key, make):
    """What `make()` returns, computed before the time loop that is being traced rather than in each of its turns.

    Args:
        key: hashable, the same for the same value within one loop.
        make: a function without arguments, of variables alone: nothing that the loop computes or assigns.
    """
    around = _around.get()
    if around is None:
        return make()
    graph, values = around
    if key not in values:
        with graph.as_default():
            values[key] = make()
    return values[key]


@contextlib.contextmanager
def _loop():
    """What is traced within it is the body of a time loop."""
    if _around.get() is not None or tf.executing_eagerly():
        yield
        return
    token = _around.set((tf.compat.v1.get_default_graph(), {}))
    try:
        yield
    finally:
        _around.reset(token)


def scan(step, inputs, state, like):
    """Runs a recurrence over the time axis of `inputs`.

    Args:
        step: (input at t, state) -> (output at t, state).
        inputs: tensor [B, T, ...], or a nested structure of such tensors.
        state: nested structure of tensors [B, ...]; keeps its shapes and dtypes.
        like: a tensor, or tf.TensorSpec, with the shape and dtype of one output.

    Returns:
        (outputs [B, T, ...], the final state).
    """
    first = tf.nest.flatten(inputs)[0]
    steps = first.shape[1] if first.shape[1] is not None else tf.shape(first)[1]
    if _written_out.get() and isinstance(steps, int):
        return generate(
            lambda state, t: step(tf.nest.map_structure(lambda x: x[:, t], inputs), state), state, steps, like
        )
    arrays = tf.nest.map_structure(lambda x: tf.TensorArray(x.dtype, steps).unstack(_swap_time(x)), inputs)

    def step_at(state, t):
        return step(tf.nest.map_structure(lambda array: array.read(t), arrays), state)

    return generate(step_at, state, steps, like)


def generate(step, state, steps, like):
    """Runs a recurrence that needs no input for a number of steps.

    Args:
        step: (state, t) -> (output at t, state), with t an int32 scalar from 0.
        state: nested structure of tensors [B, ...]; keeps its shapes and dtypes.
        steps: an integer, or a scalar int32 tensor.
        like: a tensor, or tf.TensorSpec, with the shape and dtype of one output.

    Returns:
        (outputs [B, steps, ...], the final state).
    """
    if isinstance(steps, int) and steps == 0:  # XLA reads from the lists of a loop even where it takes no turn
        batch = tf.shape(tf.nest.flatten(state)[0])[:1]
        return tf.zeros(tf.concat([batch, [0], like.shape[1:]], axis=0), like.dtype), state
    if _written_out.get() and isinstance(steps, int):
        frames = []
        for t in range(steps):
            output, state = step(state, t)
            frames.append(output)
        return tf.stack(frames, axis=1), state
    outputs = tf.TensorArray(like.dtype, steps, element_shape=like.shape)

    def body(t, state, outputs):
        output, new_state = step(state, t)
        return t + 1, tf.nest.map_structure(_with_shape_of, state, new_state), outputs.write(t, output)

    with _loop():
        _, state, outputs = tf.while_loop(
            lambda t, *_: t < steps,
            body,
            (tf.constant(0), state, outputs),
            maximum_iterations=steps if isinstance(steps, int) else None,
        )
    return _swap_time(outputs.stack()), state


def _with_shape_of(old, new):
    new = tf.convert_to_tensor(new)
    new.set_shape(old.shape)
    return new


def _swap_time(x):
    return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])
