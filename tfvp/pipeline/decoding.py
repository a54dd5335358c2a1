"""Decodes raw files into shards.

`tfvp.pipeline.shards` describes the folder that this fills.
"""

import collections
import dataclasses
import os
import pathlib
import threading
import time
import zipfile
import zlib
from concurrent import futures

import numpy as np
from tqdm import tqdm

from tfvp import passing_errors, video_parts
from tfvp.errors import UserError
from tfvp.pipeline import shard_files

SHARD_BYTES = 256 * 2**20
SHARD_SECONDS = 300  # after which a shard is finished although it is not full; a killed preparation loses no more
PART_FRAMES = 4096  # of a long film that are decoded at a time
PARTS_PER_SHARD = 4  # at least: parts have fewer frames where these are large
PAUSES = (1, 2, 4, 8, 16, 32)  # seconds before a file is read again, after errors that may pass
WAIT = object()
NO_PROBLEMS = {"unreadable": {}, "excluded": {}}


@dataclasses.dataclass(frozen=True)
class Source:
    """One raw file.

    Attributes:
        name: unique and stable, the path below the data set's root; clips are named by it.
        split: the split that its clips belong to; where there is a deal, what it says before anything is decoded.
        path: the file, or a folder of images.
        member: name of the file inside the zip archive `path`.
        segments: ((first, end), ...) frames of the clips in it, `end` excluded; () = one clip.
        state: what changes when the content does. Defaults to the size and digests of parts of the file.
        files: paths of all files that its frames are in, where there are others beside `path`.
        part: the part of a film that is to be decoded; None = all of it.
        deal: the `tfvp.pipeline.dealing.Deal` that decides on the split; None = it is fixed.
    """

    name: str
    split: str
    path: pathlib.Path
    member: str = ""
    segments: tuple = ()
    state: tuple = ()
    files: tuple = ()
    part: video_parts.Part | None = None
    deal: object = dataclasses.field(default=None, repr=False, compare=False)


class Incomplete(UserError):
    """Raised by `decode` at the end of a file whose frames end early: what it yielded is kept, and the file named.

    Its message is how much that is of how much, without the file's name, which may change.
    """


class Excluded(UserError):
    """Raised by `decode` for a file that is whole, but not to be used. It does not count as lost."""


def unzipped(source):
    """The bytes of a source's member of its zip archive.

    Raises:
        UserError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(source.path) as archive:
            return archive.read(source.member)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{source.member} in {source.path} is damaged ({error}); download the archive again") from error


def in_segments(source, pieces):
    """Yields (clip name, frames): a video's frames in pieces, as one clip or as the segments of the source.

    Segments may overlap; frames are held as long as a later segment needs them.

    Args:
        source: a `Source`.
        pieces: an iterator of frames [n, ...].
    """
    if not source.segments:
        yield from ((source.name, piece) for piece in pieces)
        return
    for first, end, segment in _cut(pieces, source.segments):
        yield f"{source.name}#{first + 1}-{end}", segment


def _cut(pieces, segments):
    """Yields (first, end, frames of the segment), in the order of segments, without those that hold none."""
    held, begin = [], 0  # the frames from number `begin` on
    pieces = iter(pieces)
    for i, (first, end) in enumerate(segments):
        needed = min(start for start, _ in segments[i:])
        while begin + sum(map(len, held)) < end and (piece := next(pieces, None)) is not None:
            held.append(piece)
            while held and begin + len(held[0]) <= needed:
                begin += len(held.pop(0))
        while held and begin + len(held[0]) <= needed:
            begin += len(held.pop(0))
        parts, place = [], begin
        for piece in held:
            parts.append(piece[max(0, first - place) : max(0, end - place)])
            place += len(piece)
        if sum(map(len, parts)):
            yield first, end, np.concatenate(parts)
    for _ in pieces:  # the rest of the file may be damaged
        pass


class Decoding:
    """Decodes sources in as many threads as there are cores, up to eight; every thread fills its own shards.

    FFmpeg and NumPy release the interpreter while they work, so threads are enough. A long film is divided into parts,
    which are shared among the threads; those that were finished before are not decoded again. Where a part turns
    out not to be what one pass gives, the film is decoded in one pass.

    Args:
        store: the `tfvp.pipeline.shards.Store` to decode into.
        todo: list of `Source`.
        wanted: {source name: fingerprint}.
        decode: source -> iterator of (clip name, {key: [n, ...]}).
        number: of the first shard.
        progress: whether to show a progress bar.
        parts: (source, frames) -> list of `video_parts.Part` of about so many frames, [] for what is not divided.
        finished: (source name, fingerprint, plan) -> numbers of the parts that are finished.
    """

    def __init__(self, store, todo, wanted, decode, number, progress, parts=None, finished=None):
        self.store = store
        self.wanted = wanted
        self.decode = decode
        self.number = number
        self.parts = parts
        self.finished = finished
        self.queue = collections.deque(todo)
        self.busy = 0
        self.undivided = set()
        self.lock = threading.Condition()
        self.stopping = threading.Event()
        self.report = {kind: {} for kind in NO_PROBLEMS}
        self.threads = max(1, min(os.cpu_count() or 1, 8, len(todo) if parts is None else 8))
        title = f"decoding {store.settings['dataset']}"
        self.bar = tqdm(total=len(todo), desc=title, unit="file", disable=not progress)

    def run(self):
        """Returns what was wrong, {"unreadable" or "excluded": {source name: a sentence}}.

        Raises:
            UserError: a file cannot be read for now, however often it is tried. Finished sources are kept.
        """
        with self.bar, futures.ThreadPoolExecutor(self.threads) as pool:
            running = [pool.submit(self.work) for _ in range(self.threads)]
            try:
                for future in futures.as_completed(running):
                    future.result()
            finally:
                self.stopping.set()
        return {kind: dict(sorted(files.items())) for kind, files in self.report.items()}

    def work(self):
        shard, begun = None, 0.0
        try:
            while (source := self.next_source()) is not None:
                try:
                    if source is not WAIT and not self.divide(source):
                        if shard is None:
                            shard, begun = self.new_shard(), time.monotonic()
                        self.add(shard, source)
                finally:
                    self.release(source)
                # A thread that has to wait keeps nothing back.
                late = source is WAIT or time.monotonic() - begun >= SHARD_SECONDS
                if shard is not None and (late or shard.bytes >= SHARD_BYTES):
                    full, shard = shard, None
                    full.finish()
        finally:
            if shard is not None:
                shard.finish()

    def next_source(self):
        """The next source; WAIT while others may still divide theirs; None at the end."""
        with self.lock:
            if self.stopping.is_set():
                return None
            if self.queue:
                self.busy += 1
                return self.queue.popleft()
            if not self.busy:
                return None
            self.lock.wait(0.2)
            return WAIT

    def release(self, source):
        if source is not WAIT:
            with self.lock:
                self.busy -= 1
                self.lock.notify_all()

    def divide(self, source):
        """Puts the parts of a source in its place; returns whether there are any."""
        if self.parts is None or source.part is not None or source.name in self.undivided:
            return False
        frame = sum(int(np.prod(shape)) * dtype.itemsize for dtype, shape in self.store.arrays.values())
        parts = self.parts(source, min(PART_FRAMES, max(1, SHARD_BYTES // PARTS_PER_SHARD // frame)))
        if not parts:
            return False
        done = self.finished(source.name, self.wanted[source.name], parts[0].plan)
        with self.lock:
            todo = [dataclasses.replace(source, part=part) for part in parts if part.number not in done]
            self.queue.extendleft(reversed(todo))
            self.bar.total += len(todo) - 1
            self.bar.refresh()
        return True

    def undivide(self, source):
        """Has a source decoded in one pass, after one of its parts went wrong."""
        with self.lock:
            if source.name not in self.undivided:
                self.undivided.add(source.name)
                rest = [other for other in self.queue if other.name != source.name]
                self.bar.total += 1 - (len(self.queue) - len(rest))
                self.queue = collections.deque([dataclasses.replace(source, part=None), *rest])

    def new_shard(self):
        with self.lock:
            self.number += 1
            return shard_files.ShardWriter(self.store, f"shard-{self.number - 1:05d}")

    def add(self, shard, source):
        """Decodes a source into a shard.

        Raises:
            UserError: the file cannot be read for now.
        """
        if source.part is not None and source.name in self.undivided:
            return
        doubted, pauses = False, iter(PAUSES)
        while (problem := self.attempt(shard, source)) is not None:
            passing = passing_errors.passing(problem)
            if passing_errors.is_ambiguous(passing) and passing_errors.can_be_read(source.path):
                if doubted:
                    passing = None
                doubted = True
            elif passing is None and not source.path.exists():
                passing = problem  # it was there when the files were listed
            if passing is None and source.part is None:
                self.give_up(shard, source, problem)
                break
            shard.discard()
            if passing is None:
                self.undivide(source)
                break
            pause = next(pauses, None)
            if pause is None:
                raise UserError(
                    f"{source.path} cannot be read at the moment ({_reason(passing)}), tried {len(PAUSES) + 1} times;"
                    " what is decoded is kept: once it can be read again, repeat the same command"
                ) from problem
            if self.stopping.wait(0 if doubted else pause):
                return
        self.bar.update()

    def attempt(self, shard, source):
        """Decodes a source once; returns what was wrong with the file, or None. Other errors are raised."""
        pieces = self.pieces(source)
        while True:
            try:
                name, piece = next(pieces)
            except StopIteration:
                break
            except (UserError, OSError, MemoryError) as error:
                return error
            except Exception as error:
                if passing_errors.passing(error) is None:
                    raise
                return error
            if self.stopping.is_set():
                shard.discard()
                return None
            shard.append(name, piece)
        shard.keep(source, self.wanted[source.name])
        return None

    def pieces(self, source):
        yield from self.decode(source)

    def give_up(self, shard, source, problem):
        """Records what is wrong with a file."""
        if isinstance(problem, Incomplete):
            shard.keep(source, self.wanted[source.name], note=str(problem))
            return
        shard.discard()
        sentence = str(problem)
        if not isinstance(problem, UserError):
            sentence = f"{source.path} cannot be read ({_reason(problem)}); replace or remove it"
        with self.lock:
            self.report["excluded" if isinstance(problem, Excluded) else "unreadable"][source.name] = sentence


def _reason(error):
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
