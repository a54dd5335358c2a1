"""Where clips come from: shipped examples, a model's own data set, and files that users upload."""

import collections
import contextlib
import dataclasses
import io
import math
import pathlib
import re
import threading
import time
import typing

import av
import numpy as np
from PIL import Image

from tfvp import config as configuration
from tfvp import video_arrays
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.frames import as_rgb, to_uint8
from tfvp.prediction.clips import test_clip
from tfvp.preprocessing import preprocess
from tfvp.studio import limits
from tfvp.studio.models import Offer
from tfvp.zoo import shelf

EXAMPLES = 4  # clips of a run's data set
THUMBNAILS = 40  # frames of a clip's picture
WIDEST = 128  # pixels of a side of a clip's picture
KINDS = "mp4, mov, mkv, webm, avi, gif and npy"
_CACHE_BYTES = 512 * 2**20


class Clip:
    """Frames that a model can observe.

    Attributes:
        identity: what the page calls it.
        title: what it is.
        key: the same for clips that are the same.
    """

    identity, title, key = "", "", ()

    def read(self, offer: Offer) -> tuple[np.ndarray, list[str]]:
        """The frames as a model takes them, and sentences on what was left out.

        Returns:
            ([T, H, W, C] uint8, or float32 in [0, 1] where the data set keeps such, sentences).

        Raises:
            UserError: it cannot be read, or the model cannot take it.
        """
        raise NotImplementedError

    def words(self, offer: Offer) -> list[str] | None:
        """The words by which `tfvp predict` with this model names the clip, or None where it cannot."""
        raise NotImplementedError

    def stride(self, offer: Offer) -> int:
        """By how much the --start of that command rises from one frame that the model takes to the next."""
        return offer.description.frame_stride


class Shipped(Clip):
    """The clip that comes with a trained model, the owner, and holds frames as that one takes them."""

    def __init__(self, owner: Offer, path: pathlib.Path):
        self.identity, self.title, self.owner, self.path = "example/0", "Example", owner, path
        self.key = ("shipped", owner.identity)

    def read(self, offer):
        _takes_videos(offer)
        return preprocess(self._rule(offer), self.path, 0, limits.UPLOAD_FRAMES), []

    def words(self, offer):
        if offer.identity == self.owner.identity:
            return []
        # A command reads the clip of another model as any video.
        rated = offer.description.fps and self.path.suffix != ".npy"  # arrays carry no rate
        same = not rated and self.stride(offer) == offer.description.frame_stride
        return ["--video", str(self.path)] if same else None

    def stride(self, offer):
        return self._rule(offer).frame_stride

    def _rule(self, offer):
        return _thinned(offer.description, self.owner.description, self.owner.description.frame_stride)


class FromData(Clip):
    """A clip of the test split of a model's data set."""

    def __init__(self, owner: Offer, number: int, identity: str, title: str):
        self.owner, self.number, self.identity, self.title = owner, number, identity, title
        self.key = ("data", owner.identity, number)

    def read(self, offer):
        length = limits.DRAWN_FRAMES
        if _same_data(self.owner, offer):
            return test_clip(offer.config, self.number, length, offer.needs), []
        _takes_videos(offer)
        owner = self.owner.config
        # Every frame that the data set keeps, so that none is left out twice.
        inner = self.owner.description.frame_stride // owner.data.frame_stride
        rule = _thinned(offer.description, self.owner.description, inner)
        frames = test_clip(_every_frame(owner), self.number, (length - 1) * rule.frame_stride + 1)
        return preprocess(rule, frames), []

    def words(self, offer):
        return ["--test-clip", str(self.number)] if _same_data(self.owner, offer) else None

    def stride(self, offer):
        return offer.config.data.frame_stride


class Upload(Clip):
    """A file that a user gave. It has no name on the disk, and goes with the session.

    Args:
        identity: what the page calls it.
        name: what the user calls it; shown, and never used as a path.
        file: an open binary file, which is closed with `close`.

    Raises:
        UserError: it is of none of the kinds that can be read, or its frames are too large.
    """

    def __init__(self, identity: str, name: str, file: typing.BinaryIO):
        self.identity, self.file, self.key = identity, file, ("upload", identity)
        self.name = pathlib.PurePosixPath(name.replace("\\", "/")).name or "clip"
        self.title = re.sub(r"[^\w .()\[\]+-]", "_", self.name)[-80:]
        self.deleted = False
        self._lock = threading.Lock()
        suffix = _suffix(file)
        if suffix is None:
            raise UserError(f"{self.title} is not a video that can be read here; take {KINDS}")
        self._place = pathlib.PurePosixPath(self.title).with_suffix(suffix)
        with self._readable() as reader:
            _check_size(self.title, suffix, reader)

    def read(self, offer):
        _takes_videos(offer)
        description = offer.description
        height, width = description.image_size
        fitting = limits.CLIP_BYTES // (height * width * description.channels)
        longest = max(1, min(limits.UPLOAD_FRAMES, fitting))
        notes = []
        if description.fps:
            longest = min(longest, max(1, int(limits.UPLOAD_SECONDS * description.fps / description.frame_stride)))
        with self._readable() as file:
            frames = preprocess(
                description,
                pathlib.Path(self._place),
                0,
                longest + 1,
                file,
                lambda frame: _check_frame(self.title, frame),
            )
        if len(frames) > longest:
            frames = frames[:longest]
            notes.append(f"{self.title} is long; its first {longest} frames, as the model takes them, are used.")
        return frames, notes

    def words(self, offer):
        return ["--video", f"./{self.name}" if self.name.startswith("-") else self.name]

    def close(self):
        """Deletes the file; whoever reads it gets an error."""
        self.deleted = True
        with self._lock:
            self.file.close()

    @contextlib.contextmanager
    def _readable(self):
        """The file from its beginning, for one reader at a time, until decoding takes too long."""
        with self._lock:
            reader = _Reader(self)
            reader.check()
            self.file.seek(0)
            yield reader


class _Reader:
    """An upload's file, which fails once it was deleted, or read for `limits.DECODING_SECONDS`."""

    def __init__(self, upload):
        self.upload, self.file = upload, upload.file
        self.end = time.monotonic() + limits.DECODING_SECONDS

    def check(self):
        """Raises a `UserError` if it fails."""
        if self.upload.deleted:
            raise UserError(f"{self.upload.title} was deleted; upload it again")
        if time.monotonic() > self.end:
            seconds = limits.DECODING_SECONDS
            raise UserError(f"{self.upload.title} takes longer than {seconds} seconds to read; cut it shorter")

    def read(self, size=-1):
        self.check()
        return self.file.read(size)

    def seek(self, place, whence=0):
        return self.file.seek(place, whence)

    def tell(self):
        return self.file.tell()


class Frames:
    """Clips as models take them, of which the last few are kept."""

    def __init__(self):
        self._kept = collections.OrderedDict()
        self._lock = threading.RLock()  # a signal may interrupt whoever holds it

    def of(self, clip: Clip, offer: Offer) -> tuple[np.ndarray, list[str]]:
        """As `Clip.read`."""
        key = (clip.key, offer)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        read = clip.read(offer)
        with self._lock:
            self._kept[key] = read
            while sum(frames.nbytes for frames, _ in self._kept.values()) > _CACHE_BYTES:
                self._kept.popitem(last=False)
        return read

    def forget(self, clip: Clip) -> None:
        """Drops what is kept of a clip."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == clip.key]:
                del self._kept[key]


def examples(offer: Offer) -> list[Clip]:
    """The clips that a model is shown with."""
    path = next((offer.path / name for name in shelf.CLIPS if (offer.path / name).is_file()), None)
    if offer.card and path:
        return [Shipped(offer, path)]
    if not offer.has_data:
        return []
    return [FromData(offer, n, f"example/{n}", f"Test clip {n}") for n in range(min(EXAMPLES, _test_clips(offer)))]


def drawn(offer: Offer, seed: int) -> Clip:
    """A clip of the model's data set.

    Raises:
        UserError: its data set is not computed.
    """
    if not offer.drawn:
        raise UserError(f"{offer.config.data.name} is not computed, so no new clips can be drawn; choose an example")
    count = len(build_dataset(offer.config).clip_lengths("test"))
    return FromData(offer, seed % count, f"draw/{seed}", f"Drawn with seed {seed}")


def thumbnail(frames: np.ndarray, fps: float) -> bytes:
    """An animated GIF of the first frames of [T, H, W, C], not larger than `WIDEST` pixels."""
    shown = as_rgb(to_uint8(frames[:THUMBNAILS]))
    images = [Image.fromarray(frame) for frame in shown]
    for image in images:
        image.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def _test_clips(offer):
    """How many clips its test split has; `EXAMPLES` where that is known once the files are decoded."""
    try:
        return len(build_dataset(offer.config).clip_lengths("test"))
    except UserError:
        return EXAMPLES


def _every_frame(config):
    """The configuration with `data.frame_stride` 1."""
    values = config.to_dict()
    values["data"]["frame_stride"] = 1
    return configuration.Config(values, config.name)


def _thinned(rule, owner, stride):
    """The rule of a model for a clip that was read by another's, and has one in `stride` of the frames at that rate."""
    ratio = owner.fps / rule.fps if owner.fps and rule.fps else 1
    return dataclasses.replace(rule, fps=0.0, frame_stride=max(1, round(ratio * rule.frame_stride / stride)))


def _takes_videos(offer):
    if "labels" in offer.needs:
        raise UserError(
            f"{offer.name} observes label maps beside the frames, which a video has not; choose a clip of its data set"
        )
    if offer.description.channels not in (1, 3):
        raise UserError(f"{offer.name} takes frames that no video has; choose a clip of its data set")


def _same_data(one, other):
    return one.config.data.to_dict() == other.config.data.to_dict()


def _suffix(file):
    """The suffix that the reader knows a file's kind by, from its first bytes; None for an unknown kind."""
    file.seek(0)
    head = file.read(12)
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return ".gif"
    if head[:6] == b"\x93NUMPY":
        return ".npy"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return ".avi"
    if head[:4] == b"\x1aE\xdf\xa3":
        return ".mkv"
    return ".mp4" if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") else None


def _check_size(title, suffix, file):
    """Refuses files whose header says that their frames are too large, before any is decoded."""
    if suffix == ".gif":
        head = file.read(10)
        _check_sides(title, int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))
    elif suffix == ".npy":
        _check_array(title, file)
    else:
        try:
            with av.open(file, "r") as container:
                for stream in container.streams.video:
                    _check_sides(title, stream.codec_context.width, stream.codec_context.height)
        except av.FFmpegError:
            pass  # reading it says what is wrong


def _check_array(title, file):
    try:
        shape, _, dtype = video_arrays.header(file)
    except ValueError:
        return  # reading it says what is wrong
    if math.prod(shape) * dtype.itemsize > limits.UPLOAD_BYTES:
        raise UserError(f"{title} promises more than it holds; save the array again")
    if len(shape) > 2:
        _check_sides(title, *shape[1:3])


def _check_frame(title, frame):
    if isinstance(frame, np.ndarray):
        _check_sides(title, *frame.shape[1::-1])
    elif not callable(frame):
        _check_sides(title, frame.width, frame.height)


def _check_sides(title, width, height):
    if width * height > limits.UPLOAD_PIXELS:
        raise UserError(f"{title} has frames of {width} x {height} pixels, which is too large; make them smaller")
