"""The contracts of metrics: those that score frames, and those that compare whole sets."""

import math

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfvp.errors import UserError
from tfvp.metrics.student import t_quantile

STATISTICS = ("mean", "best", "worst")
FEWEST_CLIPS = 64


def _check_frames(cls, frame_shape: tuple[int, int, int]) -> None:
    """Refuses frames [H, W, C] that the metric is not defined on, before anything is computed.

    Raises:
        UserError: they are smaller than `smallest_side`, or have another number of channels than `channels` allows.
    """
    *sides, channels = frame_shape
    if cls.smallest_side == 1 and not cls.channels:
        return
    if min(sides) < cls.smallest_side or (cls.channels and channels not in cls.channels):
        takes = f"of at least {cls.smallest_side} x {cls.smallest_side} pixels" if cls.smallest_side > 1 else ""
        takes += f" with {' or '.join(map(str, cls.channels))} channels" if cls.channels else ""
        raise UserError(
            f"{cls.registered_name} takes frames {takes.strip()}, and these have {sides[0]} x {sides[1]} pixels and"
            f" {channels} channel{'s' if channels != 1 else ''}; leave the metric out or take other frames"
        )


class VideoMetric(keras.metrics.Metric):
    """A number per frame, averaged over frames and clips, with its course over time.

    An author writes `per_frame(true, pred)` -> [B, T] float32, in graph code, for float32
    videos [B, T, H, W, C]; `true` is in [0, 1], `pred` as the model gave it. Whether it is
    clipped is part of the metric's convention.

    With S futures per clip, "best" and "worst" are, for each clip, the sample whose own mean
    over time is best or worst in this very metric; "mean" averages over the samples.

    State is float64 and of size O(horizon), so the order and size of batches do not matter.

    Attributes:
        higher_is_better: direction.
        unit: of the number, "" where it has none.
        convention: what exactly is computed, in a sentence.
        broken: why the number must not be trusted, or "".
        needs_weights: names of the pretrained weights it uses (see `tfvp.weights`).
        of_labels: whether it compares label maps, int32 [B, T, H, W], instead of frames.
        smallest_side: pixels that frames must have in height and width; see `check_frames`.
        channels: the numbers of channels that it takes; () = any.

    Args:
        horizon: T, frames per prediction.
        name: of the Keras metric. Defaults to the registered name.
    """

    higher_is_better = True
    unit = ""
    convention = ""
    broken = ""
    needs_weights = ()
    of_labels = False
    smallest_side = 1
    channels = ()

    check_frames = classmethod(_check_frames)

    def __init__(self, horizon: int, name: str | None = None):
        super().__init__(name=name or self.registered_name, dtype="float64")
        self.horizon = int(horizon)
        self.samples = 1
        kinds = len(STATISTICS)
        self.frame_sums = self._state("frame_sums", (kinds, self.horizon))
        self.frame_squares = self._state("frame_squares", (kinds, self.horizon))
        self.frames = self._state("frames", (self.horizon,))
        self.clip_sums = self._state("clip_sums", (kinds,))
        self.clip_squares = self._state("clip_squares", (kinds,))
        self.clips = self._state("clips", ())

    def _state(self, name, shape):
        return self.add_weight(name=name, shape=shape, initializer="zeros", dtype="float64")

    def per_frame(self, true: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def finish(self, value):
        """The reported value of a mean of `per_frame`, for metrics that are functions of a pooled mean."""
        return value

    def rank(self, values: tf.Tensor) -> tf.Tensor:
        """Values of `per_frame` turned so that more is better."""
        return values if self.higher_is_better else -values

    def update_state(self, true: tf.Tensor, pred: tf.Tensor, mask: tf.Tensor | None = None) -> None:
        """Adds predictions.

        Args:
            true: [B, T, H, W, C] float32 in [0, 1].
            pred: [B, T, H, W, C], or [B, S, T, H, W, C] for S samples.
            mask: [B, T], 1 where a frame counts; a row of zeros is padding.
        """
        dtype = tf.int32 if self.of_labels else tf.float32
        true, pred = tf.convert_to_tensor(true, dtype), tf.convert_to_tensor(pred, dtype)
        if not self.of_labels:
            self.check_frames(true.shape[-3:])
        if pred.shape.rank == true.shape.rank:
            pred = pred[:, None]
        samples = pred.shape[1]
        flat = tf.reshape(pred, tf.concat([[-1], tf.shape(pred)[2:]], 0))
        values = self.per_frame(tf.repeat(true, samples, axis=0), flat)
        self.update_values(tf.reshape(values, [-1, samples, self.horizon]), mask)

    def update_values(self, values: tf.Tensor, mask: tf.Tensor | None = None) -> None:
        """Adds values that `per_frame` returned for parts of the predictions.

        Args:
            values: [B, S, T].
            mask: as in `update_state`.
        """
        values = tf.cast(values, tf.float64)
        self.samples = values.shape[1]
        mask = tf.ones_like(values[:, 0]) if mask is None else tf.cast(mask, tf.float64)
        real = tf.reduce_max(mask, axis=1)
        # A masked frame may hold anything, NaN included, which a product with 0 would keep.
        values = tf.where(mask[:, None] > 0, values, tf.zeros_like(values))
        over_time = tf.reduce_sum(values, axis=2) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)[:, None]
        ranking = self.rank(over_time)
        # Nothing is worse than a prediction that is no number, and argmin would never choose it.
        ranking = tf.where(tf.math.is_nan(ranking), tf.constant(-math.inf, ranking.dtype), ranking)
        extremes = [tf.argmax(ranking, axis=1), tf.argmin(ranking, axis=1)]
        curves = tf.stack(
            [tf.reduce_mean(values, axis=1), *(tf.gather(values, c, axis=1, batch_dims=1) for c in extremes)]
        )
        means = tf.stack(
            [tf.reduce_mean(over_time, axis=1), *(tf.gather(over_time, c, axis=1, batch_dims=1) for c in extremes)]
        )
        self.frame_sums.assign_add(tf.reduce_sum(curves * mask, axis=1))
        self.frame_squares.assign_add(tf.reduce_sum(tf.square(curves) * mask, axis=1))
        self.frames.assign_add(tf.reduce_sum(mask, axis=0))
        self.clip_sums.assign_add(tf.reduce_sum(means * real, axis=1))
        self.clip_squares.assign_add(tf.reduce_sum(tf.square(means) * real, axis=1))
        self.clips.assign_add(tf.reduce_sum(real))

    def reset_state(self) -> None:
        """Forgets all clips."""
        _zero(self.variables)

    def result(self):
        """The mean over clips, samples and frames: float64 scalar."""
        clips = tf.maximum(tf.convert_to_tensor(self.clips), 1.0)
        return self.finish(tf.convert_to_tensor(self.clip_sums)[0] / clips)

    def summary(self) -> dict[str, object]:
        """Everything about the set so far, as plain JSON types.

        Returns:
            {"mean", "std" (over clips, of the mean over time), "interval" ([low, high], the 95 %
            confidence interval of the mean over clips by Student's t, or None with fewer than two
            clips or values that are not finite), "ci95" (its half width), "curve" [T], "curve_std"
            [T], "clips", "samples", "unit", "convention", "broken" where it is, and "best" and "worst" ({"mean", "std",
            "interval", "ci95", "curve"}) with more than one sample}.
        """
        clips = float(self.clips)
        statistics = {s: self._statistic(i, clips) for i, s in enumerate(STATISTICS)}
        result = {
            **statistics["mean"],
            "clips": int(clips),
            "samples": int(self.samples),
            "unit": self.unit,
            "convention": self.convention,
        }
        if self.broken:
            result["broken"] = self.broken
        if self.samples > 1:
            result.update({s: {k: v for k, v in statistics[s].items() if k != "curve_std"} for s in ("best", "worst")})
        return result

    def _statistic(self, index, clips):
        mean, std = _mean_and_std(float(self.clip_sums[index]), float(self.clip_squares[index]), clips)
        frames = np.asarray(tf.convert_to_tensor(self.frames))
        curve, curve_std = _mean_and_std(
            np.asarray(self.frame_sums)[index], np.asarray(self.frame_squares)[index], np.maximum(frames, 1.0)
        )
        pooled = type(self).finish is not VideoMetric.finish
        half = None
        if not pooled and clips > 1 and math.isfinite(std):
            half = t_quantile(clips - 1) * float(std) / math.sqrt(clips - 1)  # std divides by n
        return {
            "mean": float(self.finish(mean)),
            # The spread of a pooled mean's function over clips is not a function of these moments.
            "std": None if pooled else float(std),
            "interval": None if half is None else [float(mean) - half, float(mean) + half],
            "ci95": half,
            "curve": [float(v) for v in self.finish(curve)],
            "curve_std": None if pooled else [float(v) for v in curve_std],
        }


def _zero(variables):
    for variable in variables:  # Keras 2 would assign a scalar
        variable.assign(tf.zeros_like(variable))


def _mean_and_std(total, squares, count):
    mean = total / np.maximum(count, 1.0)
    return mean, np.sqrt(np.maximum(squares / np.maximum(count, 1.0) - mean**2, 0.0))


class SetMetric(keras.metrics.Metric):
    """One number for a whole set of predictions against a whole set of truths.

    An author writes `features(video [B, T, H, W, C])` -> [B, D] and `distance`. The features of
    all clips are kept, 4 D bytes per clip and side; the number is never a mean of batches.

    It has the attributes of `VideoMetric`, and those below.

    Attributes:
        size: D.
        with_context: whether the videos begin with the observed frames.
        feature_key: hashable name of the function `features`. Metrics with equal keys can
            share features, and those of the truth serve all predictors; see
            `update_features`. None: its state is not features.
        fewest_clips: the number is refused below that.
        fewest_frames: the shortest videos that it is defined on.

    Args:
        horizon: frames per prediction.
        name: of the Keras metric. Defaults to the registered name.
    """

    higher_is_better = False
    unit = ""
    convention = ""
    broken = ""
    needs_weights = ()
    of_labels = False
    smallest_side = 1
    channels = ()
    size = 0
    with_context = False
    feature_key = None
    fewest_clips = FEWEST_CLIPS
    fewest_frames = 1

    def __init__(self, horizon: int, name: str | None = None):
        super().__init__(name=name or self.registered_name, dtype="float64")
        self.horizon = int(horizon)
        self.clips = self.add_weight(name="clips", shape=(), initializer="zeros", dtype="float64")
        self._features_of = {"true": [], "pred": []}

    check_frames = classmethod(_check_frames)

    def features(self, video: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def distance(self, true: np.ndarray, pred: np.ndarray) -> float:
        """The number, from the features [N, D] of both sides, float64."""
        raise NotImplementedError

    def video_features(self, video: tf.Tensor) -> np.ndarray:
        """`features` of clipped videos [B, T, H, W, C]: float32 [B, D]."""
        return np.asarray(self.features(tf.clip_by_value(tf.cast(video, tf.float32), 0.0, 1.0)), np.float32)

    def update_state(self, true: tf.Tensor, pred: tf.Tensor, mask: tf.Tensor | None = None) -> None:
        """Adds videos: both [B, T, H, W, C] in [0, 1]; rows whose mask [B, T] is 0 are padding."""
        self.check_frames(true.shape[-3:])
        self.update_features(self.video_features(true), self.video_features(pred), mask)

    def update_features(self, true: np.ndarray, pred: np.ndarray, mask: tf.Tensor | None = None) -> None:
        """Adds what `video_features` returned: both [B, D]; `mask` as in `update_state`."""
        real = np.ones(len(true), bool) if mask is None else np.asarray(mask).max(axis=1) > 0
        for side, features in (("true", true), ("pred", pred)):
            self._features_of[side].append(np.asarray(features)[real])
        self.clips.assign_add(float(real.sum()))

    def reset_state(self) -> None:
        """Forgets all videos."""
        _zero(self.variables)
        self._features_of = {"true": [], "pred": []}

    def kept_features(self, side: str) -> np.ndarray:
        """The features of "true" or "pred" so far, [N, D] float64."""
        parts = self._features_of[side]
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros((0, self.size))

    @property
    def clip_count(self) -> int:
        """How many clips came in."""
        return int(self.clips)

    def result(self):
        """The distance; NaN where a feature is not finite.

        Raises:
            UserError: fewer than `fewest_clips` clips.
        """
        if self.clip_count < self.fewest_clips:
            raise UserError(
                f"{self.name} of {self.clip_count} clips says nothing about the model; take at least"
                f" {self.fewest_clips} clips"
            )
        true, pred = self.kept_features("true"), self.kept_features("pred")
        return self.distance(true, pred) if np.isfinite(true).all() and np.isfinite(pred).all() else math.nan

    def reliability(self, true: np.ndarray, pred: np.ndarray) -> dict[str, object]:
        """What says how far the number can be trusted, from the features [N, D] of both sides: plain JSON types."""
        return {}

    def provenance(self) -> dict[str, object]:
        """What the number was computed with, for the report: plain JSON types."""
        return {}

    def summary(self) -> dict[str, object]:
        """{"mean": the distance, "clips", "frames", "samples", "convention", its reliability and its provenance}."""
        result = {
            "clips": self.clip_count,
            "frames": self.horizon,
            "samples": 1,
            "unit": self.unit,
            "convention": self.convention,
            **self.provenance(),
        }
        try:
            mean = float(self.result())
        except UserError as error:
            return {"mean": None, **result, "note": str(error)}
        if not math.isfinite(mean):
            return {"mean": mean, **result}
        return {"mean": mean, **result, **self.reliability(self.kept_features("true"), self.kept_features("pred"))}
