"""KITTI raw recordings (Geiger et al. 2013), as hierarchical video prediction (arXiv 2104.06697) uses them."""

import re
import typing

from tfvp import video_io
from tfvp.datasets import base, driving
from tfvp.frames import centre
from tfvp.pipeline import listing
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

VALIDATION = ("2011_09_26_drive_0005_sync",)
TEST = ("2011_09_26_drive_0104_sync", "2011_09_26_drive_0079_sync", "2011_09_26_drive_0070_sync")
WINDOW_STEP = 5  # frames from the start of a test window to that of the next
_RECORDING = re.compile(r"(?P<date>\d{4}_\d\d_\d\d)_drive_(?P<number>\d{4})_sync")


def excluded(recording):
    """Whether a recording is left out: people on a campus, filmed standing, and one more."""
    match = _RECORDING.fullmatch(recording)
    date, number = match["date"], int(match["number"])
    return date == "2011_09_28" and 54 <= number <= 220 or recording == "2011_09_29_drive_0108_sync"


@register("dataset", "kitti")
class KITTI(driving.LabelledFrames):
    """Driving through a city, on residential streets and on roads; camera image_03, 10 frames a second.

    Frames are brought to 128 pixels of height, or to data.image_size where that is more, their
    central columns are taken, 5 for every 4 rows, and these are resized to data.image_size by area;
    label maps in the same two steps, by nearest pixel.
    Recordings 2011_09_28_drive_0054 to 0220 and 2011_09_29_drive_0108 are excluded, 0005 of
    2011_09_26 is validation, 0104, 0079 and 0070 of that day are test.

    Args:
        settings: `base.Settings`.
        labels: disk = also read label maps color_mask_<image> beside the images; none.
    """

    info = base.DatasetInfo(
        description="Driving in and around Karlsruhe.",
        homepage="https://www.cvlibs.net/datasets/kitti/raw_data.php",
        licence="CC BY-NC-SA 3.0",
        fps=10.0,
        download=(
            "unpack the synced+rectified recordings from"
            " https://www.cvlibs.net/datasets/kitti/raw_data.php into data.root"
        ),
        layout="<date>/<date>_drive_<number>_sync/image_03/data/<number>.png, and color_mask_<number>.png for labels",
        context=5,
        horizon=15,
    )

    resize = "kitti"

    def __init__(self, settings, labels: typing.Literal["none", "disk"] = "none"):
        super().__init__(settings, labels=labels)

    def evaluation_windows(self, rule, length, stride=1):
        """ "every_fifth": all windows that start at frame 0, 5, 10, ... of a clip, as Lee et al. (2021) test."""
        if rule != "every_fifth":
            return super().evaluation_windows(rule, length, stride)
        return self.windows_every("test", WINDOW_STEP, length, stride)

    def validation_windows(self, length, stride=1):
        """One recording of 154 frames is the whole validation split: windows of it that start every 5 frames."""
        return self.windows_every("validation", WINDOW_STEP, length, stride)

    def sources(self):
        return self.recordings(self.root)

    def recordings(self, root):
        """The recordings below a folder that are not excluded."""
        sources = []
        for folder in listing.videos(root, (), images=True):
            names = [part for part in folder.relative_to(root).parts if _RECORDING.fullmatch(part)]
            if not names or "image_03" not in folder.parts or excluded(names[-1]):
                continue
            recording = names[-1]
            split = "test" if recording in TEST else "validation" if recording in VALIDATION else "train"
            sources.append(Source(recording, split, folder))
        return sources

    def decode(self, source):
        names = [n for n in video_io.list_images(source.path) if not n.startswith(driving.LABEL_PREFIX)]
        yield from self.clips_of(source.name, [source.path / name for name in names])

    def label_map(self, path):
        return centre(super().label_map(path), self.settings.image_size, driving.nearest)
