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
from tfvp.pipeline import shard_files

SHARD_BYTES = 256 * 2**20


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
        self.unreadable = {}
        self.threads = max(1, min(os.cpu_count() or 1, len(todo), 8))
        title = f"decoding {store.settings['dataset']}"
        self.bar = tqdm(total=len(todo), desc=title, unit="file", disable=not progress)

    def run(self):
        with self.bar, futures.ThreadPoolExecutor(self.threads) as pool:
            running = [pool.submit(self.work) for _ in range(self.threads)]
            try:
                for future in futures.as_completed(running):
                    future.result()
            finally:
                self.stopping.set()
        return dict(sorted(self.unreadable.items()))

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
        try:
            for name, pieces in self.decode(source):
                if self.stopping.is_set():
                    return shard.discard()
                shard.append(name, pieces)
            shard.keep(source, self.wanted[source.name])
        except UserError as error:
            shard.discard()
            with self.lock:
                self.unreadable[source.name] = str(error)
        except BaseException:
            shard.discard()
            raise
        self.bar.update()
