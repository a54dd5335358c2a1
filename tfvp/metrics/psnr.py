"""Peak signal-to-noise ratio, in the field's conventions."""

import numpy as np
import tensorflow as tf

from tfvp.metrics.base import VideoMetric
from tfvp.metrics.pixel import PIXEL_AXES
from tfvp.registry import register

LEAST_ERROR = 1e-10  # a frame without error counts as 100 dB, so that it cannot poison a mean


def decibels(mse):
    """10 log10(1 / mse), at most 100 dB."""
    return -10.0 / np.log(10.0) * tf.math.log(tf.maximum(mse, LEAST_ERROR))


@register("metric", "psnr")
class PSNR(VideoMetric):
    """PSNR per frame of clipped predictions, then the mean."""

    unit = "dB"
    convention = "per frame, range 1, prediction clipped to [0, 1], then mean; a perfect frame counts as 100 dB"

    def per_frame(self, true, pred):
        return decibels(tf.reduce_mean(tf.square(true - tf.clip_by_value(pred, 0.0, 1.0)), PIXEL_AXES))


@register("metric", "psnr_unclipped")
class UnclippedPSNR(VideoMetric):
    """PSNR per frame of predictions as the model gave them (SVG, CW-VAE, HTSR)."""

    unit = "dB"
    convention = "per frame, range 1, prediction not clipped, then mean; a perfect frame counts as 100 dB"

    def per_frame(self, true, pred):
        return decibels(tf.reduce_mean(tf.square(true - pred), PIXEL_AXES))


@register("metric", "psnr_channels")
class PerChannelPSNR(VideoMetric):
    """PSNR per channel and frame, then the mean over channels (SVG's and SRVP's test scripts)."""

    unit = "dB"
    convention = "per channel and frame, range 1, prediction not clipped, mean over channels, then over frames"

    def per_frame(self, true, pred):
        return tf.reduce_mean(decibels(tf.reduce_mean(tf.square(true - pred), [2, 3])), axis=-1)


@register("metric", "psnr_pooled")
class PooledPSNR(VideoMetric):
    """PSNR of the mean error over the whole set (torchmetrics)."""

    unit = "dB"
    convention = "of the squared error pooled over the whole set, range 1, prediction clipped to [0, 1]"

    def per_frame(self, true, pred):
        return tf.reduce_mean(tf.square(true - tf.clip_by_value(pred, 0.0, 1.0)), PIXEL_AXES)

    def rank(self, values):
        return -values  # these are still errors

    def finish(self, value):
        return -10.0 * np.log10(np.maximum(np.asarray(value, np.float64), LEAST_ERROR))


@register("metric", "psnr_uint8_wrap")
class WrappedPSNR(VideoMetric):
    """The PSNR of SimVP's and IAM4VP's code, whose uint8 arithmetic wraps around."""

    unit = "dB"
    convention = "per frame on uint8 (prediction clipped, times 255, truncated); differences and squares modulo 256"
    broken = "uint8 differences wrap around: a black frame scores about 41 dB, better than a good prediction"

    def per_frame(self, true, pred):
        true = tf.cast(tf.cast(true * 255.0, tf.uint8), tf.int32)
        pred = tf.cast(tf.cast(tf.clip_by_value(pred, 0.0, 1.0) * 255.0, tf.uint8), tf.int32)
        difference = tf.math.floormod(pred - true, 256)
        wrapped = tf.math.floormod(difference * difference, 256)
        mse = tf.reduce_mean(tf.cast(wrapped, tf.float32), PIXEL_AXES)
        return 20.0 * np.log10(255.0) + decibels(mse)
