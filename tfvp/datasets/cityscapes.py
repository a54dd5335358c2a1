"""Cityscapes sequences (Cordts et al. 2016, arXiv 1604.01685): driving in fifty cities, 30 frames a snippet."""

import re
import typing

import numpy as np

from tfvp import video_io
from tfvp.datasets import base, driving
from tfvp.errors import UserError
from tfvp.pipeline import dealing, listing
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

SNIPPET, FIRST = 30, 1  # frames of a snippet, and the first one of a test window
_FRAME = re.compile(r"(?P<snippet>\w+?_\d{6})_(?P<number>\d{6})_leftImg8bit\.png")


def _city(name):
    return name.rpartition("/")[2]


@register("dataset", "cityscapes")
class Cityscapes(driving.LabelledFrames):
    """30 frames of 1024x2048 a snippet; resized as a whole, by area (images) or nearest pixel (labels).

    The official validation cities are the test split, as in the literature; a twentieth of the
    training cities, by a hash of their names, is the validation split. Frames of cities whose
    snippets share a number are told apart by the gaps between them.

    Args:
        settings: `base.Settings`; image_size [128, 256] or [256, 512] are usual.
        labels: disk = also read label maps color_mask_<image> beside the images; none.
    """

    info = base.DatasetInfo(
        description="Driving in fifty cities, most of them German.",
        homepage="https://www.cityscapes-dataset.com",
        licence="free for research after registration; see the homepage",
        fps=17.0,
        download=(
            "register at https://www.cityscapes-dataset.com and unpack"
            " leftImg8bit_sequence_trainvaltest.zip into data.root"
        ),
        layout="leftImg8bit_sequence/{train,val}/<city>/<city>_<6 digits>_<6 digits>_leftImg8bit.png",
        context=4,
        horizon=6,
        decoded=(
            base.Decoded(30 * (2_975 + 500), (256, 512, 3)),
            base.Decoded(30 * (2_975 + 500), (256, 512, 1), note="label maps"),
        ),
    )
    number = re.compile(r"_(\d{6})_leftImg8bit$")

    def __init__(self, settings, labels: typing.Literal["none", "disk"] = "none"):
        super().__init__(settings, labels=labels)

    def evaluation_windows(self, rule, length, stride=1):
        """ "annotated": one window of every snippet, from its second frame on, as Lee et al. (2021) test.

        With a stride of 3 and 10 frames, these are frames 1, 4, ..., 28: the third after 4 observed ones is the
        annotated frame 19, the 20th of the snippet.
        """
        if rule != "annotated":
            return super().evaluation_windows(rule, length, stride)
        lengths = self.clip_lengths("test")
        counts = np.maximum(lengths - FIRST - ((length - 1) * stride + 1) + SNIPPET, 0) // SNIPPET
        if not counts.sum():
            raise UserError(
                f"no test clip of cityscapes holds {length} frames that are {stride} apart after its first frame;"
                f" snippets have {SNIPPET} frames"
            )
        starts = [FIRST + SNIPPET * np.arange(n, dtype=np.int64) for n in counts]
        return np.repeat(np.arange(len(lengths)), counts), np.concatenate(starts)

    def sources(self):
        top = listing.find_folder(self.root, "leftImg8bit_sequence") or self.root
        sources = []
        for split, name in (("train", "train"), ("test", "val")):
            folder = top / name
            cities = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
            sources += [Source(f"{name}/{city.name}", split, city) for city in cities]
        return dealing.Deal({"validation": 0.05}, film_of=_city).out(sources)

    def decode(self, source):
        snippets = {}
        for name in video_io.list_images(source.path):
            match = _FRAME.fullmatch(name)
            if match and not name.startswith(driving.LABEL_PREFIX):
                snippets.setdefault(match["snippet"], []).append(source.path / name)
        for snippet, paths in sorted(snippets.items()):
            yield from self.clips_of(f"{source.name}/{snippet}", paths)
