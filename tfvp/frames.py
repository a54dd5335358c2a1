"""Frames as arrays: their size, their colours, and how they are laid out in one picture."""

import fractions
import functools

import av
import av.filter
import numpy as np

_EXACT = "+accurate_rnd+full_chroma_int+full_chroma_inp"


def to_uint8(video) -> np.ndarray:
    """Frames (array or tensor) in [0, 1], clipped and rounded to uint8 in [0, 255]; uint8 is returned unchanged."""
    video = np.asarray(video)
    if video.dtype == np.uint8:
        return video
    return np.round(np.clip(video, 0.0, 1.0) * 255.0).astype(np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Rec. 601 luma of uint8 [..., 3], as uint8 [..., 1]; equal channels keep their value exactly."""
    red, green, blue = (rgb[..., i].astype(np.uint32) for i in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)[..., None]


def as_rgb(video: np.ndarray) -> np.ndarray:
    """Frames [..., H, W, C] as [..., H', W, 3].

    Grey is repeated; two channels (TaxiBJ's flows) become red and green; of four channels the
    last is a label map, which is drawn in the colours of `palette` below the frame.
    """
    channels = video.shape[-1]
    if channels == 4:
        return np.concatenate([video[..., :3], palette()[video[..., 3]]], axis=-3)
    if channels == 1:
        return np.repeat(video, 3, axis=-1)
    return np.pad(video, [(0, 0)] * (video.ndim - 1) + [(0, 3 - channels)])


@functools.lru_cache(maxsize=1)
def palette() -> np.ndarray:
    """A colour for each of 256 classes, uint8 [256, 3]: their bits, spread over the three channels (PASCAL VOC)."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def strip(video: np.ndarray, every: int = 1, gap: int = 0) -> np.ndarray:
    """Every n-th frame of uint8 [T, H, W, C] side by side, `gap` white pixels apart: [H, W', C]."""
    return grid(video[::every][:, None], columns=len(video[::every]), gap=gap)[0]


def grid(videos: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Equal videos [N, T, H, W, C] as one, row by row, `gap` white pixels apart: uint8 [T, H', W', C]."""
    videos = to_uint8(videos)
    count, frames, height, width, channels = videos.shape
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    page = np.full((frames, rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i, video in enumerate(videos):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        page[:, top : top + height, left : left + width] = video
    return page


class Converter:
    """Converts decoded frames to uint8 arrays of the wanted size and colours.

    The scaling is FFmpeg's filter of that name. Its default trades accuracy for speed (means come
    out 1.8 levels too dark, and the colour of every other pixel is dropped); the published
    protocols were made with it, so "squash" keeps it for videos, and everything else is exact.

    Args:
        image_size, channels, resize: as in `tfvp.video_io.read_video`.
    """

    def __init__(self, image_size: tuple[int, int] | None, channels: int | None, resize: str):
        self.size = image_size and tuple(image_size)
        self.channels = channels
        self.resize = resize
        self.graphs = {}

    def __call__(self, frame):
        """One frame, PyAV's or uint8 [h, w, c], as uint8 [H, W, c] with c as it comes, 1 or 3."""
        if not isinstance(frame, np.ndarray):
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            if self.size and self.resize not in ("crop", "kitti") and not turns:
                return self._scaled(frame, self.size, "bicubic" if self.resize == "squash" else "area" + _EXACT)
            frame = np.rot90(self._scaled(frame, (frame.height, frame.width), "bicubic" + _EXACT), turns)
        if self.size and self.resize == "kitti":
            frame = centre(frame, self.size, self._resized)
        if self.size is None or frame.shape[:2] == self.size:
            return np.ascontiguousarray(frame)
        if self.resize == "crop":
            frame = _central(frame, self.size)
        return self._resized(frame, self.size)

    def _resized(self, frame, size):
        if frame.shape[:2] == size:
            return frame
        return self._scaled(av_frame(frame), size, ("bicubic" if self.resize == "squash" else "area") + _EXACT)

    def colours(self, frames):
        """Such a frame, or a stack of them, in the wanted number of channels: uint8 [..., H, W, C]."""
        if self.channels in (None, frames.shape[-1]):
            return frames
        return luma(frames) if self.channels == 1 else np.repeat(frames, 3, axis=-1)

    def _scaled(self, frame, size, flags):
        """uint8 [H, W, c] of a PyAV frame."""
        key = (frame.width, frame.height, frame.format.name, size, flags)
        if key not in self.graphs:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=fractions.Fraction(1, 1000)
            )
            scale = graph.add("scale", f"{size[1]}:{size[0]}:flags={flags}")
            colours = graph.add("format", "gray" if frame.format.name == "gray" else "rgb24")
            sink = graph.add("buffersink")
            for first, second in ((source, scale), (scale, colours), (colours, sink)):
                first.link_to(second)
            graph.configure()
            self.graphs[key] = (graph, source, sink)
        _, source, sink = self.graphs[key]
        source.push(frame)
        array = sink.pull().to_ndarray()
        return array[..., None] if array.ndim == 2 else array


def av_frame(array: np.ndarray) -> av.VideoFrame:
    """A PyAV frame of uint8 [H, W, C]."""
    if array.shape[-1] == 1:
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(array[..., 0]), "gray")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24")


def centre(frame: np.ndarray, size: tuple[int, int], resized) -> np.ndarray:
    """What KITTI's frames have been cut to since PredNet (arXiv 1605.08104), before they are resized to `size`.

    Args:
        frame: [h, w] or [h, w, C].
        size: (height, width); the frame is brought to 128 rows, or to this height where it is more.
        resized: a function that resizes: (frame, (height, width)) -> frame.

    Returns:
        [height, width] or [height, width, C], the central columns: 5 for every 4 rows.
    """
    height = max(128, size[0])
    width = height * 5 // 4
    wide = max(width, round(frame.shape[1] * height / frame.shape[0]))
    left = (wide - width) // 2
    return np.ascontiguousarray(resized(frame, (height, wide))[:, left : left + width])


def _central(frame, size):
    """The largest central part of a frame [h, w, C] with the aspect ratio of `size`."""
    height, width = frame.shape[:2]
    wanted_height = min(height, round(width * size[0] / size[1]))
    wanted_width = min(width, round(height * size[1] / size[0]))
    top, left = (height - wanted_height) // 2, (width - wanted_width) // 2
    return frame[top : top + max(wanted_height, 1), left : left + max(wanted_width, 1)]
