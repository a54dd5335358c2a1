"""Random numbers that depend on seeds alone: not on the batch, the chunk, the replica or the call.

Every number is a hash of where it stands: Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel
random numbers: as easy as 1, 2, 3", section 4.3), keyed by an example's seed, of the counter (number
of the event, stream and place within the event). A hash of whole tensors is about 120 integer
operations, however many examples and frames they hold, so draw all that a step needs in one call.
Integers are the same everywhere, normals up to the rounding of log, sin and cos.

A stream is a number below 255 that keeps apart what is drawn for different purposes under one seed.
"""

import contextlib
import contextvars
import math

import tensorflow as tf

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
STREAM_BITS = 24  # of the counter's second word, below the stream: a pair of numbers within an event

_source = contextvars.ContextVar("source", default=None)


@contextlib.contextmanager
def drawn_by(source):
    """Context manager: normal numbers come from `source(seeds, events)`, which returns what `normals` would.

    For runtimes that cannot hash, and take the numbers as an input. None = they are hashed.
    """
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def threefry2x32(key, counter):
    """Threefry-2x32-20: two random words for each pair of a key and a counter.

    Args:
        key: pair of uint32 tensors.
        counter: pair of uint32 tensors that broadcast with the key's.

    Returns:
        A pair of uint32 tensors.
    """
    keys = [*key, key[0] ^ key[1] ^ tf.constant(PARITY, tf.uint32)]
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            first += second
            left = tf.bitwise.left_shift(second, tf.constant(rotation, tf.uint32))
            second = left | tf.bitwise.right_shift(second, tf.constant(32 - rotation, tf.uint32))
            second ^= first
        first += keys[(group + 1) % 3]
        second += keys[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return first, second


def example_seeds(ids, step=0, seed=0):
    """Seeds [B, 2] int64 for the examples `ids` [B] at training step `step`.

    The step is hashed with them, so that an example gets new noise each time it is trained on.

    Args:
        ids: [B] integers.
        step: an integer, or a tensor that broadcasts with `ids`.
        seed: of the run, an integer or a scalar tensor.
    """
    ids = tf.cast(ids, tf.int64)
    counter = (_word(step), _word(seed))
    return _stacked(threefry2x32((_word(ids), _word(tf.bitwise.right_shift(ids, tf.constant(32, tf.int64)))), counter))


def sample_seeds(ids, samples, first=0, seed=0):
    """Seeds [B, samples, 2] for futures number `first`, `first` + 1, ... of each example in `ids` [B]."""
    numbers = first + tf.range(samples, dtype=tf.int64)
    return example_seeds(tf.convert_to_tensor(ids)[:, None], numbers[None], seed)


def normal(seeds, shape, stream=0):
    """Draws from N(0, 1): float32 [B, *shape], row b from seeds[b] alone."""
    return normal_at(seeds, tf.zeros([1], tf.int64), shape, stream)[:, 0]


def uniform(seeds, shape, stream=0):
    """Draws from U[0, 1), multiples of 2^-24: float32 [B, *shape], row b from seeds[b] alone."""
    events = [(stream, tf.zeros([1], tf.int64), shape)]
    return _drawn(seeds, events, lambda word, _: _high_bits(word), lambda _, word: _high_bits(word))[0][:, 0]


def normal_at(seeds, numbers, shape, stream=0):
    """Draws from N(0, 1) for numbered events: float32 [B, N, *shape].

    Entry [b, n] depends on seeds[b], the number of the event and the stream alone, so that a sequence
    of events may be drawn in pieces.

    Args:
        seeds: [B, 2].
        numbers: [N], the same for all examples, or [B, N].
        shape: of a draw.
        stream: below 255.
    """
    return normals(seeds, [(stream, numbers, shape)])[0]


def normals(seeds, events):
    """`normal_at` for several streams at once.

    Args:
        seeds: [B, 2] int64, of which the lower 32 bits count.
        events: list of (stream, numbers [N] or [B, N] from 0, shape).

    Returns:
        A list of float32 [B, N, *shape].

    Raises:
        ValueError: a stream of 255 or more, or a shape of more than 2^25 numbers.
    """

    if _source.get() is not None:
        return _source.get()(seeds, events)

    def radius(word):
        # At most 6.8; the largest words round to 1, whose radius is 0.
        return tf.sqrt(-2.0 * tf.math.log((tf.cast(word, tf.float32) + 0.5) * 2.0**-32))

    def angle(word):
        return tf.cast(word, tf.float32) * (2.0 * math.pi * 2.0**-32)

    # Box and Muller 1958: a pair of normals from a pair of uniform numbers.
    return _drawn(seeds, events, lambda a, b: radius(a) * tf.cos(angle(b)), lambda a, b: radius(a) * tf.sin(angle(b)))


def _drawn(seeds, events, first, second):
    """What `first` and `second` make of the two words of each pair, cut and shaped to the events."""
    seeds = tf.cast(seeds, tf.int64)
    numbers, places, sizes = [], [], []
    for stream, event_numbers, shape in events:
        pairs = -(-math.prod(shape) // 2)
        if not 0 <= stream < 255 or pairs > 2**STREAM_BITS:
            raise ValueError(f"stream {stream} with {pairs} pairs of numbers per event; below 255 and 2^24 are allowed")
        number = tf.cast(event_numbers, tf.int64)
        number = number[None] if number.shape.rank == 1 else number
        count = number.shape[1] if number.shape[1] is not None else tf.shape(number)[1]
        place = (stream << STREAM_BITS) + tf.range(pairs, dtype=tf.int64)
        numbers.append(_flat(number[:, :, None] + tf.zeros_like(place)))
        places.append(_flat(tf.zeros_like(number[:1])[:, :, None] + place))
        sizes.append((count, pairs, tuple(shape)))
    if len({x.shape[0] for x in numbers}) > 1:  # some differ among examples
        numbers = [x + tf.zeros_like(seeds[:, :1]) for x in numbers]
    counter = [_word(tf.concat(parts, axis=1)) for parts in (numbers, places)]
    words = threefry2x32([part[:, None] for part in _key(seeds)], counter)
    halves = [first(*words), second(*words)]
    batch = seeds.shape[0] if seeds.shape[0] is not None else tf.shape(seeds)[0]
    results, begin = [], 0
    for count, pairs, shape in sizes:
        parts = [tf.reshape(half[:, begin : begin + count * pairs], [batch, count, pairs]) for half in halves]
        drawn = tf.concat(parts, axis=-1)[..., : math.prod(shape)]
        results.append(tf.reshape(drawn, [batch, count, *shape]))
        begin += count * pairs
    return results


def _flat(x):
    """[N, ...] -> [N, the rest]."""
    rows = x.shape[0] if x.shape[0] is not None else tf.shape(x)[0]
    return tf.reshape(x, [rows, math.prod(x.shape[1:]) if x.shape[1:].is_fully_defined() else -1])


def _key(seeds):
    return _word(seeds[..., 0]), _word(seeds[..., 1])


def _word(values):
    """The lower 32 bits of integers, as uint32."""
    return tf.cast(tf.bitwise.bitwise_and(tf.cast(values, tf.int64), tf.constant(2**32 - 1, tf.int64)), tf.uint32)


def _high_bits(word):
    return tf.cast(tf.bitwise.right_shift(word, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def _stacked(words):
    return tf.cast(tf.stack(words, axis=-1), tf.int64)
