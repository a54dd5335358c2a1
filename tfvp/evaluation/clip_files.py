"""Clips that other programs wrote: arrays, videos and folders of images, one by one and as they are.

`tfvp.video_io` gives uint8; this file keeps floats as they were stored, because a prediction that is
rounded to 256 levels scores otherwise than the prediction itself.
"""

import dataclasses
import errno
import os
import pathlib
import zipfile

import numpy as np

from tfvp import video_arrays, video_io
from tfvp.errors import UserError

MOST_CHANNELS = 3
ROOM = 1e-3  # by which floats may leave [0, 1]: what interpolation and half precision round to
LISTED = 5  # names in a message


class ClipFiles:
    """The clips below a path, read when they are asked for.

    Layouts:

    * a folder with one entry per clip: `<clip>.npy` or `<clip>.npz` ([T, H, W, C], [T, H, W], or
      [S, T, H, W, C] for S samples), `<clip>.mp4` (or another video, or a GIF), `<clip>/` with
      images in natural order, or `<clip>/` with one such entry per sample;
    * one `.npy` or `.npz` file of all clips: [N, T, H, W, C], [N, T, H, W], or [N, S, T, H, W, C].

    An `.npz` file holds the frames under "video", or as its only array; that of all clips may hold
    N names under "ids", which are the positions with five digits ("00000") otherwise.

    Args:
        path: the folder or file.
        channels: 1 or 3, to which videos, GIFs and images are converted. Defaults to their own.
        unclipped: whether floats may leave [0, 1].

    Attributes:
        names: of the clips, in natural order; those of one file in the order of the file.
        ignored: names of files beside the clips that are none.
        lossy: whether a clip is a video file, whose frames may not be those that were predicted.

    Raises:
        UserError: there are no clips, or the path or its layout is none of these.
    """

    def __init__(self, path, channels=None, unclipped=False):
        self.path = pathlib.Path(path)
        self.channels = channels
        self.unclipped = unclipped
        self.ignored = []
        if self.path.is_file():
            self._sources = self._of_one_file()
        elif self.path.is_dir():
            self._sources = self._of_folder()
        else:
            raise UserError(f"{self.path} does not exist; give a folder of clips, or one .npy or .npz file")
        self.names = list(self._sources)
        self.lossy = any(source.lossy for sources in self._sources.values() for source in sources)

    def samples(self, name):
        """How many samples of a clip there are."""
        sources = self._sources[name]
        return len(sources) if len(sources) > 1 else sources[0].samples

    def stored_channels(self):
        """Channels of the clips that cannot be converted (arrays), or None where there are none."""
        shapes = (source.shape for sources in self._sources.values() for source in sources)
        return next((shape[-1] for shape in shapes if shape is not None), None)

    def read(self, name, first=0, count=None):
        """Samples of a clip.

        Args:
            name: of the clip.
            first: number of the first sample.
            count: how many. Defaults to all from the first on.

        Returns:
            uint8, or float32 as it was stored: [count, T, H, W, C].

        Raises:
            UserError: a file is damaged, its values are out of range, or the samples differ in size.
        """
        sources = self._sources[name]
        if len(sources) == 1:
            return self._checked(sources[0].read(first, count, self.channels), sources[0].path)
        chosen = sources[first : None if count is None else first + count]
        videos = [self._checked(source.read(0, None, self.channels), source.path)[0] for source in chosen]
        for source, video in zip(chosen, videos):
            if video.shape != videos[0].shape:
                raise UserError(
                    f"{source.path} has frames of shape {_text(video.shape)}, {chosen[0].path} of"
                    f" {_text(videos[0].shape)}; samples of one clip must be of one length and size"
                )
        return np.stack(videos)

    def _checked(self, video, path):
        """`video` with values that mean frames: uint8, or float32 in [0, 1]."""
        if video.dtype == np.uint8:
            return video
        if video.dtype == bool:
            return video.astype(np.uint8) * np.uint8(255)
        if not np.issubdtype(video.dtype, np.floating):
            raise UserError(f"{path} holds {video.dtype}; store uint8, or floats in [0, 1]")
        video = video.astype(np.float32)
        if not np.isfinite(video).all():
            raise UserError(f"{path} holds NaN or infinite values; store finite floats in [0, 1]")
        low, high = (float(value) for value in (video.min(initial=0.0), video.max(initial=0.0)))
        if not self.unclipped and (low < -ROOM or high > 1 + ROOM):
            raise UserError(
                f"{path} holds floats from {low:.4g} to {high:.4g}, outside [0, 1]; divide those in [0, 255] by 255,"
                " shift those in [-1, 1], or add --unclipped if the model itself leaves [0, 1]"
            )
        return video

    def _of_one_file(self):
        if self.path.suffix.lower() not in video_io.ARRAY_SUFFIXES:
            raise UserError(f"{self.path} is one clip; give the folder of clips, or one .npy or .npz file of them all")
        array, ids = open_array(self.path)
        if array.ndim == 4 and array.shape[-1] > MOST_CHANNELS:
            array = _Grey(array)
        if array.ndim not in (5, 6) or not 1 <= array.shape[-1] <= MOST_CHANNELS:
            raise UserError(
                f"{self.path} holds an array of shape {_text(array.shape)}; a file of all clips is [N, T, H, W, C] or"
                " [N, S, T, H, W, C] with C 1, 2 or 3, or [N, T, H, W]"
            )
        if not len(array):
            raise UserError(f"{self.path} holds no clips")
        ids = [f"{i:05d}" for i in range(len(array))] if ids is None else [str(name) for name in ids]
        if len(ids) != len(array) or len(set(ids)) != len(ids):
            raise UserError(f"{self.path} holds {len(array)} clips and {len(set(ids))} different ids; each needs one")
        return {name: [_Item(self.path, array, i)] for i, name in enumerate(ids)}

    def _of_folder(self):
        sources, pictures = {}, []
        for entry in _entries(self.path):
            suffix = entry.suffix.lower()
            if entry.is_dir():
                name = entry.name
            elif suffix in video_io.READABLE_SUFFIXES:
                name = entry.name[: -len(suffix)]
            else:
                (pictures if suffix in video_io.IMAGE_SUFFIXES else self.ignored).append(entry.name)
                continue
            if name in sources:
                raise UserError(f"{self.path} has clip {name} twice; keep one of its files")
            sources[name] = _samples_of(entry) if entry.is_dir() else [_source(entry)]
        if pictures:
            raise UserError(
                f"{self.path} has images beside the clips ({listed(pictures)}); put the frames of each clip into a"
                f" folder of its own: {self.path}/<clip>/"
            )
        if not sources:
            raise UserError(
                f"{self.path} holds no clips; it needs <clip>.npy, <clip>.npz, <clip>.mp4 or folders <clip>/ of images"
            )
        return sources


def _entries(folder):
    """The paths in a folder, in natural order, without hidden ones."""
    names = (entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    return [folder / name for name in sorted(names, key=video_io.natural_key)]


def _samples_of(folder):
    """The sources of the folder of one clip: one of its images, or one per sample."""
    images = video_io.list_images(folder)
    inner = [p for p in _entries(folder) if p.is_dir() or p.suffix.lower() in video_io.READABLE_SUFFIXES]
    if bool(images) == bool(inner):
        what = "both images and samples" if images else "neither images nor samples"
        raise UserError(f"{folder} holds {what}; a clip is a folder of images, or of one entry per sample")
    if images:
        return [_Frames(folder)]
    sources = [_source(path) for path in inner]
    for source in sources:
        if source.samples != 1:
            raise UserError(f"{source.path} holds {source.samples} samples, but it is one sample of {folder.name}")
    return sources


def _source(path):
    if path.suffix.lower() not in video_io.ARRAY_SUFFIXES or path.is_dir():
        if path.is_dir() and not video_io.list_images(path):
            raise UserError(f"{path} holds no images; remove it, or put the frames of a sample there")
        return _Frames(path)
    shape = _of_one_clip(path).shape
    if len(shape) not in (4, 5) or not 1 <= shape[-1] <= MOST_CHANNELS:
        raise UserError(
            f"{path} holds an array of shape {_text(shape)}; a clip is [T, H, W, C], or [S, T, H, W, C] for"
            " samples, with C 1, 2 or 3, or [T, H, W]"
        )
    if not shape[0]:
        raise UserError(f"{path} holds no frames")
    return _Array(path, shape)


def _of_one_clip(path):
    array, _ = open_array(path)
    return _Grey(array) if array.ndim == 3 else array


@dataclasses.dataclass
class _Frames:
    """One sample in a video file, a GIF or a folder of images."""

    path: pathlib.Path
    samples = 1
    shape = None

    @property
    def lossy(self):
        return self.path.is_file() and self.path.suffix.lower() in video_io.VIDEO_SUFFIXES

    def read(self, first, count, channels):
        return video_io.read_video(self.path, channels=channels)[None]


class _Array:
    """A clip in a file of its own, which is open only while it is read: there may be more clips than open files."""

    lossy = False

    def __init__(self, path, shape):
        self.path = path
        self.samples = shape[0] if len(shape) == 5 else 1
        self.shape = tuple(shape[-4:])

    def read(self, first, count, channels):
        array = _of_one_clip(self.path)
        stop = self.samples if count is None else first + count
        return np.array(array[first:stop] if array.ndim == 5 else array[0 : len(array)][None])


class _Item(_Array):
    """A clip in the open array of all clips: its item `index`."""

    def __init__(self, path, array, index):
        super().__init__(path, array.shape[1:])
        self.array = array
        self.index = index

    def read(self, first, count, channels):
        item = self.array[self.index : self.index + 1][0]
        stop = self.samples if count is None else first + count
        return np.array(item[first:stop] if item.ndim == 5 else item[None])


class _Grey:
    """An array without an axis of channels, with one."""

    def __init__(self, array):
        self.array = array
        self.shape = (*array.shape, 1)
        self.ndim = array.ndim + 1

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return self.array[rows][..., None]


class _Zipped:
    """An array of an .npz file, read row by row: the file is never unpacked whole."""

    def __init__(self, path, member):
        # The archive stays open as long as the array lives.
        self.stream = zipfile.ZipFile(path).open(member)
        self.shape, self.by_columns, self.dtype = video_arrays.header(self.stream)
        self.ndim = len(self.shape)
        self.start = self.stream.tell()
        self.row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(len(self))
        self.stream.seek(self.start + start * self.row_bytes)
        wanted = max(0, stop - start) * self.row_bytes
        data = self.stream.read(wanted)
        if len(data) != wanted:
            raise ValueError("truncated")
        return np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])


def open_array(path):
    """The frames in a .npy or .npz file, without reading them, and the array "ids" beside them, or None.

    Returns:
        (an object with `shape`, `ndim`, `len` and slices of its first axis, ids).

    Raises:
        UserError: the file is damaged or cannot be opened, needs pickle, or does not say which array holds the frames.
    """
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False), None
        with np.load(path, allow_pickle=False) as archive:
            name = video_arrays.name_of_frames(path, [name for name in archive.files if name != "ids"])
            ids = archive["ids"] if "ids" in archive.files else None
            zipped = _Zipped(path, f"{name}.npy")
            if zipped.dtype.hasobject:
                raise ValueError("Object arrays cannot be loaded")
            return archive[name] if zipped.by_columns else zipped, ids
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.errno:
            many = error.errno in (errno.EMFILE, errno.ENFILE)
            advice = "raise the limit with ulimit -n" if many else "make it a file that can be read"
            raise UserError(f"{path} cannot be opened ({error.strerror}); {advice}") from None
        reason = "it holds Python objects" if "bject array" in str(error) or "pickle" in str(error) else error
        raise UserError(f"{path} cannot be read ({reason}); write plain arrays with np.save or np.savez") from None


def _text(shape):
    return "[" + ", ".join(map(str, shape)) + "]"


def listed(names):
    """The first few names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
