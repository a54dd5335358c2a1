"""MNIST-CIFAR: moving digits before a photograph, OpenSTL's variant (arXiv 2306.11249)."""

import functools
import typing

import numpy as np

from tfvp.datasets import base, digits
from tfvp.datasets.moving_mnist import MovingMNIST
from tfvp.errors import UserError
from tfvp.pipeline import draws
from tfvp.registry import register

SIDE, RECORD = 32, 1 + 3 * 32 * 32
FILES = {"train": "data_batch_*.bin", "test": "test_batch.bin"}


@register("dataset", "mnist_cifar")
class MNISTCIFAR(MovingMNIST):
    """White digits that move as in `moving_mnist`, before one CIFAR-10 picture per clip, in colour.

    Digits are binarised (any ink is white); pictures are brought to the canvas by bilinear
    interpolation. Test clips show test digits before test pictures, validation clips held-out
    training ones.

    Args:
        settings: `base.Settings` with channels=3.
        clip_length: frames in a clip.
        num_digits: digits in a clip.
        digits: as in `moving_mnist`.
    """

    info = base.DatasetInfo(
        description="Two MNIST digits that move straight and bounce before a photograph.",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="digits: CC BY-SA 3.0; CIFAR-10: see the homepage",
        fps=None,
        download=(
            "unpack https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz into data.root,"
            " or leave it empty for Keras's download"
        ),
        layout="cifar-10-batches-bin/data_batch_{1..5}.bin and test_batch.bin (or Keras's download)",
        context=10,
        horizon=10,
    )
    channels = (3,)
    published_test_file = None

    def __init__(
        self,
        settings,
        clip_length: int = 20,
        num_digits: int = 2,
        digits: typing.Literal["auto", "embedded", "mnist"] = "auto",
    ):
        super().__init__(settings, clip_length, num_digits, digits)
        del self.options["sets"]
        self._backgrounds = functools.lru_cache(maxsize=3)(self._resized_pictures)

    def prepare(self, progress=True):
        super().prepare(progress)
        self._backgrounds("train")

    def generate(self, split, random, starts, length, stride):
        pages = super().generate(split, random, starts, length, stride)
        pictures = self._backgrounds(split)
        numbers = draws.Draws(draws.keys(random, "background")).integers(0, len(pictures))
        return np.maximum(np.where(pages > 1, np.uint8(255), pages), pictures[numbers][:, None])

    def _resized_pictures(self, split):
        from PIL import Image

        train, test = self._pictures()
        pictures = digits.Digits(train, test, "").of(split)
        size = self.settings.image_size[::-1]
        return np.stack([np.asarray(Image.fromarray(p).resize(size, Image.BILINEAR)) for p in pictures])

    def _pictures(self):
        """CIFAR-10's training and test pictures, uint8 [n, 32, 32, 3]."""
        root = self.folder
        paths = {split: sorted(root.rglob(name)) if root else [] for split, name in FILES.items()}
        if all(paths.values()):
            return tuple(np.concatenate([_read(path) for path in listed]) for listed in paths.values())
        from tensorflow import keras

        try:
            (train, _), (test, _) = keras.datasets.cifar10.load_data()
        except Exception as error:
            raise UserError(f"CIFAR-10 cannot be downloaded ({error}); {self.info.download}") from error
        return train, test


def _read(path):
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % RECORD:
        raise UserError(f"{path} has {len(content)} bytes, not a multiple of {RECORD}; download it again")
    return np.moveaxis(content.reshape(-1, RECORD)[:, 1:].reshape(-1, 3, SIDE, SIDE), 1, -1)
