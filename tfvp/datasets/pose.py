"""Dancing people with DensePose body parts, as Lee et al. (ICLR 2021, arXiv 2104.06697) lay them out."""

import json
import re
import typing

import numpy as np
from PIL import Image

from tfvp import video_io
from tfvp.datasets import base, driving
from tfvp.errors import UserError
from tfvp.pipeline import dealing
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

WINDOW_STEP = 5  # frames from the start of a test window to that of the next
_FRAME = re.compile(r"frame\d{6}\.(png|jpg|jpeg)")


def _video(name):
    return name.rpartition("/")[0]


@register("dataset", "pose")
class Pose(driving.LabelledFrames):
    """Videos of single people, a folder V<number>/C<number> a clip; the video split.json decides the split.

    The class of a pixel is its body part, the third channel of frame<number>_IUV.png: 0
    background, 1 to 24 parts. The data were never published; this reads your own in that layout.
    Where split.json has no "val", a tenth of the training videos is the validation split; the
    reference validates on the test split.

    Args:
        settings: `base.Settings`.
        labels: disk = also read the body parts beside the images; none.
    """

    info = base.DatasetInfo(
        description="People who dance, with the parts of their bodies.",
        homepage="https://arxiv.org/abs/2104.06697",
        licence="yours",
        fps=None,
        download=(
            "run DensePose over your own videos and put frames, IUV images and split.json into data.root;"
            " the authors' data were not published"
        ),
        layout="split.json ({split: {video: [clips]}}) and V<5 digits>/C<5 digits>/frame<6 digits>.png and _IUV.png",
        context=5,
        horizon=40,
    )
    channels = (3,)

    def __init__(self, settings, labels: typing.Literal["none", "disk"] = "none"):
        super().__init__(settings, labels=labels)

    def evaluation_windows(self, rule, length, stride=1):
        """ "every_fifth": all windows that start at frame 0, 5, 10, ... of a clip, as Lee et al. (2021) test."""
        if rule != "every_fifth":
            return super().evaluation_windows(rule, length, stride)
        return self.windows_every("test", WINDOW_STEP, length, stride)

    def sources(self):
        path = self.root / "split.json"
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))
            pairs = {
                split: [(video, clip) for video, clips in listed.get(name, {}).items() for clip in clips]
                for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
            }
        except OSError:
            if self.store.splits():
                self.warn_once(f"{path} is missing, so that no clip of {self.name} is decoded anew; bring it back")
                return []
            raise UserError(f"{path} is missing; {self.info.download}") from None
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path} is not {{split: {{video: [clips]}}}} ({error})") from None
        sources = [
            Source(f"{video}/{clip}", split, self.root / str(video) / str(clip))
            for split, chosen in pairs.items()
            for video, clip in chosen
        ]
        if not pairs["validation"]:
            sources = dealing.Deal({"validation": 0.1}, film_of=_video).out(sources)
        missing = {source.name: source.path for source in sources if not source.path.is_dir()}
        decoded = self.store.splits() if missing else {}
        # Those that were decoded are said to be gone in any case.
        if other := [name for name in missing if name not in decoded]:
            sentence = f"{path} lists {other[0]}, but {missing[other[0]]} does not exist"
            if not decoded:
                raise UserError(f"{sentence}; put it there, or take it out of {path.name}")
            self.warn_once(f"{len(other)} of {len(sources)} clips of {self.name} are skipped: {sentence}")
        return [source for source in sources if source.name not in missing]

    def decode(self, source):
        names = [name for name in video_io.list_images(source.path) if _FRAME.fullmatch(name)]
        yield from self.clips_of(source.name, [source.path / name for name in names])

    def is_mask(self, name):
        return not _FRAME.fullmatch(name)

    def mask_of(self, path):
        return path.with_name(f"{path.stem}_IUV.png")

    def label_map(self, path):
        try:
            with Image.open(path) as image:
                if image.mode != "RGB":
                    raise UserError(f"{path} is not an IUV image with three channels (mode {image.mode})")
                return np.ascontiguousarray(np.asarray(image)[..., 2])
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{path} is damaged or not an image ({error}); replace or remove it") from None
