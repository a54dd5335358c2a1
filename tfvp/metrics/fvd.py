"""Frechet and kernel video distance (Unterthiner et al. 2018, arXiv 1812.01717), on I3D's Kinetics-400 logits."""

import numpy as np
import tensorflow as tf

from tfvp import weights
from tfvp.errors import UserError
from tfvp.metrics import i3d
from tfvp.metrics.base import SetMetric
from tfvp.registry import register

FEWEST_FRAMES = 10


def frechet_distance(true, pred):
    """Squared Frechet distance of two Gaussians.

    Args:
        true, pred: (mean [D], covariance [D, D]), float64.

    Returns:
        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The trace of the root is that of
        (C1^(1/2) C2 C1^(1/2))^(1/2), whose argument is symmetric, so singular covariances
        (fewer clips than features) make no complex numbers.
    """
    (mean_t, cov_t), (mean_p, cov_p) = true, pred
    values, vectors = np.linalg.eigh(cov_t)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ cov_p @ root)
    overlap = np.sqrt(np.maximum(product, 0.0)).sum()
    return float(np.sum((mean_t - mean_p) ** 2) + np.trace(cov_t) + np.trace(cov_p) - 2.0 * overlap)


class _FVD(SetMetric):
    """Frechet distance of the I3D logits of true and predicted clips.

    One number for the whole set, with unbiased covariances; it depends on the number of clips
    and of frames, which are reported beside it.

    Args:
        horizon, name, allow_few: as in `tfvp.metrics.base.SetMetric`.

    Raises:
        UserError: fewer than 10 frames, which I3D cannot take.
    """

    needs_weights = ("i3d",)
    size = 400

    def __init__(self, horizon, name=None, allow_few=False):
        if horizon < FEWEST_FRAMES:
            raise UserError(
                f"{self.registered_name} of {horizon} frames is not defined, as I3D takes at least {FEWEST_FRAMES};"
                " raise --eval-seq-len or leave the metric out"
            )
        super().__init__(horizon, name, allow_few)

    def features(self, video):
        """I3D logits [B, 400] of [B, T, H, W, C] in [0, 1]."""
        return i3d.logits(video)

    def distance(self, true, pred):
        return frechet_distance(true, pred)

    def provenance(self):
        return {"network": "I3D, Kinetics-400, RGB", "weights_sha256": weights.checksum(weights.find("i3d"))}


@register("metric", "fvd")
class FVD(_FVD):
    """FVD of the predicted frames alone."""

    convention = (
        "I3D Kinetics-400 logits of the predicted frames, resized to 224 x 224 (bilinear), averaged over time; "
        "one sample per clip"
    )


@register("metric", "fvd_with_context")
class FVDWithContext(_FVD):
    """FVD of whole clips: the true context stands before the truth and before the prediction."""

    convention = "as fvd, of clips with the observed frames before the predicted ones (SRVP and others)"
    with_context = True


def kernel_distance(true, pred):
    """Unbiased squared maximum mean discrepancy of features [N, D] and [M, D], float64.

    The kernel is (x . y / D + 1)^3, that of the kernel inception distance (Binkowski et al.
    2018, arXiv 1801.01401).
    """

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(true, true), kernel(pred, pred))]
    return float(sum(within) - 2.0 * kernel(true, pred).mean())


@register("metric", "kvd")
class KVD(_FVD):
    """Kernel video distance of the predicted frames: unlike FVD it is unbiased, whatever the number of clips.

    It needs the features themselves, 400 numbers per clip and side, rather than their moments.
    """

    convention = "unbiased MMD^2 of the logits that fvd compares, kernel (x.y / 400 + 1)^3; one sample per clip"

    def __init__(self, horizon, name=None, allow_few=False):
        super().__init__(horizon, name, allow_few)
        self._features_of = {"true": [], "pred": []}

    def update_state(self, true, pred, mask=None):
        real = np.ones(len(true), bool) if mask is None else np.asarray(mask).max(axis=1) > 0
        for side, video in (("true", true), ("pred", pred)):
            logits = self.features(tf.clip_by_value(tf.cast(video, tf.float32), 0.0, 1.0))
            self._features_of[side].append(np.asarray(logits, np.float64)[real])
        self.moments["true"].count.assign_add(float(real.sum()))

    def reset_state(self):
        super().reset_state()
        self._features_of = {"true": [], "pred": []}

    def statistics(self, side):
        """The features themselves, [N, 400], which is what `distance` compares here."""
        return np.concatenate(self._features_of[side])

    def distance(self, true, pred):
        return kernel_distance(true, pred)
