"""Decodes raw files into shards.

`tfvp.pipeline.shards` describes the folder that this fills.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import queue
import threading
import zipfile
import zlib
from concurrent import futures

import numpy as np
from tqdm import tqdm

from tfvp import files
from tfvp.errors import UserError

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
        state: what changes when the content does. Defaults to the size and time of the file.
    """

    name: str
    split: str
    path: pathlib.Path
    member: str = ""
    segments: tuple = ()
    state: tuple = ()

    def fingerprint(self):
        """Text that differs once the file, its split or its segments do."""
        state = self.state
        if not state and self.path.is_dir():
            status = [entry.stat() for entry in os.scandir(self.path)]
            state = (len(status), sum(s.st_size for s in status), max((s.st_mtime_ns for s in status), default=0))
        elif not state:
            status = self.path.stat()
            state = (status.st_size, status.st_mtime_ns)
        return json.dumps([self.name, self.split, self.segments, *state])


def sha256(path):
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


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
            return _Shard(self.store, f"shard-{self.number - 1:05d}")

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


class _Shard:
    """A shard that is being written. Files are open under temporary names until `finish`."""

    def __init__(self, store, name):
        self.store = store
        self.name = name
        self.sources = []
        self.paths = {key: store.folder / f"{name}.{key}.npy" for key in store.arrays}
        self.temporary = {key: path.with_name(f".{path.name}.{os.getpid()}.tmp") for key, path in self.paths.items()}
        self.streams = {key: open(path, "wb") for key, path in self.temporary.items()}
        for key, stream in self.streams.items():
            stream.write(self.header(key, 0))
        self.frames = 0
        self.clips = {}
        self.added = 0

    @property
    def bytes(self):
        return sum(self.frames * int(np.prod(shape)) * dtype.itemsize for dtype, shape in self.store.arrays.values())

    def header(self, key, frames):
        dtype, shape = self.store.arrays[key]
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (frames, *shape)}
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, described)
        return buffer.getvalue()

    def append(self, name, pieces):
        clip = self.clips.setdefault(name, {"name": name, "offset": self.frames + self.added, "length": 0})
        count = len(pieces["video"])
        for key, (dtype, shape) in self.store.arrays.items():
            piece = np.ascontiguousarray(pieces[key])
            if piece.dtype != dtype or piece.shape != (count, *shape):
                raise ValueError(f"{key} of {name} is {piece.dtype} {piece.shape}, not {dtype} {(count, *shape)}")
            self.streams[key].write(piece.data)
        clip["length"] += count
        self.added += count

    def keep(self, source, fingerprint):
        self.sources.append({"source": source.name, "fingerprint": fingerprint, "clips": list(self.clips.values())})
        self.frames, self.clips, self.added = self.frames + self.added, {}, 0

    def discard(self):
        """Removes everything since the last `keep`."""
        for key, (dtype, shape) in self.store.arrays.items():
            stream = self.streams[key]
            stream.seek(len(self.header(key, 0)) + self.frames * int(np.prod(shape)) * dtype.itemsize)
            stream.truncate()
        self.clips, self.added = {}, 0

    def finish(self):
        described = {}
        for key, stream in self.streams.items():
            header = self.header(key, self.frames)
            stream.seek(0)
            stream.write(header)
            stream.close()
            if self.sources:
                size = os.path.getsize(self.temporary[key])
                described[key] = {"name": self.paths[key].name, "bytes": size, "sha256": sha256(self.temporary[key])}
                os.replace(self.temporary[key], self.paths[key])
            else:
                self.temporary[key].unlink()
        if self.sources:
            files.write_json(
                self.store.folder / f"{self.name}.json",
                {"name": self.name, "frames": self.frames, "files": described, "sources": self.sources},
            )
