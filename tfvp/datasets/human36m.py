"""Human3.6M (Ionescu et al. 2014), as OpenSTL (arXiv 2306.11249) uses its frames: 4 in, 4 out."""

import os
import pathlib
import re

from tfvp import video_io
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import dealing, listing
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

_TAKE_AND_CAMERA = re.compile(r"([ ._]\d+)*[ ._]*$")


def recording(prefix):
    """What a video is a take and a view of: "images/S11_Walking" for "images/S11_Walking 1.60457274_"."""
    return _TAKE_AND_CAMERA.sub("", prefix)


def _recording_of(name):
    """That of a clip, "<list>:<prefix><six digits>"."""
    return recording(name.partition(":")[2][:-6])


@register("dataset", "human36m")
class Human36M(base.FileDataset):
    """People in a studio, from four cameras; every fifth frame.

    Lists train.txt and test.txt name the clips: "images/S11_Walking.60457274_,<first frame>" a
    line, for files images/S11_Walking.60457274_001621.jpg with six digits. Validation clips are
    the training lines of a twentieth of the recordings, by a hash of their names. A recording is an action of a
    subject, with both of its takes and all four cameras, which show the same person do the same thing.

    Args:
        settings: `base.Settings`; 256 pixels and 3 channels are usual.
        clip_length: frames in a clip.
        step: frames of the video from one frame of a clip to the next.
        resize: squash = bicubic, as OpenSTL does; area; crop = the largest central part, by area.
    """

    info = base.DatasetInfo(
        description="Actors walk, sit, greet and so on in a studio.",
        homepage="http://vision.imar.ro/human3.6m",
        licence="free for research after registration; see the homepage",
        fps=10.0,
        download="put OpenSTL's folder `human` (images/, train.txt, test.txt) somewhere and name it as data.root",
        layout="train.txt, test.txt, images/<subject>_<action>.<camera>_<6 digits>.jpg",
        context=4,
        horizon=4,
        decoded=(base.Decoded(8 * (73_404 + 8_582), (256, 256, 3)),),
    )

    def __init__(self, settings, clip_length: int = 8, step: int = 5, resize: str = "squash"):
        super().__init__(settings, clip_length=clip_length, step=step, resize=resize)
        if clip_length < 1 or step < 1:
            raise UserError(f"data.clip_length={clip_length} and data.step={step} must be at least 1")
        if resize not in video_io.RESIZE_MODES:
            raise UserError(f"data.resize={resize!r} is none of {', '.join(video_io.RESIZE_MODES)}")

    @classmethod
    def frame_rule(cls, options):
        return {**super().frame_rule(options), "frame_stride": options["step"]}

    def sources(self):
        sources = []
        for split in ("train", "test"):
            lists = [p for p in listing.videos(self.root, (f"{split}.txt",), images=False) if p.name == f"{split}.txt"]
            if not lists:
                continue
            clips = [
                self._parsed(line, lists[0])
                for line in lists[0].read_text(encoding="utf-8").splitlines()
                if line.strip()
            ]
            for prefix, first in sorted(set(clips)):
                files = self._frames(lists[0].parent, prefix, first)
                name, member = f"{split}:{prefix}{first:06d}", f"{prefix},{first}"
                sources.append(Source(name, split, pathlib.Path(files[0]), member=member, files=files))
        # By all that are listed, those that are missing, too.
        sources = dealing.Deal({"validation": 0.05}, film_of=_recording_of).out(sources)
        # A folder is listed once: the published clips have two thirds of a million frames.
        folders = {os.path.dirname(file) for source in sources for file in source.files}
        there = {os.path.join(f, name) for f in folders if os.path.isdir(f) for name in os.listdir(f)}
        gone = {source.name: next((file for file in source.files if file not in there), "") for source in sources}
        decoded = self.store.splits() if any(gone.values()) else {}  # of these it is said that they are gone
        if missing := [file for name, file in gone.items() if file and name not in decoded]:
            count = f"{len(missing)} of {len(sources)} clips of {self.name}"
            self.warn_once(f"{count} are skipped: {missing[0]} is missing")
        return [source for source in sources if not gone[source.name]]

    def clip_sources(self, split, clips):
        return [_recording_of(name) for name in self.clip_names(split, clips)]

    def frames_in(self, source):
        return self.options["clip_length"]

    @staticmethod
    def _parsed(line, path):
        parts = line.strip().split(",")
        if len(parts) < 2 or not parts[1].strip().isdigit():
            raise UserError(f"{path}: {line.strip()!r} is not '<prefix of the image files>,<first frame>'")
        return parts[0], int(parts[1])

    def _frames(self, folder, prefix, first):
        """Paths of the frames of a clip, as text."""
        numbers = range(first, first + self.options["clip_length"] * self.options["step"], self.options["step"])
        return tuple(os.path.join(folder, f"{prefix}{number:06d}.jpg") for number in numbers)

    def decode(self, source):
        yield source.name, {"video": self.preprocessing.convert(map(video_io.read_image, source.files))}
