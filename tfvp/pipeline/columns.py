"""One array of a shard, a value for each frame: written piece by piece, read by frame numbers.

shard-00000.video.npy        as they are: [frames, ...]
shard-00000.video.webp       one compressed image after the other, and
shard-00000.video.ends.npy   int64 [frames], the byte at which each ends
"""

import io
import os

import numpy as np

from tfvp import files


def writer(path, key, dtype, shape, codec):
    """A `Writer` of an array.

    Args:
        path: of the shard's files, less what stands behind the shard's name.
        key: of the array.
        dtype, shape: of one frame's value.
        codec: a `tfvp.pipeline.frame_codecs.Codec`, or None.
    """
    return RawWriter(path, key, dtype, shape) if codec is None else ImageWriter(path, key, dtype, shape, codec)


def reader(folder, key, listed, codec):
    """What takes frame numbers, a slice or an array, to values: array[...] -> [n, ...].

    Args:
        folder: a `pathlib.Path`.
        key, codec: as in `writer`.
        listed: {key: {"name", ...}} of the shard's files.
    """
    path = folder / listed[key]["name"]
    # np.asarray: slices of a memmap object are slow to make, those of a plain array are not.
    if codec is None:
        return np.asarray(np.load(path, mmap_mode="r"))
    return Images(path, np.load(folder / listed[f"{key}.ends"]["name"]), codec)


class Writer:
    """Writes an array under a temporary name until `finish`.

    Attributes:
        size: bytes that are written.
    """

    def __init__(self, path, key, dtype, shape, suffix):
        self.base = path
        self.key = key
        self.dtype = dtype
        self.shape = shape
        self.path = path.with_name(f"{path.name}.{key}.{suffix}")
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self.stream = open(self.temporary, "wb")
        self.size = 0

    def append(self, values):
        """Adds values [n, ...], contiguous."""
        raise NotImplementedError

    def discard(self, frames):
        """Removes all but the first `frames` values."""
        raise NotImplementedError

    def finish(self, frames):
        """Completes files of `frames` values: {key: {"name", "bytes", "sha256"}}."""
        raise NotImplementedError

    def abandon(self):
        """Removes what is written."""
        self.stream.close()
        self.temporary.unlink()

    def _renamed(self):
        self.stream.close()
        about = {"bytes": os.path.getsize(self.temporary), "sha256": files.sha256(self.temporary)}
        os.replace(self.temporary, self.path)
        return {"name": self.path.name, **about}


class RawWriter(Writer):
    """An array as NumPy stores it."""

    def __init__(self, path, key, dtype, shape):
        super().__init__(path, key, dtype, shape, "npy")
        self.stream.write(self._header(0))
        self.entry = int(np.prod(shape)) * dtype.itemsize

    def append(self, values):
        self.stream.write(values.data)
        self.size += values.nbytes

    def discard(self, frames):
        self.size = frames * self.entry
        self.stream.seek(len(self._header(0)) + self.size)
        self.stream.truncate()

    def finish(self, frames):
        self.stream.seek(0)
        self.stream.write(self._header(frames))
        return {self.key: self._renamed()}

    def _header(self, frames):
        described = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (frames, *self.shape),
        }
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, described)
        return buffer.getvalue()


class ImageWriter(Writer):
    """An array of images, each compressed by itself."""

    def __init__(self, path, key, dtype, shape, codec):
        super().__init__(path, key, dtype, shape, codec.suffix)
        self.codec = codec
        self.ends = []

    def append(self, values):
        for frame in values:
            self.size += self.stream.write(self.codec.encode(frame))
            self.ends.append(self.size)

    def discard(self, frames):
        del self.ends[frames:]
        self.size = self.ends[-1] if self.ends else 0
        self.stream.seek(self.size)
        self.stream.truncate()

    def finish(self, frames):
        ends = RawWriter(self.base, f"{self.key}.ends", np.dtype(np.int64), ())
        ends.append(np.array(self.ends, np.int64))
        return {**ends.finish(len(self.ends)), self.key: self._renamed()}


class Images:
    """Frames of an `ImageWriter`, decoded when they are asked for.

    Args:
        path: of the images.
        ends: int64 [frames].
        codec: a `tfvp.pipeline.frame_codecs.Codec`.
    """

    def __init__(self, path, ends, codec):
        # An empty file cannot be mapped.
        self.data = np.asarray(np.memmap(path, np.uint8, "r")) if len(ends) else np.empty(0, np.uint8)
        self.starts = np.concatenate([[0], ends]).tolist()
        self.codec = codec

    def __getitem__(self, frames):
        numbers = range(len(self.starts) - 1)[frames] if isinstance(frames, slice) else frames
        images = np.empty((len(numbers), *self.codec.shape), np.uint8)
        for i, n in enumerate(numbers):
            images[i] = self.codec.decode(self.data[self.starts[n] : self.starts[n + 1]])
        return images
