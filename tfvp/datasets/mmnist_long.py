"""Long Moving MNIST, as CW-VAE (Saxena, Ba and Hafner, NeurIPS 2021, arXiv 2102.09532) and HTSR use it."""

import typing

import numpy as np

from tfvp.datasets import base, digits
from tfvp.pipeline import dealing, listing
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

_INFO = base.DatasetInfo(
    description="Two MNIST digits that move straight at 2 to 6 pixels per frame and bounce, for hundreds of frames.",
    homepage="https://archive.org/details/moving_mnist",
    licence="digits: MNIST by LeCun, Cortes and Burges, CC BY-SA 3.0",
    fps=None,
    download=(
        "nothing is needed; for the published clips unpack"
        " https://archive.org/download/moving_mnist/moving_mnist_2digit.zip into data.root"
    ),
    layout="Moving Mnist/train-seq100/*.avi or *.mp4 of 100 frames and Moving Mnist/test-seq1000/ of 1,000 (optional)",
    context=36,
    horizon=300,
)
_FOLDERS = {"train": "train-seq100", "test": "test-seq1000"}


class _Generated(digits.MovingDigits):
    """Clips that are drawn. The data set's name seeds them, so both kinds have the same one."""

    counts = {"train": 20_000, "validation": 500, "test": 1_000}
    slowest, fastest = 2.0, 6.0  # pixels per frame, at 64x64
    registered_name = "mmnist_long"
    info = _INFO

    def clip_lengths(self, split):
        return np.full(self.counts[split], 100 if split == "train" else 1000, np.int64)

    def paths(self, random, frames):
        start = np.stack([random.uniform(), random.uniform()], axis=-1)
        angle = random.uniform(0.0, 2.0 * np.pi)
        pixels = random.uniform(self.slowest, self.fastest) * self.scale
        velocity = pixels[..., None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        free = np.array(self.canvas) - self.patch
        return self.in_pixels(digits.straight_paths(start, velocity / free, frames))


class _Published(base.FileDataset):
    """The published folder of files."""

    registered_name = "mmnist_long"
    info = _INFO

    @property
    def is_there(self):
        """Whether there is anything to read: files in both folders, or frames that were decoded from them."""
        # Decoded frames first: to look for the folders of an object store is to fetch all of it.
        return bool(self.settings.root) and (self.store.manifest_path.exists() or len(self._folders()) == len(_FOLDERS))

    def _folders(self):
        """{split: folder} of those that are there."""
        found = {split: listing.find_folder(self.settings.folder, name) for split, name in _FOLDERS.items()}
        return {split: folder for split, folder in found.items() if folder}

    def sources(self):
        sources = []
        for split, folder in self._folders().items():
            paths = {path.relative_to(folder.parent).as_posix(): path for path in listing.videos(folder)}
            sources += [Source(name, split, path) for name, path in paths.items()]
        return dealing.Deal({"validation": 0.05}).out(sources)


@register("dataset", "mmnist_long")
class MovingMNISTLong(base.VideoDataset):
    """Moving MNIST of long clips: the published files if `data.root` holds or held them, else drawn ones.

    Drawn: 20,000 training clips of 100 frames in a pass, new ones in each epoch; 1,000 test and
    500 validation clips of 1,000 frames, always the same. Digits start anywhere in a random
    direction, at a speed drawn uniformly from 2 to 6 pixels per frame (on a canvas of 64), and
    bounce as in `moving_mnist`; where they overlap, the brighter wins. Test clips show MNIST's
    test digits, validation clips training digits that are held out from training.

    Published: one file a clip, below folders train-seq100 and test-seq1000. A twentieth of the
    training files, by a hash of their names, are the validation split; they have 100 frames. Once they are
    decoded, their frames are used even if the files are gone, until `tfvp data --cache --remove` drops them.

    Args:
        settings: `base.Settings`. Drawn clips: image sizes that divide 64 are shrunk by area,
            others get digits and speeds in proportion to the shorter side. Files are resized by area.
        num_digits: digits in a drawn clip.
        digits: auto = the MNIST files in `data.root`, else the digits that ship with tfvp;
            embedded = the latter; mnist = the former, else Keras's download.
    """

    info = _INFO

    def __init__(self, settings, num_digits: int = 2, digits: typing.Literal["auto", "embedded", "mnist"] = "auto"):
        super().__init__(settings, num_digits=num_digits, digits=digits)
        published = _Published(settings)
        self._clips = published if published.is_there else _Generated(settings, num_digits, digits)
        self.endless = self._clips.endless

    def prepare(self, progress=True):
        self._clips.prepare(progress)

    def prune(self, progress=True):
        self._clips.prune(progress)

    def clip_lengths(self, split):
        return self._clips.clip_lengths(split)

    def read(self, split, clips, starts, length, stride=1):
        return self._clips.read(split, clips, starts, length, stride)

    def clip_names(self, split, clips):
        return self._clips.clip_names(split, clips)

    def clip_sources(self, split, clips):
        return self._clips.clip_sources(split, clips)

    def check(self, progress=True):
        return self._clips.check(progress)

    def notes(self):
        more = [] if isinstance(self._clips, _Published) else [self.info.download]
        return [*self._clips.notes(), *more]
