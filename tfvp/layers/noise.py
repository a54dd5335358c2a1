"""Random numbers that depend on seeds alone: not on the batch, the replica or the call."""

import tensorflow as tf


def example_seeds(ids, step=0):
    """Seeds [B, 2] int32 for the examples `ids` [B] at training step `step`.

    The step is folded in, so that an example gets new noise each time it is trained on.
    """
    ids, step = tf.cast(ids, tf.int64), tf.cast(step, tf.int64)
    return tf.map_fn(
        lambda i: tf.random.experimental.stateless_fold_in(tf.stack([i, tf.zeros_like(i)]), step),
        ids,
        fn_output_signature=tf.TensorSpec([2], tf.int64),
    )


def sample_seeds(ids, samples, first=0):
    """Seeds [B, samples, 2] for futures number `first`, `first` + 1, ... of each example in `ids` [B]."""
    return tf.stack([example_seeds(ids, sample) for sample in range(first, first + samples)], axis=1)


def fold_in(seeds, number):
    """Seeds [B, 2] for event `number` (a frame, say) of the streams `seeds` [B, 2]."""
    number = tf.cast(number, seeds.dtype)
    return tf.map_fn(lambda seed: tf.random.experimental.stateless_fold_in(seed, number), seeds)


def normal(seeds, shape):
    """Draws from N(0, 1): float32 [B, *shape], row b from seeds[b] alone."""
    return _draw(tf.random.stateless_normal, seeds, shape)


def uniform(seeds, shape):
    """Draws from U[0, 1): float32 [B, *shape], row b from seeds[b] alone."""
    return _draw(tf.random.stateless_uniform, seeds, shape)


def _draw(draw, seeds, shape):
    shape = tuple(shape)
    return tf.map_fn(lambda seed: draw(shape, seed), seeds, fn_output_signature=tf.TensorSpec(shape, tf.float32))


def normal_at(seeds, numbers, shape):
    """Draws from N(0, 1) for numbered events: float32 [B, N, *shape].

    Entry [b, n] depends on seeds[b] and the number of the event alone, so that a sequence of
    events may be drawn in pieces.

    Args:
        seeds: [B, 2].
        numbers: [N], the same for all examples, or [B, N].
        shape: of a draw.
    """
    shape, seeds = tuple(shape), tf.cast(seeds, tf.int64)
    numbers = tf.cast(numbers, tf.int64)
    batch, count = tf.shape(seeds)[0], tf.shape(numbers)[-1]
    numbers = tf.reshape(tf.broadcast_to(numbers, [batch, count]), [-1, 1])
    events = tf.concat([tf.repeat(seeds, count, axis=0), numbers], axis=1)
    drawn = tf.map_fn(
        lambda e: tf.random.stateless_normal(shape, tf.random.experimental.stateless_fold_in(e[:2], e[2])),
        events,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )
    return tf.reshape(drawn, tf.concat([[batch, count], shape], axis=0))
