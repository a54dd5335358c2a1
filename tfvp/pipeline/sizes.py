"""How much space decoded frames will take, said before they are decoded."""

import contextlib
import io
import pathlib
import shutil

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from tfvp import files, video_decoding, video_io
from tfvp.errors import UserError
from tfvp.pipeline import decoding

SAMPLED = 48  # sources that are looked into
# Of the bytes of raw frames, as little as a kind has ever needed; the estimate itself may be a tenth too high.
LEAST = {"raw": 0.9, "lossless": 0.2, "jpeg": 0.05}


def frames_of(source, fps=0.0):
    """`frames_in` of a `tfvp.pipeline.decoding.Source` that is a video, in an archive or not.

    Raises:
        UserError: the archive is damaged.
    """
    if source.segments:
        return sum(end - first for first, end in source.segments)
    if not source.member:
        return frames_in(source.path, fps)
    if source.path.suffix != ".zip":
        return None
    return frames_in(source.member, fps, io.BytesIO(decoding.unzipped(source)))


def frames_in(path, fps=0.0, file=None):
    """How many frames a video has, by its header alone; None where that does not say.

    Args:
        path: a file, or a folder of images.
        fps: frames per second that it is resampled to; 0 = as it is.
        file: an open binary file to read in its place.
    """
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            return len(video_io.list_images(path))
        if path.suffix.lower() in video_io.ARRAY_SUFFIXES:
            return video_io.array_shape(path, file)[0]
        if path.suffix.lower() == ".gif":
            with Image.open(file or path) as image:
                return image.n_frames
        with av.open(file or video_decoding.address(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            seconds = stream.duration and float(stream.duration * stream.time_base)
            seconds = seconds or container.duration and container.duration / av.time_base
            if fps and seconds:
                return round(seconds * fps)
            return stream.frames or (round(seconds * rate) if seconds and rate else None)
    except Exception:  # decoding says what is wrong with it
        return None


def estimate(sources, count):
    """Frames of all sources, from those of some and the sizes of all; None if nobody knows.

    Args:
        sources: list of `tfvp.pipeline.decoding.Source`.
        count: source -> its frames, or None.
    """
    chosen = sources[:: -(-len(sources) // SAMPLED)] if sources else []
    counted = []
    for source in chosen:
        with contextlib.suppress(UserError):  # of a damaged archive
            if (frames := count(source)) is not None:
                counted.append((source, frames))
    if not counted:
        return None
    if len(counted) == len(sources):
        return sum(frames for _, frames in counted)
    weight = (lambda source: 1) if any(source.path.is_dir() for source in sources) else _bytes
    known = sum(weight(source) for source, _ in counted)
    return round(sum(frames for _, frames in counted) / max(known, 1) * sum(map(weight, sources)))


def announce(store, sources, count, progress):
    """Says how much space the frames of sources will take beside what is free.

    Args:
        store: a `tfvp.pipeline.shards.Store` whose folder exists.
        sources, count: as in `estimate`.
        progress: whether to print it.

    Raises:
        UserError: they cannot fit.
    """
    frames = estimate(sources, count)
    if frames is None:
        return
    raw = frames * sum(int(np.prod(shape)) * dtype.itemsize for dtype, shape in store.arrays.values())
    free = shutil.disk_usage(store.folder).free
    number = f"{len(sources):,} file{'s' * (len(sources) != 1)} of {store.settings['dataset']}"
    about, left = files.readable_size(raw), files.readable_size(free)
    if LEAST[store.storage] * raw > free:
        smaller = ", or data.storage to lossless or jpeg" if store.storage == "raw" else ""
        raise UserError(
            f"{number} decode to about {about} ({frames:,} frames{_kept(store)}), but {store.folder} has {left} free;"
            f" free some space, or set data.cache to a folder on another disk{smaller}"
        )
    if progress:
        tqdm.write(f"decoding {number} into {store.folder}: about {about}{_kept(store)}; {left} are free")


def _kept(store):
    return "" if store.storage == "raw" else f", less as data.storage is {store.storage}"


def _bytes(source):
    if source.state:
        return source.state[0]  # of a member of an archive
    try:
        return source.path.stat().st_size
    except OSError:
        return 0
