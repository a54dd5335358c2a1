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
_SEARCHABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")  # containers with an index of key frames
_MARGIN = 2  # frames that are searched for beyond those that are needed


def whole(path: pathlib.Path, file: typing.BinaryIO | None = None) -> collections.abc.Iterator[tuple]:
    """Yields all frames of a video file, (start, end, PyAV frame), times in seconds.

    Args:
        path: the file.
        file: an open binary file to read in its place.

    Raises:
        UserError: there is no video in it, or less than its header promises.
    """
    with av.open(file or str(path)) as container:
        stream = _stream(path, container)
        duration = 1.0 / float(stream.average_rate or 25)
        count, placeholders, end = 0, 0, 0.0
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise UserError(f"{path} is truncated or damaged after frame {count}; replace or remove it")
            placeholders += 0 < packet.size <= _PLACEHOLDER_BYTES
            for frame in packet.decode():
                start = frame.time if frame.time is not None else count * duration
                count, end = count + 1, start + duration
                yield start, end, frame
        promised = _promised_frames(container, stream, duration)
        if count + placeholders < promised:
            raise UserError(
                f"{path} is truncated: its header promises {promised} frames, it holds {count}; replace or remove it"
            )


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
        with av.open(str(path)) as container:
            stream = _stream(path, container)
            duration = _duration(container, stream)
            if container.format.name not in _SEARCHABLE or not duration or not stream.average_rate:
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


def _stream(path, container):
    if not container.streams.video or container.streams.video[0].codec_context is None:
        raise UserError(f"{path} has no video stream that can be decoded; replace or remove it")
    stream = container.streams.video[0]
    # One thread: shards are decoded one file per core, and some FFmpeg versions crash on
    # damaged files with more. "explode" makes damage an error, which is concealed otherwise.
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "explode"}
    return stream


def _promised_frames(container, stream, duration):
    """How many frames the header promises at least; 0 where it does not say."""
    if container.format.name == "avi":
        return stream.frames
    counts = [stream.frames] if stream.frames else []
    if stream.duration:
        # An edit list may show less than the file holds, so the time that is to be shown counts too.
        counts.append(round(float(stream.duration * stream.time_base) / duration) - 1)
    elif container.duration and len(container.streams) == 1:
        counts.append(round(container.duration / 1e6 / duration) - 1)
    return min(counts, default=0)


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
