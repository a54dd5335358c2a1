"""Errors of pixels: means over a frame, and the sums that the 10 -> 10 literature reports."""

import tensorflow as tf

from tfvp.metrics.base import VideoMetric
from tfvp.registry import register

PIXEL_AXES = [2, 3, 4]


@register("metric", "mse")
class MeanSquaredError(VideoMetric):
    """Mean squared error per pixel of clipped predictions."""

    higher_is_better = False
    convention = "squared error, mean over the frame's pixels and channels, prediction clipped to [0, 1]"

    def per_frame(self, true, pred):
        return tf.reduce_mean(tf.square(true - tf.clip_by_value(pred, 0.0, 1.0)), PIXEL_AXES)


@register("metric", "mae")
class MeanAbsoluteError(VideoMetric):
    """Mean absolute error per pixel of clipped predictions."""

    higher_is_better = False
    convention = "absolute error, mean over the frame's pixels and channels, prediction clipped to [0, 1]"

    def per_frame(self, true, pred):
        return tf.reduce_mean(tf.abs(true - tf.clip_by_value(pred, 0.0, 1.0)), PIXEL_AXES)


@register("metric", "mse_sum")
class SummedSquaredError(VideoMetric):
    """The MSE of OpenSTL, SimVP and IAM4VP: summed over a frame."""

    higher_is_better = False
    convention = "squared error, sum over the frame's pixels and channels, prediction not clipped"

    def per_frame(self, true, pred):
        return tf.reduce_sum(tf.square(true - pred), PIXEL_AXES)


@register("metric", "mae_sum")
class SummedAbsoluteError(VideoMetric):
    """The MAE of OpenSTL, SimVP and IAM4VP: summed over a frame."""

    higher_is_better = False
    convention = "absolute error, sum over the frame's pixels and channels, prediction not clipped"

    def per_frame(self, true, pred):
        return tf.reduce_sum(tf.abs(true - pred), PIXEL_AXES)
