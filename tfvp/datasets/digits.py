"""MNIST digits, and the code that data sets of moving digits share.

A part of MNIST ships with the package (tfvp/data/README.md); the whole of it is used where the
user has it. The last tenth of the training digits is held out: validation clips show digits
that no training clip shows, and test clips show MNIST's test digits.
"""

import functools
import gzip
import pathlib
import struct
import typing
import zipfile
import zlib

import numpy as np

from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import draws

EMBEDDED = pathlib.Path(__file__).resolve().parent.parent / "data" / "mnist_digits.npz"
SIZE = 28
_IDX = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
_HOW_TO_GET = (
    "put the four IDX files of MNIST (train-images-idx3-ubyte and so on, .gz or not) or Keras's mnist.npz"
    " into data.root, or set data.digits=embedded"
)


class Digits(typing.NamedTuple):
    """Digit images.

    Attributes:
        train: uint8 [n, 28, 28].
        test: uint8 [m, 28, 28].
        source: one sentence, which digits these are.
    """

    train: np.ndarray
    test: np.ndarray
    source: str

    def of(self, split):
        """The images for clips of a split."""
        if split == "test":
            return self.test
        held_out = len(self.train) // 10
        return self.train[-held_out:] if split == "validation" else self.train[:-held_out]


@functools.lru_cache(maxsize=4)
def load_digits(root="", choice="auto"):
    """Reads digits.

    Args:
        root: a folder that may hold MNIST, as IDX files or mnist.npz; "" = none.
        choice: "auto" = what `root` holds, else the embedded ones; "embedded"; "mnist" = what
            `root` holds, else Keras's download.

    Returns:
        `Digits`.

    Raises:
        UserError: "mnist", and it cannot be had; or files that are not MNIST's.
    """
    if choice != "embedded" and root:
        own = _from_folder(pathlib.Path(root).expanduser())
        if own:
            return own
    if choice == "mnist":
        return _from_keras()
    with np.load(EMBEDDED, allow_pickle=False) as archive:
        train, test = archive["train_images"], archive["test_images"]
    return Digits(train, test, f"{len(train):,} training and {len(test):,} test digits of MNIST that ship with tfvp")


@functools.lru_cache(maxsize=2)
def load_pictures(name, root, how_to_get):
    """Reads another data set of MNIST's form.

    Args:
        name: of the module in `keras.datasets`.
        root: a folder that may hold its IDX files; "" = none.
        how_to_get: what to do where it cannot be had.

    Returns:
        `Digits`.

    Raises:
        UserError: it cannot be had.
    """
    own = _from_folder(pathlib.Path(root).expanduser()) if root else None
    if own:
        return own._replace(source=own.source.replace("digits of MNIST", "pictures").replace("test digits", "test"))
    from tensorflow import keras

    try:
        (train, _), (test, _) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        raise UserError(f"{name} cannot be downloaded ({error}); {how_to_get}") from error
    return _checked(train, test, "Keras's download")


def _from_folder(root):
    archive = root / "mnist.npz"
    try:
        if archive.is_file():
            with np.load(archive, allow_pickle=False) as arrays:
                return _checked(arrays["x_train"], arrays["x_test"], archive)
        paths = [_idx_path(root, name) for name in _IDX]
        if all(paths):
            return _checked(*(_read_idx(path) for path in paths), root)
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile, struct.error) as error:
        raise UserError(f"the MNIST files in {root} are damaged ({error}); {_HOW_TO_GET}") from error
    return None


def _checked(train, test, place):
    for images in (train, test):
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIZE, SIZE) or len(images) < 10:
            actual = f"{images.dtype} {list(images.shape)}"
            raise UserError(f"the digits in {place} are {actual}, not uint8 [n, 28, 28]; {_HOW_TO_GET}")
    return Digits(train, test, f"{len(train):,} training and {len(test):,} test digits of MNIST from {place}")


def _idx_path(root, name):
    names = [name + suffix for name in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    return next((root / n for n in names if (root / n).is_file()), None)


def _read_idx(path):
    """Images of an IDX file: big-endian magic number 2051, count, height, width, then bytes."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        magic, count, height, width = struct.unpack(">IIII", file.read(16))
        if magic != 2051:
            raise ValueError(f"{path.name} has the magic number {magic}, not 2051")
        return np.frombuffer(file.read(), np.uint8).reshape(count, height, width)


def _from_keras():
    from tensorflow import keras

    try:
        (train, _), (test, _) = keras.datasets.mnist.load_data()
    except Exception as error:
        raise UserError(f"MNIST cannot be downloaded ({error}); {_HOW_TO_GET}") from error
    return _checked(train, test, "Keras's download")


def draw(patches, rows, columns, canvas, add=False):
    """Draws patches onto black frames.

    Args:
        patches: [N, D, p, p] uint8 in [0, 255], or floats in [0, 1].
        rows, columns: integers [N, T, D], the place of each patch's top left corner.
        canvas: (height, width) of the frames.
        add: whether overlapping patches add up, at most to white; else the brighter wins.

    Returns:
        [N, T, height, width] of the patches' type.
    """
    clips, frames, digits = rows.shape
    size = patches.shape[-1]
    pages = np.zeros((clips * frames, *canvas), patches.dtype)
    places = np.lib.stride_tricks.sliding_window_view(pages, (size, size), axis=(1, 2), writeable=True)
    white = 255 if patches.dtype == np.uint8 else 1
    for digit in range(digits):
        index = (np.arange(len(pages)), rows[..., digit].ravel(), columns[..., digit].ravel())
        patch = np.repeat(patches[:, digit], frames, axis=0)
        if digit:
            below = places[index]
            patch = below + np.minimum(patch, white - below) if add else np.maximum(below, patch)
        places[index] = patch
    return pages.reshape(clips, frames, *canvas)


def straight_paths(position, velocity, frames):
    """Paths of points that fly straight and bounce off the sides of the unit square.

    In each frame a point first moves; on or past a side it is put onto that side, and the
    component of its velocity that led there changes sign.

    Args:
        position: float64 [..., 2] in [0, 1], before the first frame.
        velocity: float64 [..., 2], per frame.
        frames: how many frames.

    Returns:
        float64 [frames, ..., 2].
    """
    path = np.empty((frames, *position.shape))
    for t in range(frames):
        position = position + velocity
        velocity = np.where((position <= 0) | (position >= 1), -velocity, velocity)
        position = path[t] = np.clip(position, 0.0, 1.0)
    return path


def shrink(frames, factor):
    """uint8 [..., H, W] to [..., H / factor, W / factor]; each pixel is the rounded mean of its area."""
    if factor == 1:
        return frames
    total = np.zeros((*frames.shape[:-2], frames.shape[-2] // factor, frames.shape[-1] // factor), np.uint16)
    for row in range(factor):
        for column in range(factor):
            total += frames[..., row::factor, column::factor]
    return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)


class MovingDigits(base.GeneratedDataset):
    """Digits that move over a black canvas of 64x64 pixels.

    An author sets `counts` and `patch_size` and writes `clip_lengths` and `paths`.

    Image sizes that divide 64 are drawn at 64x64 and shrunk by area. Any other size is a canvas
    of its own, with digits in proportion to its shorter side; `scale` is that proportion.

    Attributes:
        counts: {split: clips}; the training clips are those of one pass.
        patch_size: pixels that a digit's side has on a canvas of 64.
        add: whether overlapping digits add up; else the brighter wins.
    """

    counts = {}
    patch_size = SIZE
    add = False

    def __init__(self, settings, num_digits, digits, **options):
        super().__init__(settings, num_digits=num_digits, digits=digits, **options)
        if num_digits < 1:
            raise UserError(f"data.num_digits={num_digits} must be at least 1")
        height, width = settings.image_size
        self.factor = 64 // height if height == width and 64 % height == 0 else 1
        self.canvas = (height * self.factor, width * self.factor)
        self.scale = min(self.canvas) / 64.0
        self.patch = max(1, round(self.patch_size * self.scale))
        self._patches = functools.lru_cache(maxsize=3)(self._resized_digits)

    def paths(self, random, frames):
        """Draws the paths of digits.

        Args:
            random: `draws.Draws` of shape [N, D].
            frames: how many frames, from the first of the clip on.

        Returns:
            Rows and columns of the patches' top left corners: int64 [frames, N, D, 2].
        """
        raise NotImplementedError

    def in_pixels(self, path):
        """Positions in the unit square to corners of patches, truncated to whole pixels."""
        free = np.array(self.canvas) - self.patch
        return (path * free).astype(np.int64)

    @property
    def folder(self):
        """data.root on this machine, or None if it is empty.

        Raises:
            UserError: it is a file, or does not exist.
        """
        folder = self.settings.folder
        if folder and folder.is_file():
            raise UserError(f"data.root={self.settings.root} is a file; name the folder that holds it")
        if folder and not folder.is_dir():
            raise UserError(
                f"data.root={self.settings.root} does not exist; name the folder of the data set's files, or none to"
                " draw from the digits that ship with tfvp"
            )
        return folder

    def prepare(self, progress=True):
        self.warn_once(f"{self.name} is drawn from {self.digits.source}")

    @property
    def digits(self):
        """The `Digits` that the option of that name chose."""
        return load_digits(self.folder, self.options["digits"])

    def notes(self):
        return [f"clips are drawn from {self.digits.source}"]

    def generate(self, split, random, starts, length, stride):
        patches = self._patches(split)
        each = draws.Draws(draws.keys(random[:, None], np.arange(self.options["num_digits"])))
        digit_patches = patches[each.integers(0, len(patches))]
        corners = self.paths(each, int(starts.max()) + (length - 1) * stride + 1)
        frames = starts[:, None] + np.arange(length) * stride
        corners = corners[frames, np.arange(len(starts))[:, None]]
        pages = shrink(draw(digit_patches, corners[..., 0], corners[..., 1], self.canvas, self.add), self.factor)
        return np.repeat(pages[..., None], self.settings.channels, axis=-1)

    def _resized_digits(self, split):
        from PIL import Image

        images = self.digits.of(split)
        if self.patch == SIZE:
            return images
        size = (self.patch, self.patch)
        return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.BILINEAR)) for image in images])
