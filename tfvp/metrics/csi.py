"""Skill scores of nowcasting on SEVIR: counts of pixels at or above thresholds of radar intensity."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfvp.metrics.base import SetMetric
from tfvp.registry import register

THRESHOLDS = (16, 74, 133, 160, 181, 219)  # of VIL in bytes


class _SkillScore(SetMetric):
    """A ratio of counts over the whole set, per threshold, then the mean over thresholds.

    Counts are of pixels at or above a threshold in both (hits), in the truth alone (misses) and
    in the prediction alone (false alarms); their ratio is never a mean over batches or frames.

    Args:
        horizon, name: as in `SetMetric`.

    It has the attributes of `SetMetric`, and those below.

    Attributes:
        pool: pixels of the side of the squares whose maximum is compared; 1 = single pixels.
    """

    higher_is_better = True
    fewest_clips = 1
    pool = 1

    def __init__(self, horizon, name=None):
        keras.metrics.Metric.__init__(self, name=name or self.registered_name, dtype="float64")
        self.horizon = int(horizon)
        shape = (len(THRESHOLDS), self.horizon)
        self.counts = [
            self.add_weight(name=n, shape=shape, initializer="zeros", dtype="float64")
            for n in ("hits", "misses", "alarms")
        ]
        self.clips = self.add_weight(name="clips", shape=(), initializer="zeros", dtype="float64")

    def ratio(self, hits, misses, alarms):
        """The score, float64, of counts of any shape; 0 / 0 is NaN."""
        raise NotImplementedError

    def update_state(self, true, pred, mask=None):
        """Adds videos: both [B, T, H, W, 1] in [0, 1]; masked frames do not count."""
        self.check_frames(true.shape[-3:])
        mask = tf.ones(tf.shape(true)[:2], tf.float64) if mask is None else tf.cast(mask, tf.float64)
        true, pred = self._pooled(true), self._pooled(pred)
        for i, threshold in enumerate(THRESHOLDS):
            # Half a level below, so that bytes that were divided by 255 compare as bytes.
            observed, forecast = (tf.cast(v, tf.float32) * 255.0 >= threshold - 0.5 for v in (true, pred))
            for count, both in zip(self.counts, (observed & forecast, observed & ~forecast, ~observed & forecast)):
                per_frame = tf.reduce_sum(tf.cast(both, tf.float64), axis=[2, 3, 4]) * mask
                count.assign_add(
                    tf.one_hot(i, len(THRESHOLDS), dtype=tf.float64)[:, None] * tf.reduce_sum(per_frame, axis=0)
                )
        self.clips.assign_add(tf.reduce_sum(tf.reduce_max(mask, axis=1)))

    def _pooled(self, video):
        if self.pool == 1:
            return video
        flat = tf.reshape(video, tf.concat([[-1], tf.shape(video)[2:]], 0))
        flat = tf.nn.max_pool2d(flat, self.pool, self.pool, "VALID")
        return tf.reshape(flat, tf.concat([tf.shape(video)[:2], tf.shape(flat)[1:]], 0))

    def result(self):
        """The mean over thresholds that occur, float64; NaN if none does."""
        return _mean(self._ratios(over_time=True))

    def _ratios(self, over_time):
        counts = [np.asarray(c).sum(axis=1) if over_time else np.asarray(c) for c in self.counts]
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.ratio(*counts)

    def summary(self):
        """{"mean", "thresholds": {threshold: score}, "curve" [T] (mean over thresholds), "curve_std": None, ...}.

        A score is None where nothing was counted that it is a ratio of.
        """
        mean, curve = float(self.result()), [_number(_mean(column)) for column in self._ratios(over_time=False).T]
        per_threshold = {str(t): _number(v) for t, v in zip(THRESHOLDS, self._ratios(over_time=True))}
        return {
            "mean": _number(mean),
            "thresholds": per_threshold,
            "clips": int(self.clips),
            "samples": 1,
            "unit": self.unit,
            "convention": self.convention,
            "curve": curve,
            "curve_std": None,
        }


def _mean(values):
    values = values[np.isfinite(values)]
    return np.float64(values.mean()) if len(values) else np.float64("nan")


def _number(value):
    return float(value) if np.isfinite(value) else None


class _CSI(_SkillScore):
    def ratio(self, hits, misses, alarms):
        return hits / (hits + misses + alarms)


_COUNTED = f"counted over the whole set at {', '.join(map(str, THRESHOLDS))} of 255, then the mean over thresholds"


@register("metric", "csi")
class CriticalSuccessIndex(_CSI):
    """Critical success index: hits / (hits + misses + false alarms)."""

    convention = f"hits / (hits + misses + false alarms), {_COUNTED}"


@register("metric", "csi_pool16")
class PooledCriticalSuccessIndex(_CSI):
    """Critical success index of the maxima of squares of 16 pixels."""

    convention = f"as csi, of the maxima of squares of 16 x 16 pixels, {_COUNTED}"
    pool = smallest_side = 16


@register("metric", "pod")
class ProbabilityOfDetection(_SkillScore):
    """Probability of detection: hits / (hits + misses)."""

    convention = f"hits / (hits + misses), {_COUNTED}"

    def ratio(self, hits, misses, alarms):
        return hits / (hits + misses)


@register("metric", "far")
class FalseAlarmRatio(_SkillScore):
    """False alarm ratio: false alarms / (hits + false alarms)."""

    higher_is_better = False
    convention = f"false alarms / (hits + false alarms), {_COUNTED}"

    def ratio(self, hits, misses, alarms):
        return alarms / (hits + alarms)
