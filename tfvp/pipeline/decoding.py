"""Decodes raw files into shards.

`tfvp.pipeline.shards` describes the folder that this fills.
"""

import dataclasses
import os
import pathlib
import queue
import threading
import zipfile
import zlib
from concurrent import futures

from tqdm import tqdm

from tfvp.errors import UserError
from tfvp.pipeline import passing_errors, shard_files

SHARD_BYTES = 256 * 2**20
PAUSES = (1, 2, 4, 8, 16, 32)  # seconds before a file is read again, after errors that may pass
NO_PROBLEMS = {"unreadable": {}, "excluded": {}}


@dataclasses.dataclass(frozen=True)
class Source:
    """One raw file.

    Attributes:
        name: unique and stable, the path below the data set's root; clips are named by it.
        split: the split that its clips belong to.
        path: the file, or a folder of images.
        member: name of the file inside the zip archive `path`.
        segments: ((first, end), ...) frames of the clips in it, `end` excluded; () = one clip.
        state: what changes when the content does. Defaults to the size and digests of parts of the file.
    """

    name: str
    split: str
    path: pathlib.Path
    member: str = ""
    segments: tuple = ()
    state: tuple = ()


class Incomplete(UserError):
    """Raised by `decode` at the end of a file whose frames end early: what it yielded is kept, and the file named."""


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


class Decoding:
    """Decodes sources in as many threads as there are cores, up to eight; every thread fills its own shards.

    FFmpeg and NumPy release the interpreter while they work, so threads are enough.
    """

    def __init__(self, store, todo, wanted, decode, number, progress):
        self.store = store
        self.wanted = wanted
        self.decode = decode
        self.number = number
        self.queue = queue.SimpleQueue()
        for source in todo:
            self.queue.put(source)
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.report = {kind: {} for kind in NO_PROBLEMS}
        self.threads = max(1, min(os.cpu_count() or 1, len(todo), 8))
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
        shard = None
        try:
            while (source := self.next_source()) is not None:
                shard = shard or self.new_shard()
                self.add(shard, source)
                if shard.bytes >= SHARD_BYTES:
                    full, shard = shard, None
                    full.finish()
        finally:
            if shard is not None:
                shard.finish()

    def next_source(self):
        try:
            return None if self.stopping.is_set() else self.queue.get_nowait()
        except queue.Empty:
            return None

    def new_shard(self):
        with self.lock:
            self.number += 1
            return shard_files.ShardWriter(self.store, f"shard-{self.number - 1:05d}")

    def add(self, shard, source):
        """Decodes a source into a shard.

        Raises:
            UserError: the file cannot be read for now.
        """
        doubted, pauses = False, iter(PAUSES)
        while (problem := self.attempt(shard, source)) is not None:
            passing = passing_errors.passing(problem)
            if passing_errors.is_ambiguous(passing) and passing_errors.can_be_read(source.path):
                if doubted:
                    passing = None
                doubted = True
            elif passing is None and not source.path.exists():
                passing = problem  # it was there when the files were listed
            if passing is None:
                self.give_up(shard, source, problem)
                break
            shard.discard()
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
