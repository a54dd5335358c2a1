"""What is done to the frames of a video before a model sees them: the one place that says so.

Data sets, forecasts of single videos and the client of a served model all go through here, so that
a video goes into a model exactly as the videos did that it was trained on. A data set's class says
its rule (`VideoDataset.frame_rule`); an exported model carries the description as JSON.
"""

import collections
import collections.abc
import dataclasses
import itertools
import math
import os
import typing

import numpy as np

from tfvp import registry, video_io
from tfvp.config import Config
from tfvp.errors import UserError
from tfvp.frames import Converter


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How the frames of a video become those that a model takes, in this order: rate, stride, size, colours.

    Attributes:
        image_size: (height, width) in pixels.
        channels: 1 = grey (Rec. 601 luma), 3 = RGB. Other numbers describe frames that no video has.
        resize: one of `tfvp.video_io.RESIZE_MODES`.
        fps: frames per second that videos are resampled to, by holding frames; 0 = as they are.
        frame_stride: every n-th frame is kept.
        range: what 0 and 255 become in the model's floats.

    Raises:
        UserError: values that no video can be brought to.
    """

    image_size: tuple[int, int]
    channels: int
    resize: str = "area"
    fps: float = 0.0
    frame_stride: int = 1
    range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        height, width = (int(side) for side in self.image_size)
        object.__setattr__(self, "image_size", (height, width))
        object.__setattr__(self, "range", tuple(float(value) for value in self.range))
        if self.resize not in video_io.RESIZE_MODES:
            known = ", ".join(video_io.RESIZE_MODES)
            near = registry.nearest(self.resize, video_io.RESIZE_MODES)
            raise UserError(f"resize={self.resize!r} is none of {known}{near}")
        if min(height, width, self.channels, self.frame_stride) < 1:
            raise UserError(
                f"image_size={[height, width]}, channels={self.channels} and frame_stride={self.frame_stride} must be"
                " positive"
            )
        if not (math.isfinite(self.fps) and self.fps >= 0):
            raise UserError(f"fps={self.fps} must be 0 (as they are) or more")

    @classmethod
    def from_config(cls, config: Config) -> "Preprocessing":
        """What the configuration's data set does to the frames of its files, and `data.frame_stride`."""
        rule = registry.lookup("dataset", config.data.name).frame_rule(config.data)
        stride = rule.pop("frame_stride", 1) * config.data.frame_stride
        return cls(config.frame_shape[:-1], config.data.channels, frame_stride=stride, **rule)

    @classmethod
    def from_dict(cls, values: collections.abc.Mapping[str, object]) -> "Preprocessing":
        """The inverse of `to_dict`.

        Raises:
            UserError: keys are missing or unknown, or a value is of the wrong kind.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = [key for key in values if key not in names]
        if unknown:
            raise UserError(
                f"the description of the preprocessing has {', '.join(unknown)}, which this version does not know;"
                " update tfvp"
            )
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise UserError(f"the description of the preprocessing cannot be read ({error})") from None

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types: {"image_size": [height, width], "channels": ..., ...}."""
        values = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @property
    def reading(self) -> dict[str, object]:
        """The arguments of `tfvp.video_io.read_video` and `iterate_video`; the stride is not among them."""
        return {key: getattr(self, key) for key in ("image_size", "channels", "resize", "fps")}

    def convert(self, frames: collections.abc.Iterable[np.ndarray]) -> np.ndarray:
        """Single frames, uint8 [h, w, c], in the size and colours: uint8 [T, H, W, C]. Rate and stride play no part."""
        converter = Converter(self.image_size, self.channels, self.resize)
        return np.stack([converter.colours(converter(frame)) for frame in frames])


def preprocess(
    description: Preprocessing,
    video: str | os.PathLike | np.ndarray,
    start: int | None = 0,
    count: int | None = None,
    file: typing.BinaryIO | None = None,
    check: collections.abc.Callable[[object], None] | None = None,
) -> np.ndarray:
    """The frames of a video as a model takes them.

    Args:
        description: a `Preprocessing`.
        video: a file or a folder of images, as `tfvp.video_io.read_video` takes them, or frames, [T, H, W] or
            [T, H, W, C], uint8 or floats in [0, 1]. Arrays and folders of images carry no rate.
        start: the first frame, a number at the rate `description.fps` and before the stride. None = the last
            `count` frames, the last one of them being the last of the video.
        count: frames at most. Defaults to all.
        file: an open binary file to read in place of `video`, which then only names it.
        check: is given every decoded frame (PyAV's, an array, or a function that reads one) before anything is done
            to it, and may raise.

    Returns:
        uint8 [T, H, W, C], T at most `count`; nothing else of the video is converted. With a `start` nothing
        after the frames is decoded, without one little before them where that is possible. T = 0 if the video
        ends before `start`.

    Raises:
        UserError: the video cannot be read, or the description is not of videos.
    """
    if description.channels not in (1, 3):
        raise UserError(
            f"the model takes frames of {description.channels} channels, which cannot be made from a video's colours"
        )
    stride = description.frame_stride
    span = None if count is None else (count - 1) * stride + 1

    def select(frames):
        frames = frames if check is None else _checked(frames, check)
        if start is None:
            kept = collections.deque(frames, maxlen=span)
            return list(kept)[(len(kept) - 1) % stride :: stride] if kept else []
        return itertools.islice(frames, start, span and start + span, stride)

    last = span or 0 if start is None else 0
    pieces = list(video_io.iterate_video(video, **description.reading, file=file, select=select, last=last))
    return np.concatenate([np.zeros((0, *description.image_size, description.channels), np.uint8), *pieces])


def _checked(frames, check):
    for frame in frames:
        check(frame)
        yield frame
