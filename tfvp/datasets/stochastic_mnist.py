"""Stochastic Moving MNIST, as Denton and Fergus made it (ICML 2018, arXiv 1802.07687)."""

import typing

import numpy as np

from tfvp.datasets import base, digits
from tfvp.errors import UserError
from tfvp.registry import register

FASTEST = 4  # pixels per frame


@register("dataset", "stochastic_mnist")
class StochasticMNIST(digits.MovingDigits):
    """Digits of 32x32 that bounce off the walls in random directions; where they overlap, they add up.

    SVG draws every sequence afresh and so has no fixed test set; here the 10,000 test and 2,000
    validation clips are always the same, and training clips are drawn anew in each epoch. One
    pass is 60,000 clips, as many as MNIST has training digits.

    Args:
        settings: `base.Settings`. Image sizes that divide 64 are drawn at 64x64 and shrunk by
            area. Any other size is a canvas of its own, with digits of half its shorter side
            and the same speeds of up to 4 pixels per frame.
        clip_length: frames in a clip.
        num_digits: 1 or 2 in the paper.
        deterministic: bounce like light off a mirror instead.
        digits: auto = the MNIST files in `data.root`, else the digits that ship with tfvp;
            embedded = the latter; mnist = the former, else Keras's download.
    """

    info = base.DatasetInfo(
        description="MNIST digits that leave a wall in a random direction: the future is uncertain.",
        homepage="https://arxiv.org/abs/1802.07687",
        licence="digits: MNIST by LeCun, Cortes and Burges, CC BY-SA 3.0",
        fps=None,
        download="nothing is needed; for all of MNIST put its four IDX files or mnist.npz into data.root",
        layout="MNIST's IDX files or mnist.npz (optional)",
        context=5,
        horizon=10,
    )
    counts = {"train": 60_000, "validation": 2_000, "test": 10_000}
    patch_size = 32
    add = True

    def __init__(
        self,
        settings,
        clip_length: int = 30,
        num_digits: int = 2,
        deterministic: bool = False,
        digits: typing.Literal["auto", "embedded", "mnist"] = "auto",
    ):
        super().__init__(settings, num_digits, digits, clip_length=clip_length, deterministic=deterministic)
        if clip_length < 1:
            raise UserError(f"data.clip_length={clip_length} must be at least 1")

    def clip_lengths(self, split):
        return np.full(self.counts[split], self.options["clip_length"], np.int64)

    def paths(self, random, frames):
        free = [side - self.patch for side in self.canvas]
        return bouncing_paths(random, frames, free, self.options["deterministic"])


def bouncing_paths(random, frames, free=(32, 32), deterministic=False):
    """Paths of digits: corners [frames, ..., 2] (row, column) of integers, `...` the shape of the draws.

    In each frame the walls are looked at first (top and bottom, then left and right), then the
    corner is recorded, then the digit moves. A digit outside is put back to the first or last
    place inside, and both components of its velocity are drawn again, that of the wall away from
    it. A second wall in the same frame draws them once more, so the digit may head for the first
    wall again. A velocity component may be 0.

    Args:
        random: source of draws with `integers(low, high, where)`, asked in the order: column,
            row, column velocity, row velocity; then at a wall its own component, the other one.
        frames: how many frames.
        free: (rows, columns) that a corner can be in: 0 ... rows - 1.
        deterministic: at a wall, change the sign of the component that hit it instead.

    Returns:
        int64 [frames, ..., 2].
    """
    # Columns are drawn first, while the row is component 0 of everything that is kept.
    place = [random.integers(0, free[axis]) for axis in (1, 0)][::-1]
    speed = [random.integers(-FASTEST, FASTEST + 1) for _ in range(2)][::-1]
    path = np.empty((frames, *place[0].shape, 2), np.int64)
    for t in range(frames):
        for axis in (0, 1):
            low, high = place[axis] < 0, place[axis] >= free[axis]
            hit = low | high
            place[axis] = np.clip(place[axis], 0, free[axis] - 1)
            if deterministic:
                speed[axis] = np.where(hit, -speed[axis], speed[axis])
                continue
            away = random.integers(np.where(low, 1, -FASTEST), np.where(low, FASTEST + 1, 0), where=hit)
            along = random.integers(-FASTEST, FASTEST + 1, where=hit)
            speed[axis] = np.where(hit, away, speed[axis])
            speed[1 - axis] = np.where(hit, along, speed[1 - axis])
        path[t, ..., 0], path[t, ..., 1] = place
        place = [place[0] + speed[0], place[1] + speed[1]]
    return path
