"""Videos that are NumPy's arrays, in .npy and .npz files."""

import collections.abc
import contextlib
import pathlib
import typing
import zipfile

import numpy as np

from tfvp.errors import UserError
from tfvp.frames import to_uint8

# Version 3 differs from 2 in the names of fields alone, which a video's array has not.
_HEADERS = dict.fromkeys([(2, 0), (3, 0)], np.lib.format.read_array_header_2_0)
_HEADERS[1, 0] = np.lib.format.read_array_header_1_0


def header(stream: typing.BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether it lies by columns, dtype) of the .npy array in a stream, which is left where its values begin.

    Raises:
        ValueError: it is no array, or of another version of the format.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the .npy format")
    return _HEADERS[version](stream)


def shape_of(path: pathlib.Path, file: typing.BinaryIO | None = None) -> tuple[int, ...]:
    """[T, H, W, C] of a file, by its header."""
    with contextlib.ExitStack() as opened:
        stream = file or opened.enter_context(path.open("rb"))
        if path.suffix.lower() == ".npz":
            archive = opened.enter_context(zipfile.ZipFile(stream))
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            stream = opened.enter_context(archive.open(f"{name_of_frames(path, names)}.npy"))
        shape, _, dtype = header(stream)
        return _as_video(path, np.broadcast_to(np.zeros((), dtype), shape)).shape


def load(path: pathlib.Path, file: typing.BinaryIO | None = None) -> np.ndarray:
    """[T, H, W, C] of a .npy or .npz file, memory-mapped where that is possible."""
    if path.suffix.lower() == ".npy" and file is None:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    else:
        array = np.load(file or path, allow_pickle=False)
    if isinstance(array, np.lib.npyio.NpzFile):
        with array as archive:
            array = archive[name_of_frames(path, archive.files)]
    return _as_video(path, array)


def name_of_frames(path: pathlib.Path, names: list[str]) -> str:
    """Which of an archive's arrays holds the frames: `video`, or the only one."""
    names = [name for name in names if name == "video"] or names
    if len(names) != 1:
        listed = ", ".join(names) or "(none)"
        raise UserError(f"{path} holds the arrays {listed}; call the one with the frames 'video'")
    return names[0]


def frames_of(path: pathlib.Path, array: np.ndarray) -> collections.abc.Iterator[np.ndarray]:
    """Yields the frames of a video, uint8 [H, W, C] each, of which a few are in memory at a time."""
    array = _as_video(path, array)
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    for start in range(0, len(array), 64):
        part = np.asarray(array[start : start + 64])
        if part.dtype != np.uint8:
            whole = np.issubdtype(part.dtype, np.integer)
            if not np.isfinite(part).all() or part.min() < 0 or part.max() > (255 if whole else 1.0):
                raise UserError(
                    f"{path} holds {part.dtype} outside [0, {255 if whole else 1}]; store uint8, or floats in [0, 1]"
                )
            part = part.astype(np.uint8) if whole else to_uint8(part)
        yield from part


def _as_video(path, array):
    """An array with four axes, [T, H, W, C]."""
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise UserError(
            f"{path} holds an array of shape {list(array.shape)}; a video is [T, H, W] or [T, H, W, C] with C 1 or 3"
        )
    return array
