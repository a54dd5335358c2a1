"""Frechet video distance (Unterthiner et al. 2018, arXiv 1812.01717), on I3D's Kinetics-400 logits."""

import numpy as np

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
        UserError: fewer than 10 frames, for which I3D was not made.
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
