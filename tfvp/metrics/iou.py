"""Intersection over union of label maps."""

import numpy as np
import tensorflow as tf

from tfvp.metrics.base import SetMetric, VideoMetric
from tfvp.registry import register

CLASSES = 256


@register("metric", "miou_frame")
class FrameMeanIoU(VideoMetric):
    """IoU of every class that a frame or its prediction shows, averaged over these classes, frame by frame.

    Takes label maps int32 [B, T, H, W]. It weighs small classes and rare ones alike, and has a
    best and a worst sample; `miou` is the field's number over a whole set.
    """

    higher_is_better = True
    of_labels = True
    convention = "mean over the classes in a frame or its prediction of their intersection over union, per frame"

    def per_frame(self, true, pred):
        shape = tf.shape(true)
        true, pred = (tf.reshape(tf.cast(x, tf.int32), [shape[0] * shape[1], -1]) for x in (true, pred))
        both = tf.math.bincount(tf.where(true == pred, true, CLASSES), minlength=CLASSES + 1, axis=-1)[:, :CLASSES]
        sizes = [tf.math.bincount(x, minlength=CLASSES, axis=-1)[:, :CLASSES] for x in (true, pred)]
        union = tf.cast(sizes[0] + sizes[1] - both, tf.float32)
        shown = tf.cast(union > 0, tf.float32)
        ratio = tf.math.divide_no_nan(tf.cast(both, tf.float32), union)
        return tf.reshape(tf.reduce_sum(ratio, axis=-1) / tf.reduce_sum(shown, axis=-1), shape[:2])


@register("metric", "miou")
class MeanIoU(SetMetric):
    """IoU per class over all pixels of a set, then the mean over classes (Cityscapes' mIoU), at each frame.

    Takes label maps int32 [B, T, H, W]. `mean` pools all frames; `curve` is the same number for
    each predicted frame alone; `classes` holds the IoU of every class, and its curve. Classes
    that occur in neither truth nor prediction do not count.
    """

    higher_is_better = True
    of_labels = True
    fewest_clips = 1
    convention = "intersection over union of each class over all pixels of the set, mean over the classes that occur"

    def __init__(self, horizon, name=None):
        super().__init__(horizon, name)
        self.counts = self.add_weight(
            name="counts", shape=(3, self.horizon, CLASSES), initializer="zeros", dtype="float64"
        )

    def update_state(self, true, pred, mask=None):
        """Adds label maps: both [B, T, H, W]; frames whose mask [B, T] is 0 do not count."""
        shape = tf.shape(true)
        weights = tf.ones(shape[:2], tf.float64) if mask is None else tf.cast(mask, tf.float64)
        true, pred = (tf.reshape(tf.cast(x, tf.int32), [shape[0] * shape[1], -1]) for x in (true, pred))
        for n, values in enumerate((tf.where(true == pred, true, CLASSES), true, pred)):
            counts = tf.math.bincount(values, minlength=CLASSES + 1, axis=-1)[:, :CLASSES]
            counts = tf.reshape(tf.cast(counts, tf.float64), [shape[0], shape[1], CLASSES])
            self.counts.assign_add(
                tf.scatter_nd([[n]], tf.einsum("btk,bt->tk", counts, weights)[None], [3, self.horizon, CLASSES])
            )
        real = tf.reduce_sum(tf.reduce_max(weights, axis=1))
        self.clips.assign_add(real)

    def result(self):
        """The mean over classes of what all frames together give: a float."""
        return _mean(self._ratios(axis=0))

    def summary(self):
        """As `SetMetric.summary`, with "curve" [T] and "classes" {number: {"mean", "curve"}}."""
        overall, over_time = self._ratios(axis=0), self._ratios(axis=None)
        return {
            "mean": _mean(overall),
            "curve": [_mean(ratios) for ratios in over_time],
            "curve_std": None,
            "classes": {
                str(k): {
                    "mean": float(overall[k]),
                    "curve": [None if np.isnan(v) else float(v) for v in over_time[:, k]],
                }
                for k in np.flatnonzero(~np.isnan(overall))
            },
            "clips": self.clip_count,
            "frames": self.horizon,
            "samples": 1,
            "unit": self.unit,
            "convention": self.convention,
        }

    def _ratios(self, axis):
        """IoU of each class [..., K], NaN where it does not occur; summed over frames with axis=0."""
        counts = np.asarray(tf.convert_to_tensor(self.counts))
        both, true, pred = counts if axis is None else counts.sum(axis=1)
        union = true + pred - both
        return np.where(union > 0, both / np.maximum(union, 1.0), np.nan)


def _mean(ratios):
    values = ratios[~np.isnan(ratios)]
    return float(values.mean()) if len(values) else float("nan")
