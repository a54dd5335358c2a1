"""Moving MNIST, as Srivastava, Mansimov and Salakhutdinov made it (ICML 2015, arXiv 1502.04681)."""

import typing

import numpy as np

from tfvp.datasets import base, digits
from tfvp.errors import UserError
from tfvp.registry import register

TEST_FILE = "mnist_test_seq.npy"
STEP = 0.1  # of the free range, per frame: 3.6 pixels at 64x64


@register("dataset", "moving_mnist")
class MovingMNIST(digits.MovingDigits):
    """Digits that fly straight at 3.6 pixels per frame and bounce; where they overlap, the brighter wins.

    Training clips are drawn anew in each epoch. The test split is the published file
    mnist_test_seq.npy if `data.root` holds it, else 10,000 clips drawn from MNIST's test digits,
    always the same; validation is 2,000 clips drawn from digits that training never shows.
    `sets` chooses other sets.

    A digit starts at a random place of the free range (the canvas less the digit) in a random
    direction. In each frame it first moves by a tenth of that range, and bounces; its corner is
    the truncated position. On a canvas that is not square the range, and so the speed, differs
    between rows and columns.

    Args:
        settings: `base.Settings`. Image sizes that divide 64 are drawn at 64x64 and shrunk by
            area; other sizes get digits in proportion to the shorter side.
        clip_length: frames in a drawn clip.
        num_digits: digits in a drawn clip.
        digits: auto = the MNIST files in `data.root`, else the digits that ship with tfvp;
            embedded = the latter; mnist = the former, else Keras's download.
        sets: drawn = as above; notebook = three fixed sets that are parts of the test split's 10,000 clips, as in
            the PyTorch-Lightning next-frame notebook: the first 7,200 train, the next 800 validate, the last 2,000
            test. Clips of all three show the same digits.
    """

    info = base.DatasetInfo(
        description="Two MNIST digits that move straight and bounce: 10 frames in, 10 out.",
        homepage="https://www.cs.toronto.edu/~nitish/unsupervised_video/",
        licence="digits: MNIST by LeCun, Cortes and Burges, CC BY-SA 3.0",
        fps=None,
        download=(
            "nothing is needed; for the published test set put mnist_test_seq.npy from"
            " https://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy into data.root"
        ),
        layout="mnist_test_seq.npy, uint8 [20, 10000, 64, 64] (optional); MNIST's IDX files or mnist.npz (optional)",
        context=10,
        horizon=10,
    )
    published_test_file = TEST_FILE
    counts = {"train": 10_000, "validation": 2_000, "test": 10_000}

    def __init__(
        self,
        settings,
        clip_length: int = 20,
        num_digits: int = 2,
        digits: typing.Literal["auto", "embedded", "mnist"] = "auto",
        sets: typing.Literal["drawn", "notebook"] = "drawn",
    ):
        super().__init__(settings, num_digits, digits, clip_length=clip_length, sets=sets)
        if clip_length < 1:
            raise UserError(f"data.clip_length={clip_length} must be at least 1")
        self.sets = sets
        self.endless = self.is_drawn({"sets": sets})
        self._published = None
        path = self.published_test_file and self.folder and self.folder / self.published_test_file
        # With a margin this is what training clips are drawn by, and nobody is tested on it.
        if path and path.is_file() and (sets == "notebook" or not settings.margin):
            self._published = _open_published(path)
            if self.factor == 1 and self.canvas != (64, 64):
                advice = "data.crop_margin to 0" if settings.margin else "data.image_size to 64, 32 or 16"
                raise UserError(
                    f"{path} has frames of 64x64, which cannot be shrunk to {list(settings.image_size)}; set {advice}"
                )

    @classmethod
    def is_drawn(cls, options):
        return options.get("sets", "drawn") == "drawn"

    def prepare(self, progress=True):
        super().prepare(progress)
        expected = self.settings.root and self.published_test_file and not self.settings.margin
        if expected and self._published is None:
            self.warn_once(f"{TEST_FILE} is not in data.root, so the test split is generated")

    def notes(self):
        drawn = f"drawn; {self.info.download}"
        clips = drawn if self._published is None else f"{TEST_FILE} in {self.settings.root}"
        which = "test split" if self.sets == "drawn" else "all splits"
        return [*super().notes(), f"{which}: {clips}"]

    def _in_test_clips(self, split):
        """The range of numbers that a split's clips have in the published or drawn test set; None if in neither."""
        count = self.counts["test"] if self._published is None else self._published.shape[1]
        if self.sets == "drawn":
            return range(count) if split == "test" else None
        ends = {"train": (0, 72), "validation": (72, 80), "test": (80, 100)}[split]
        return range(*(count * percent // 100 for percent in ends))

    def clip_names(self, split, clips):
        fixed = self._in_test_clips(split)
        if fixed is None:
            return super().clip_names(split, clips)
        numbers = fixed.start + np.asarray(clips)
        if self._published is None:
            return super().clip_names("test", numbers)
        return [f"{TEST_FILE}#{n}" for n in numbers]

    def clip_lengths(self, split):
        fixed = self._in_test_clips(split)
        if fixed is None:
            return np.full(self.counts[split], self.options["clip_length"], np.int64)
        length = self.options["clip_length"] if self._published is None else self._published.shape[0]
        return np.full(len(fixed), length, np.int64)

    def read(self, split, clips, starts, length, stride=1):
        fixed = self._in_test_clips(split)
        if fixed is None:
            return super().read(split, clips, starts, length, stride)
        numbers = fixed.start + np.asarray(clips)
        if self._published is None:
            return super().read("test", numbers, starts, length, stride)
        frames = np.asarray(starts)[:, None] + np.arange(length) * stride
        pages = digits.shrink(self._published[frames, numbers[:, None]], self.factor)
        return {"video": np.repeat(pages[..., None], self.settings.channels, axis=-1)}

    def paths(self, random, frames):
        start = np.stack([random.uniform(), random.uniform()], axis=-1)
        angle = random.uniform(0.0, 2.0 * np.pi)
        velocity = STEP * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        return self.in_pixels(digits.straight_paths(start, velocity, frames))


def _open_published(path):
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); download it again") from error
    if array.ndim != 4 or array.dtype != np.uint8 or array.shape[2:] != (64, 64):
        actual = f"{array.dtype} {list(array.shape)}"
        raise UserError(f"{path} holds {actual}, not uint8 [20, 10000, 64, 64]; download it again")
    return np.asarray(array)
