"""Stochastic Moving MNIST: the reference's trajectories, from its own draws."""

import numpy as np
import pytest

from tests import golden
from tfvp.datasets import digits, stochastic_mnist


class Recorded:
    """Hands out recorded draws, and insists on the order and the bounds in which they were made."""

    def __init__(self, draws):
        self.draws = list(draws)

    def integers(self, low, high, where=None):
        if where is not None and not where.item():
            return np.zeros(1, np.int64)
        expected_low, expected_high, value = self.draws.pop(0)
        assert (np.asarray(low).item(), np.asarray(high).item()) == (expected_low, expected_high)
        return np.array([value], np.int64)


@pytest.mark.parametrize("variant", ["stochastic", "deterministic"])
def test_trajectories_and_frames(variant):
    case = golden.case("svg", f"smmnist_{variant}")
    hyper, draws = case.hyper, case.outputs["draws"].tolist()
    # The first draw picks one of the digits, the second a column among those where a digit fits.
    (_, count, _), (_, free, _) = draws[:2]
    size = hyper["image_size"]
    patches = case.draw("uniform", 0, (count, size - free, size - free))
    recorded = Recorded(draws)
    labels, paths = [], []
    for _ in range(hyper["num_digits"]):
        labels.append(recorded.integers(0, count)[0])
        paths.append(
            stochastic_mnist.bouncing_paths(recorded, hyper["seq_len"], (free, free), variant == "deterministic")
        )
    assert not recorded.draws, "draws were left over"
    corners = np.concatenate(paths, axis=1)[None]
    assert corners.min() >= 0 and corners.max() < free
    video = digits.draw(patches[labels][None], corners[..., 0], corners[..., 1], (size, size), add=True)[0, ..., None]
    case.check("frames", video, atol=1e-6)
    case.check("frame_sums", video.sum((1, 2, 3)), rtol=1e-5)
    statistics = [video.mean(), video.std(), np.abs(video).sum()]
    np.testing.assert_allclose(statistics, case.outputs["frames.stat"][2:], rtol=1e-5)
