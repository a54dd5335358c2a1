"""Stochastic Moving MNIST: the reference's trajectories, from its own draws."""

import json

import numpy as np
import pytest

from tests import layouts
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
    folder = layouts.golden("svg")
    case = json.loads((folder / f"smmnist_{variant}.json").read_text())
    reference = np.load(folder / f"smmnist_{variant}.npz")
    frames, count = case["hyper"]["seq_len"], case["hyper"]["num_digits"]
    patches = np.random.RandomState(case["seed"] * 1000 + 900).uniform(0, 1, (10, 32, 32)).astype(np.float32)
    recorded = Recorded(reference["draws"].tolist())
    chosen, paths = [], []
    for _ in range(count):
        chosen.append(patches[recorded.integers(0, 10)[0]])
        paths.append(stochastic_mnist.bouncing_paths(recorded, frames, deterministic=variant == "deterministic"))
    assert not recorded.draws, "draws were left over"
    corners = np.concatenate(paths, axis=1)[None]
    assert corners.min() >= 0 and corners.max() <= 31
    video = digits.draw(np.stack(chosen)[None], corners[..., 0], corners[..., 1], (64, 64), add=True)[0, ..., None]
    assert list(video.shape) == reference["frames.shape"].tolist()
    size, step = reference["frames.stat"][:2].astype(int)
    assert video.size == size
    np.testing.assert_allclose(video.ravel()[::step], reference["frames.sub"], atol=1e-6)
    np.testing.assert_allclose(video.sum((1, 2, 3)), reference["frame_sums"], rtol=1e-5)
    statistics = [video.mean(), video.std(), np.abs(video).sum()]
    np.testing.assert_allclose(statistics, reference["frames.stat"][2:], rtol=1e-5)
