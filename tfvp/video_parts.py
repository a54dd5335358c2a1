"""A long film in parts that are decoded one by one: in several threads, or where a preparation was stopped.

All parts together are the frames that one pass gives, each of them once and unchanged. What that rests on is checked:
parts are cut by the time stamps of all packets, each is decoded from its own key frame on, and it has to give one frame
for every packet between its bounds. With open groups of pictures, those that follow a key frame in the file but come
before it in the film belong to the part before, which is decoded that far. In H.264 later pictures may refer to them:
its films are not cut there.
"""

import array
import collections.abc
import dataclasses
import hashlib
import pathlib

import av
import numpy as np

from tfvp import video_decoding
from tfvp.errors import UserError

_BEFORE = 1.0  # seconds; containers search by decoding time, and key frames are shown a little later


class Indivisible(UserError):
    """A part cannot be decoded by itself; the film has to be decoded in one pass."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a film.

    Of a folder of images or an array, `begin` and `end` are numbers of frames.

    Attributes:
        number: its place, from 0.
        total: how many there are.
        plan: text that differs once the film is divided otherwise.
        frames: how many it has.
        begin: time stamp of its first frame; None = the beginning of the film.
        end: time stamp of the first frame of the next part; None = the end of the film.
        origin: seconds at which the film begins.
        until: `end` in seconds.
    """

    number: int
    total: int
    plan: str
    frames: int
    begin: int | None
    end: int | None
    origin: float
    until: float | None


def divide(path: pathlib.Path, frames: int) -> list[Part]:
    """Divides a film at key frames into parts of at least `frames` frames.

    All packets are read for this, and none is decoded.

    Args:
        path: the file.
        frames: of each part, except for the last, which may have fewer.

    Returns:
        The parts; [] where there would be one, or where the file has to be decoded in one pass: it is damaged or
        truncated, cannot be searched, or its packets have no time stamps.
    """
    try:
        with av.open(video_decoding.address(path)) as container:
            stream = video_decoding.stream_of(path, container)
            promise = video_decoding.Promise(container, stream)
            if container.format.name not in video_decoding.SEARCHABLE or promise.estimate <= frames:
                return []
            stamps, keys, is_open = array.array("q"), [], []
            for packet in container.demux(*promise.streams):
                promise.read(packet)
                if packet.stream.index != stream.index or not packet.size:
                    continue
                if packet.is_corrupt or packet.is_discard or packet.pts is None:
                    return []
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
                    is_open.append(False)
                elif keys and packet.pts < keys[-1]:
                    is_open[-1] = True
            unit, codec, missing = stream.time_base, stream.codec_context.name, promise.missing(len(stamps))
    except (av.FFmpegError, UserError):
        return []
    stamps = np.sort(np.frombuffer(stamps, np.int64))
    if missing or len(stamps) < 2 or not np.diff(stamps).all():
        return []
    cuts = [0]
    for place, opened in zip(np.searchsorted(stamps, keys).tolist(), is_open):
        if place - cuts[-1] >= frames and not (opened and codec == "h264"):
            cuts.append(place)
    bounds = [None, *(int(stamps[cut]) for cut in cuts[1:]), None]
    plan = hashlib.sha256(repr(bounds).encode()).hexdigest()[:10]
    counts = np.diff([*cuts, len(stamps)]).tolist()
    origin, times = float(stamps[0] * unit), [None if bound is None else float(bound * unit) for bound in bounds]
    if len(cuts) == 1:
        return []
    return [
        Part(i, len(counts), plan, count, bounds[i], bounds[i + 1], origin, times[i + 1])
        for i, count in enumerate(counts)
    ]


def evenly(count: int, frames: int) -> list[Part]:
    """Divides `count` images, of which each can be read by itself; as `divide`."""
    starts = range(0, count, frames)
    if len(starts) < 2:
        return []
    return [
        Part(i, len(starts), f"{count}/{frames}", min(frames, count - start), start, start + frames, 0.0, None)
        for i, start in enumerate(starts)
    ]


def frames_of(path: pathlib.Path, part: Part) -> collections.abc.Iterator[tuple]:
    """The frames of a part, as `tfvp.video_decoding.whole` yields those of a film.

    Raises:
        Indivisible: they may not be those that one pass gives.
    """
    doubt = Indivisible(f"{path} cannot be decoded in parts")
    with av.open(video_decoding.address(path)) as container:
        stream = video_decoding.stream_of(path, container)
        lasts = 1.0 / float(stream.average_rate or 25)
        if part.begin is not None:
            earlier = part.begin - int(_BEFORE / stream.time_base)
            container.seek(max(earlier, stream.start_time or 0), stream=stream)
        count, last = 0, None
        for frame in _decoded(container.demux(stream), part.begin):
            if frame is None or frame.is_corrupt or frame.pts is None or last is not None and frame.pts <= last:
                raise doubt
            last = frame.pts
            if part.begin is not None and frame.pts < part.begin:
                continue  # belongs to the part before
            if part.end is not None and frame.pts >= part.end:
                break
            if count == 0 and part.begin is not None and (frame.pts != part.begin or not frame.key_frame):
                raise doubt
            count += 1
            yield frame.time, frame.time + lasts, frame
        if count != part.frames:
            raise doubt


def _decoded(packets, begin):
    """The frames from the key frame with the time stamp `begin` on, in order; None where it is missing or damaged."""
    reached = begin is None
    for packet in packets:
        reached = reached or packet.pts == begin and packet.is_keyframe
        if not packet.size and not reached or packet.is_corrupt:
            yield None
        if reached and (begin is None or packet.pts is None or packet.pts >= begin):
            yield from packet.decode()
