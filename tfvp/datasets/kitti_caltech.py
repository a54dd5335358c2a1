"""Trained on KITTI, tested on Caltech Pedestrian (Dollar et al. 2009), since PredNet (arXiv 1605.08104)."""

import io
import itertools
import os
import struct

import numpy as np
from PIL import Image

from tfvp import video_io
from tfvp.datasets import base
from tfvp.datasets.kitti import KITTI
from tfvp.errors import UserError
from tfvp.pipeline import listing, sizes
from tfvp.pipeline.decoding import Excluded, Source
from tfvp.registry import register

KEPT_EVERY = 3  # of Caltech's 30 frames a second, the third, sixth, ...
HEADER_BYTES, JPEG_FORMATS = 1024, (102, 201)
CHUNK = 16  # frames of full size in memory


@register("dataset", "kitti_caltech")
class KITTICaltech(KITTI):
    """KITTI for training and validation, every third frame of Caltech Pedestrian for the test.

    Both are brought to 128 pixels of height, or to data.image_size where that is more, and cut to
    their central columns, 5 for every 4 rows; with data.image_size=[128, 160] they stay like that.

    Args:
        settings: `base.Settings`.
        labels: disk = also read label maps of KITTI, and leave out Caltech, which has none; none.
    """

    info = base.DatasetInfo(
        description="Driving in Karlsruhe (training) and Los Angeles (test).",
        homepage="https://data.caltech.edu/records/f6rph-90m20",
        licence="KITTI: CC BY-NC-SA 3.0; Caltech: see the homepage",
        fps=10.0,
        download=(
            "unpack KITTI's recordings (https://www.cvlibs.net/datasets/kitti/raw_data.php) into data.root/kitti and"
            " Caltech Pedestrian (https://data.caltech.edu/records/f6rph-90m20) into data.root/caltech"
        ),
        layout="kitti/<date>/<recording>/image_03/data/*.png; caltech/set<nn>/V<nnn>.seq, .avi or folders of frames",
        context=10,
        horizon=1,
    )

    def evaluation_windows(self, rule, length, stride=1):
        """ "back_to_back": every recording cut into windows from its end backwards, as OpenSTL's loader does."""
        if rule != "back_to_back":
            return super().evaluation_windows(rule, length, stride)
        clips, span = self.usable_clips("test", length, stride), (length - 1) * stride + 1
        lengths = self.clip_lengths("test")[clips]
        starts = [np.arange(n % span, n - span + 1, span, dtype=np.int64) for n in lengths]
        return np.repeat(clips, lengths // span), np.concatenate(starts)

    def sources(self):
        kitti, caltech = (listing.find_folder(self.root, name, depth=1) for name in ("kitti", "caltech"))
        sources = [s for s in self.recordings(kitti) if s.split != "test"] if kitti else []
        if caltech:
            paths = listing.videos(caltech, (".seq", *video_io.VIDEO_SUFFIXES))
            sources += [Source(f"caltech/{p.relative_to(caltech).as_posix()}", "test", p) for p in paths]
        return sources

    def frames_in(self, source):
        if source.split != "test":
            return super().frames_in(source)
        sequence = source.path.suffix.lower() == ".seq"
        frames = seq_length(source.path) if sequence else sizes.frames_in(source.path)
        return frames and frames // KEPT_EVERY

    def decode(self, source):
        if source.split != "test":
            yield from super().decode(source)
            return
        if self.options["labels"] == "disk":
            raise Excluded(f"{source.path} has no label maps; the test split needs data.labels=none")
        if source.path.suffix.lower() == ".seq":
            frames = _every(read_seq(source.path))
            pieces = iter(lambda: list(itertools.islice(frames, CHUNK)), [])
        else:
            pieces = video_io.iterate_video(source.path, chunk=CHUNK, select=_every)
        for piece in pieces:
            yield source.name, {"video": self.preprocessing.convert(piece)}


def _every(frames):
    return itertools.islice(frames, KEPT_EVERY - 1, None, KEPT_EVERY)


def read_seq(path):
    """Yields the frames of a StreamPix sequence of JPEGs, Caltech's .seq: uint8 [h, w, 3].

    A header of 1,024 bytes holds, little-endian, the image format at 564 and the number of
    frames at 572; each frame is its size (4 bytes, these included), the JPEG, and 8 or 16
    bytes of time.

    Raises:
        UserError: another kind of file, or a truncated one.
    """
    with open(path, "rb") as file:
        total = file.seek(0, os.SEEK_END)
        count = _announced(path, _at(file, 0, HEADER_BYTES))
        place, extra = HEADER_BYTES, None
        for number in range(count):
            size = struct.unpack("<I", _at(file, place, 4))[0] if place + 4 <= total else 0
            jpeg = _at(file, place + 4, size - 4) if 4 < size <= total - place else b""
            if jpeg[:2] != b"\xff\xd8":
                raise UserError(f"{path} is truncated or damaged after frame {number} of {count}; download it again")
            try:
                frame = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise UserError(f"{path}: frame {number} is damaged ({error}); download it again") from None
            yield frame
            if extra is None:  # the JPEG of the next frame tells how long the time is
                extra = next((n for n in (8, 16) if _at(file, place + size + n + 4, 2) == b"\xff\xd8"), 8)
            place += size + extra


def seq_length(path):
    """How many frames the header of a .seq file announces; None where it is no such file."""
    with open(path, "rb") as file:
        try:
            return _announced(path, file.read(HEADER_BYTES))
        except UserError:  # decoding says it
            return None


def _announced(path, header):
    if len(header) < HEADER_BYTES:
        raise UserError(f"{path} is not a .seq file: it has {len(header)} bytes; download it again")
    kind, count = struct.unpack_from("<I", header, 564)[0], struct.unpack_from("<I", header, 572)[0]
    if kind not in JPEG_FORMATS:
        raise UserError(f"{path} holds images of format {kind}, not JPEG (102 or 201); convert it to a video")
    return count


def _at(file, place, count):
    file.seek(place)
    return file.read(count)
