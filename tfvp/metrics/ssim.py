"""Structural similarity (Wang et al. 2004), in the field's conventions.

One and the same prediction scores from .765 to .999 under them, so a number without its
convention says nothing. All use K1 = .01 and K2 = .03, and average over channels.
"""

import numpy as np
import tensorflow as tf

from tfvp.metrics.base import VideoMetric
from tfvp.registry import register

GAUSSIAN = np.exp(-0.5 * (np.arange(-5.0, 6.0) / 1.5) ** 2)
GAUSSIAN /= GAUSSIAN.sum()
UNIFORM = np.full(7, 1.0 / 7.0)


def similarity(true, pred, window, data_range, unbiased=False, reflect=False, clamp=False):
    """SSIM per frame from local moments under a separable window.

    Args:
        true, pred: [B, T, H, W, C] float32.
        window: the window's profile along one axis, summing to 1.
        data_range: L in the constants (K1 L)^2 and (K2 L)^2.
        unbiased: divide (co)variances by n - 1 in the place of n.
        reflect: average over a map of the frame's size, with reflected borders, and not over
            the positions at which the window lies within the frame.
        clamp: set negative variances to 0.

    Returns:
        [B, T] float32.
    """
    lead = tf.shape(true)[:2]
    # Moments of small differences between large numbers need more than float32.
    true, pred = (tf.cast(tf.reshape(v, tf.concat([[-1], tf.shape(v)[2:]], 0)), tf.float64) for v in (true, pred))
    if reflect:
        half = len(window) // 2
        true, pred = (tf.pad(v, [[0, 0], [half, half], [half, half], [0, 0]], "REFLECT") for v in (true, pred))
    products = tf.concat([true, pred, true * true, pred * pred, true * pred], axis=-1)
    mean_t, mean_p, square_t, square_p, product = tf.split(_filter(products, window), 5, axis=-1)
    factor = len(window) ** 2 / (len(window) ** 2 - 1.0) if unbiased else 1.0
    var_t = factor * (square_t - mean_t * mean_t)
    var_p = factor * (square_p - mean_p * mean_p)
    covariance = factor * (product - mean_t * mean_p)
    if clamp:
        var_t, var_p = tf.maximum(var_t, 0.0), tf.maximum(var_p, 0.0)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2.0 * mean_t * mean_p + c1) / (mean_t**2 + mean_p**2 + c1)
    structure = (2.0 * covariance + c2) / (var_t + var_p + c2)
    return tf.reshape(tf.cast(tf.reduce_mean(luminance * structure, axis=[1, 2, 3]), tf.float32), lead)


def _filter(images, window):
    """Separable valid filtering of [N, H, W, C], by shifted sums: exact in float64 on any device."""
    for axis in (1, 2):
        size = tf.shape(images)[axis] - len(window) + 1
        positions = [slice(None)] * 4
        total = 0.0
        for offset, weight in enumerate(window):
            positions[axis] = slice(offset, offset + size)
            total += float(weight) * images[tuple(positions)]
        images = total
    return images


@register("metric", "ssim")
class SSIM(VideoMetric):
    """`tf.image.ssim` of clipped predictions: tfvp's default."""

    convention = "tf.image.ssim: Gaussian window 11, sigma 1.5, range 1, valid region; prediction clipped to [0, 1]"
    smallest_side = len(GAUSSIAN)

    def per_frame(self, true, pred):
        return tf.image.ssim(true, tf.clip_by_value(pred, 0.0, 1.0), max_val=1.0)


class _UniformSSIM(VideoMetric):
    """scikit-image's default SSIM: 7x7 uniform window, sample covariance, border of 3 cropped."""

    smallest_side = len(UNIFORM)
    data_range = 2.0
    clip = True

    def per_frame(self, true, pred):
        pred = tf.clip_by_value(pred, 0.0, 1.0) if self.clip else pred
        return similarity(true, pred, UNIFORM, self.data_range, unbiased=True)


@register("metric", "ssim_skimage7_L2")
class OpenSTLSSIM(_UniformSSIM):
    """The SSIM of OpenSTL, SimVP and IAM4VP."""

    convention = (
        "scikit-image's default on float: 7x7 uniform window, sample covariance, range 2; prediction clipped to [0, 1]"
    )


@register("metric", "ssim_skimage7_L2_unclipped")
class LegacySSIM(_UniformSSIM):
    """The SSIM of SVG, CW-VAE and HTSR."""

    convention = (
        "scikit-image's default on float: 7x7 uniform window, sample covariance, range 2; prediction not clipped"
    )
    clip = False


@register("metric", "ssim_skimage7_L1")
class UniformSSIM(_UniformSSIM):
    """scikit-image's SSIM with the range that the data have."""

    convention = "scikit-image with range 1: 7x7 uniform window, sample covariance; prediction clipped to [0, 1]"
    data_range = 1.0


@register("metric", "ssim_finn")
class FinnSSIM(VideoMetric):
    """The SSIM of Finn et al. 2016, defined in SVG's code."""

    convention = "Gaussian window 11, sigma 1.5, population covariance, range 1, valid region; prediction not clipped"
    smallest_side = len(GAUSSIAN)

    def per_frame(self, true, pred):
        return similarity(true, pred, GAUSSIAN, 1.0)


@register("metric", "ssim_torchmetrics")
class TorchmetricsSSIM(VideoMetric):
    """The SSIM of torchmetrics from 1.5 on. Up to 1.4 it left out the borders, so that it was `ssim`."""

    convention = (
        "torchmetrics: Gaussian window 11, sigma 1.5, reflected borders, full map, range 1;"
        " prediction clipped to [0, 1]"
    )
    smallest_side = len(GAUSSIAN) // 2 + 1

    def per_frame(self, true, pred):
        return similarity(true, tf.clip_by_value(pred, 0.0, 1.0), GAUSSIAN, 1.0, reflect=True, clamp=True)


@register("metric", "ssim_openstl_cv2_255")
class MisscaledSSIM(VideoMetric):
    """OpenSTL's own SSIM function, with constants for 0 ... 255 applied to [0, 1]."""

    convention = (
        "Gaussian window 11, sigma 1.5, valid region, constants for range 255 on data in [0, 1]; prediction clipped"
    )
    broken = "constants for a range of 255 swamp data in [0, 1]: everything scores about 1"
    smallest_side = len(GAUSSIAN)

    def per_frame(self, true, pred):
        return similarity(true, tf.clip_by_value(pred, 0.0, 1.0), GAUSSIAN, 255.0)
