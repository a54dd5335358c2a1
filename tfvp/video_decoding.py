"""Video files and GIFs as frames with their times: FFmpeg's decoders, and the rule that damage is an error."""

import collections
import collections.abc
import contextlib
import os
import pathlib
import typing

import av
import numpy as np
from PIL import Image

from tfvp.errors import UserError

# MPEG-4 codes "the last picture again" in a packet of this many bytes at most; a decoder may leave it out.
_PLACEHOLDER_BYTES = 8
SEARCHABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")  # containers with an index of key frames
_SOUND = 0.1  # seconds by which the end of sound is uncertain: encoders add and cut a few packets
_MARGIN = 2  # frames that are searched for beyond those that are needed


def address(path: str | os.PathLike) -> str:
    """A path as FFmpeg opens it: without a scheme, what precedes a colon in a name would be one."""
    return f"file:{path}"


class Truncated(UserError):
    """Frames end before the file's header says so, or before the first damage.

    Attributes:
        extent: how much can be read of how much the header promises, in words.
    """

    def __init__(self, message, extent):
        super().__init__(message)
        self.extent = extent


def whole(path: pathlib.Path, file: typing.BinaryIO | None = None) -> collections.abc.Iterator[tuple]:
    """Yields all frames of a video file, (start, end, PyAV frame), times in seconds.

    Args:
        path: the file.
        file: an open binary file to read in its place.

    Raises:
        Truncated: frames end early. Those that were yielded are good.
        UserError: there is no video in it.
    """
    with av.open(file or address(path)) as container:
        stream = stream_of(path, container)
        duration = 1.0 / float(stream.average_rate or 25)
        count, promise = 0, Promise(container, stream)
        try:
            for packet in container.demux(*promise.streams):
                promise.read(packet)
                if packet.stream.index != stream.index:
                    continue
                if packet.is_corrupt:
                    message = f"{path} is truncated or damaged after frame {count}; replace or remove it"
                    raise Truncated(message, promise.extent(count))
                for frame in packet.decode():
                    start = frame.time if frame.time is not None else count * duration
                    count += 1
                    yield start, start + duration, frame
        except av.FFmpegError as error:
            if not count:
                raise
            reason = error.strerror or type(error).__name__
            message = f"{path} is damaged after frame {count} ({reason}); replace or remove it"
            raise Truncated(message, promise.extent(count)) from error
        missing = promise.missing(count)
        if missing:
            raise Truncated(f"{path} is truncated: {missing}; replace or remove it", promise.extent(count))


class Promise:
    """What a file's header says of how much there is, and what there is of it.

    Some containers count their frames (mp4, avi), others say how long they last (Matroska, WebM): there, the ends of
    the packets are what counts, as the number of frames does not follow from the time where the rate varies.

    Attributes:
        streams: those whose packets `read` has to be given.
        estimate: of the number of frames; 0 where the header does not say.
    """

    def __init__(self, container, stream):
        frame_time = 1.0 / float(stream.average_rate or 25)
        self.stream = stream
        self.frame_time = frame_time
        self.exact = container.format.name == "avi"
        self.placeholders = 0
        self.end = 0.0
        self.frames = stream.frames
        lasts = float(stream.duration * stream.time_base) if stream.duration else 0.0
        # An edit list may show less than the file holds, so the time that is to be shown counts too.
        if self.frames and lasts and not self.exact:
            self.frames = min(self.frames, round(lasts / frame_time) - 1)
        if not lasts and container.duration:
            lasts = container.duration / av.time_base
        self.seconds = 0.0 if self.exact or stream.frames else lasts
        self.estimate = stream.frames or round(self.seconds / frame_time)
        # The time of a container without times of its streams is that of the longest of them.
        self.streams = container.streams if self.seconds and not stream.duration else [stream]
        self.tolerance = 0.5 * frame_time if len(self.streams) == 1 else max(0.5 * frame_time, _SOUND)

    def read(self, packet):
        if packet.stream.index == self.stream.index:
            self.placeholders += 0 < packet.size <= _PLACEHOLDER_BYTES
        if packet.pts is not None:
            lasts = packet.duration * packet.time_base if packet.duration else self.frame_time
            self.end = max(self.end, float(packet.pts * packet.time_base) + float(lasts))

    def missing(self, count):
        """What is missing after `count` frames, in words; "" if nothing is."""
        if count + self.placeholders < self.frames:
            return f"its header promises {self.stream.frames} frames, it holds {count}"
        if self.end < self.seconds - self.tolerance:
            return f"its header promises {self.seconds:.2f} seconds, its {count} frames end after {self.end:.2f}"
        return ""

    def extent(self, count):
        """How much `count` frames are of how much, in words."""
        if self.stream.frames:
            return f"{count} of {self.stream.frames} frames"
        return f"{count} frames, {self.end:.2f} of {self.seconds:.2f} seconds" if self.seconds else f"{count} frames"


def tail(path: pathlib.Path, count: int) -> collections.abc.Iterator[tuple] | None:
    """The last frames of a video file, decoded from a key frame before them.

    Args:
        path: the file.
        count: how many.

    Returns:
        As `whole`, `count` frames; None where they cannot be told for certain from what precedes them: the file has to
        be read as a whole then, which also says what is wrong with it.
    """
    try:
        with av.open(address(path)) as container:
            stream = stream_of(path, container)
            duration = _duration(container, stream)
            if container.format.name not in SEARCHABLE or not duration or not stream.average_rate:
                return None
            begin, unit, frame_time = stream.start_time or 0, stream.time_base, 1.0 / float(stream.average_rate)
            wanted = duration - (count + _MARGIN) * frame_time
            if wanted <= duration / 2:
                return None
            container.seek(begin + int(wanted / unit), stream=stream)
            frames = collections.deque(_from_key_frame(container, stream), maxlen=count)
            if len(frames) < count or float((frames[-1].pts - begin) * unit) + 1.5 * frame_time < duration:
                return None
            return iter([(frame.time, frame.time + frame_time, frame) for frame in frames])
    except (av.FFmpegError, UserError, _Uncertain):
        return None


def _duration(container, stream):
    """Seconds that the stream lasts, by the header; 0 where it does not say."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else 0.0


def _from_key_frame(container, stream):
    first = True
    for packet in container.demux(stream):
        for frame in packet.decode():
            if packet.is_corrupt or frame.is_corrupt or frame.pts is None or first and not frame.key_frame:
                raise _Uncertain
            first = False
            yield frame


class _Uncertain(Exception):
    """Frames may have been decoded from others that are missing."""


def stream_of(path, container):
    """The video stream of an open file, set to decode in one thread and to make damage an error."""
    if not container.streams.video or container.streams.video[0].codec_context is None:
        raise UserError(f"{path} has no video stream that can be decoded; replace or remove it")
    stream = container.streams.video[0]
    # One thread: shards are decoded one file per core, and some FFmpeg versions crash on
    # damaged files with more. "explode" makes damage an error, which is concealed otherwise.
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "explode"}
    return stream


def gif(path: pathlib.Path, file: typing.BinaryIO | None = None) -> collections.abc.Iterator[tuple]:
    """As `whole`, of a GIF; frames are uint8 [H, W, 3]."""
    with contextlib.ExitStack() as stack:
        stream = file or stack.enter_context(open(path, "rb"))
        stream.seek(-min(64, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        if not stream.read().rstrip(b"\0").endswith(b";"):
            raise UserError(f"{path} is truncated or not a GIF; replace or remove it")
        stream.seek(0)
        image = stack.enter_context(Image.open(stream))
        start = 0.0
        for i in range(image.n_frames):
            image.seek(i)
            end = start + max(image.info.get("duration", 0), 10) / 1000.0
            yield start, end, np.asarray(image.convert("RGB"))
            start = end
