"""What a served model refuses, in the graph: a wrong request gets a sentence (InvalidArgument) and costs no memory.

The values asserted on are int32, so that a check is one Assert operation and needs no branch.
"""

import dataclasses

import tensorflow as tf

# Rounding and resizing leave floats a little outside of [0, 1].
RANGE_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that one request may ask for; they bound the server's memory.

    Attributes:
        horizon: frames to predict.
        samples: futures per context.
    """

    horizon: int = 1000
    samples: int = 100


class Checks:
    """Assertions for the requests of one model. Each method returns a tensor that exists only if they hold.

    Args:
        model: a built `VideoModel`.
        limits: a `Limits`.
    """

    def __init__(self, model, limits):
        self.name = model.registered_name
        self.image_shape = model.image_shape
        self.fewest, self.multiple = model.fewest_context, model.context_multiple
        self.reason = f" ({model.context_multiple_reason})" if model.context_multiple_reason else ""
        self.limits = limits

    def context(self, frames, fewest=None):
        """Frames [B, T, H, W, C], uint8 or float32.

        Args:
            frames: the tensor.
            fewest: the smallest T. Defaults to the model's.
        """
        shape = _true_shape(frames)
        height, width, channels = self.image_shape
        checks = [
            *self._length(shape, fewest),
            _require(
                tf.reduce_all(shape[2:] == self.image_shape),
                f"context must have frames of {height} x {width} pixels with {channels} channels; its shape is",
                shape,
            ),
        ]
        if frames.dtype.is_floating:
            inside = tf.reduce_all(tf.abs(frames - 0.5) <= 0.5 + RANGE_TOLERANCE)  # false for NaN
            sentence = "context must hold floats in [0, 1], without NaN; divide bytes by 255, or ask serving_uint8"
            checks.append(_require(inside, sentence))
        return _after(checks, frames)

    def encoded(self, frames):
        """Encoded frames [B, T], string."""
        return _after(self._length(_true_shape(frames)), frames)

    def decoded(self, frame):
        """A decoded frame, uint8 [h, w, c], of whatever size: [H, W, C]."""
        height, width, channels = self.image_shape
        shape = tf.shape(frame)
        sentence = f"encoded frames must be images of {height} x {width} pixels with {channels} channels; one is"
        same = tf.logical_and(tf.equal(tf.size(shape), 3), tf.reduce_all(shape[-3:] == self.image_shape))
        return tf.reshape(_after([_require(same, sentence, shape)], frame), self.image_shape)

    def horizon(self, horizon, rows):
        """Horizons [B], int32, for `rows` examples."""
        return self._counts("horizon", horizon, rows, self.limits.horizon, "frames", "--max-horizon")

    def samples(self, samples, rows):
        """Numbers of futures [B], int32, for `rows` examples."""
        return self._counts("samples", samples, rows, self.limits.samples, "futures", "--max-samples")

    def seed(self, seed, rows):
        """Seeds [B], int64, for `rows` examples."""
        return _after([_one_each("seed", seed, rows)], seed)

    def rows(self, name, tensor, rows):
        """A tensor [B, ...] that must have `rows` examples."""
        return _after([_one_each(name, tensor, rows)], tensor)

    def _counts(self, name, counts, rows, most, unit, option):
        inside = tf.reduce_all((counts >= 1) & (counts <= most))
        sentence = f"{name} must be from 1 to {most} {unit} (`tfvp export {option}`) for each example; it is"
        return _after([_one_each(name, counts, rows), _require(inside, sentence, counts)], counts)

    def _length(self, shape, fewest=None):
        fewest = self.fewest if fewest is None else fewest
        return [
            _require(shape[0] >= 1, "context must have at least one example; its shape is", shape),
            _require(
                shape[1] >= fewest,
                f"context is too short: {self.name} needs at least {fewest} frames here; context has",
                shape[1],
            ),
            _require(
                shape[1] % self.multiple == 0,
                f"context must be a multiple of {self.multiple} frames{self.reason}; context has",
                shape[1],
            ),
        ]


class NoChecks:
    """Takes whatever comes, for runtimes without assertions: the interface of `Checks`."""

    def context(self, frames, fewest=None):
        return frames

    def encoded(self, frames):
        return frames

    def decoded(self, frame):
        return frame

    def horizon(self, horizon, rows):
        return horizon

    samples = seed = horizon

    def rows(self, name, tensor, rows):
        return tensor


def _true_shape(tensor):
    """The shape that a tensor has, int32, even where the signature promises another.

    A server does not compare what it is sent with the signature, and the shape that the graph is
    told is folded into constants: the check would be removed.
    """
    return tf.shape(tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=tf.TensorShape(None)))


def _one_each(name, tensor, rows):
    sentence = f"{name} must have one entry for each example of the batch; entries and examples are"
    count = _true_shape(tensor)[0]
    return _require(tf.equal(count, rows), sentence, tf.stack([count, rows]))


def _require(condition, sentence, *values):
    return tf.debugging.Assert(condition, [sentence, *values], summarize=8)


def _after(checks, tensor):
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(tensor)
