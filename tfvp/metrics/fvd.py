"""Frechet and kernel video distance (Unterthiner et al. 2018, arXiv 1812.01717), on I3D's Kinetics-400 logits."""

import numpy as np

from tfvp import weights
from tfvp.errors import UserError
from tfvp.metrics import i3d
from tfvp.metrics.base import SetMetric
from tfvp.metrics.student import t_quantile
from tfvp.registry import register

FEWEST_FRAMES = 10
ENOUGH_CLIPS = 400  # below, the covariance of 400 logits is singular, and the bias does not fall as 1/N
SIZES, MOST_DRAWS = 8, 10  # numbers of clips that the extrapolation is fitted to, and subsets of each
SEED = 0  # of the subsets


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


def distance_of_sets(true, pred):
    """`frechet_distance` of the Gaussians fitted to features [N, D] and [M, D], with unbiased covariances.

    With C1 = X'X and C2 = Y'Y, the trace of (C1^(1/2) C2 C1^(1/2))^(1/2) is the sum of the singular
    values of XY', a matrix that is as small as the number of clips or of features.
    """
    root_t, root_p = _root(true), _root(pred)
    overlap = np.linalg.svd(root_t @ root_p.T, compute_uv=False).sum()
    means = np.sum((true.mean(axis=0) - pred.mean(axis=0)) ** 2)
    return float(means + np.sum(root_t**2) + np.sum(root_p**2) - 2.0 * overlap)


def _root(features):
    """X [min(N, D), D] such that X'X is the unbiased covariance of features [N, D]."""
    centred = (features - features.mean(axis=0)) / np.sqrt(max(len(features) - 1, 1))
    return centred if len(centred) <= centred.shape[1] else np.linalg.qr(centred, mode="r")


def extrapolated(true, pred):
    """The Frechet distance at infinitely many clips (Chong and Forsyth 2020, arXiv 1911.07023).

    The bias of the distance falls as 1/N where N is large against the features, so a line in
    1/N through the distances of random subsets of N/2 to N clips is read off at 0. With fewer
    clips than features the distance bends in 1/N, and bias remains in this number too.

    Args:
        true, pred: [N, D] float64; a subset takes the same clips of both.

    Returns:
        {"mean": float, "clips": the sizes, "values": the distances at these sizes, of fewer clips means over subsets}.
    """
    random, count = np.random.default_rng(SEED), len(true)
    sizes = np.unique(np.rint(1.0 / np.linspace(2.0 / count, 1.0 / count, SIZES)).astype(int))
    draws = max(1, min(MOST_DRAWS, 2000 // count))
    values = []
    for size in sizes:
        subsets = [random.choice(count, size, replace=False) for _ in range(draws if size < count else 1)]
        values.append(np.mean([distance_of_sets(true[subset], pred[subset]) for subset in subsets]))
    return {
        "mean": float(np.polyfit(1.0 / sizes, values, 1)[1]),
        "clips": [int(size) for size in sizes],
        "values": [float(value) for value in values],
    }


def real_floor(true):
    """The Frechet distance between two random halves of the truth.

    Returns:
        {"mean": float, "clips": of each half}: what a perfect model would score with so many clips.
    """
    order, half = np.random.default_rng(SEED).permutation(len(true)), len(true) // 2
    return {"mean": distance_of_sets(true[order[:half]], true[order[half : 2 * half]]), "clips": half}


class _OfLogits(SetMetric):
    """A distance between the I3D logits of true and predicted clips.

    Args:
        horizon, name: as in `tfvp.metrics.base.SetMetric`.

    It has the attributes of `SetMetric`, and one of its own.

    Attributes:
        half_pixel_centers: how frames are resized; see `tfvp.metrics.i3d.resized`.

    Raises:
        UserError: fewer than 10 frames, which I3D cannot take.
    """

    needs_weights = ("i3d",)
    channels = (1, 3)
    size = 400
    fewest_frames = FEWEST_FRAMES
    half_pixel_centers = False
    feature_key = ("i3d", False)

    def __init__(self, horizon, name=None):
        if horizon < self.fewest_frames:
            raise UserError(
                f"{self.registered_name} of {horizon} frames is not defined: I3D takes at least {self.fewest_frames}"
                "; predict more frames or leave the metric out"
            )
        super().__init__(horizon, name)

    def features(self, video):
        """I3D logits [B, 400] of [B, T, H, W, C] in [0, 1]."""
        return i3d.graph(self.half_pixel_centers)(i3d.as_rgb(video))

    def provenance(self):
        return {"network": "I3D, Kinetics-400, RGB", "weights_sha256": weights.checksum(weights.find("i3d"))}


class _FVD(_OfLogits):
    """Frechet distance; it depends on the number of clips and of frames, which are reported beside it."""

    def distance(self, true, pred):
        return distance_of_sets(true, pred)

    def reliability(self, true, pred):
        """{"floor": see `real_floor`, "extrapolated": see `extrapolated`, "note": a warning, with few clips}."""
        if len(true) < 4:
            return {}
        floor, infinite = real_floor(true), extrapolated(true, pred)
        result = {"floor": floor, "extrapolated": infinite}
        if len(true) < ENOUGH_CLIPS:
            result["note"] = (
                f"{self.name} of {len(true)} clips is biased upwards: two halves of the truth, {floor['clips']} clips"
                f" each, are {floor['mean']:.1f} apart already, and extrapolated to infinitely many clips it is"
                f" {infinite['mean']:.1f}. Compare it only with numbers of as many clips, or take"
                f" {ENOUGH_CLIPS} or more."
            )
        return result


_RESIZED = "224 x 224 as in the reference (bilinear, TensorFlow 1's grid without half-pixel centres)"


@register("metric", "fvd")
class FVD(_FVD):
    """FVD of the predicted frames alone."""

    convention = (
        f"I3D Kinetics-400 logits of the predicted frames, resized to {_RESIZED}, averaged over time; "
        "one sample per clip"
    )


@register("metric", "fvd_with_context")
class FVDWithContext(_FVD):
    """FVD of whole clips: the true context stands before the truth and before the prediction."""

    convention = "as fvd, of clips with the observed frames before the predicted ones (SRVP and others)"
    with_context = True


@register("metric", "fvd_half_pixel")
class HalfPixelFVD(_FVD):
    """FVD with frames resized as TensorFlow 2 and PyTorch do, which moves the logits of textured clips."""

    convention = "as fvd, with frames resized to 224 x 224 bilinearly on half-pixel centres; not the reference's number"
    half_pixel_centers = True
    feature_key = ("i3d", True)


def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _of_pairs(true, pred):
    """h [N, N] of two clips each, whose mean off the diagonal, which is 0, is the distance."""
    across = _kernel(true, pred)
    pairs = _kernel(true, true) + _kernel(pred, pred) - across - across.T
    np.fill_diagonal(pairs, 0.0)
    return pairs


def kernel_distance(true, pred):
    """Unbiased squared maximum mean discrepancy of features [N, D] of the same N clips, float64.

    The kernel is (x . y / D + 1)^3, that of the kernel inception distance (Binkowski et al. 2018, arXiv 1801.01401);
    the estimator is the one of pairs (x_i, y_i) (Gretton et al. 2012, "A Kernel Two-Sample Test", equation 4). A
    clip's prediction depends on its truth, so that a mean with these N products of their own would be biased.
    """
    return float(_of_pairs(true, pred).sum() / (len(true) * (len(true) - 1)))


def kernel_distance_error(true, pred):
    """The standard error of `kernel_distance`, by the jackknife over clips."""
    count, pairs = len(true), _of_pairs(true, pred)
    left_out = (pairs.sum() - 2.0 * pairs.sum(axis=0)) / ((count - 1) * (count - 2))
    return float(np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean()) ** 2)))


class _KVD(_OfLogits):
    fewest_clips = 8

    def distance(self, true, pred):
        return kernel_distance(true, pred)

    def reliability(self, true, pred):
        """{"standard_error": of the number, by the jackknife over clips, "interval": [low, high], 95 %}."""
        error = kernel_distance_error(true, pred)
        half = t_quantile(len(true) - 1) * error
        mean = kernel_distance(true, pred)
        return {"standard_error": error, "interval": [mean - half, mean + half], "ci95": half}


@register("metric", "kvd")
class KVD(_KVD):
    """Kernel video distance of the predicted frames: unlike FVD it is unbiased, whatever the number of clips."""

    convention = (
        "unbiased MMD^2 of the logits that fvd compares, without a clip's truth against its own prediction, kernel"
        " (x.y / 400 + 1)^3; one sample per clip"
    )


@register("metric", "kvd_with_context")
class KVDWithContext(_KVD):
    """Kernel video distance of whole clips, the true context before the truth and before the prediction."""

    convention = "as kvd, of the logits that fvd_with_context compares"
    with_context = True
