"""One shard's files, while they are written.

`tfvp.pipeline.shards` describes the folder that they lie in.
"""

import io
import os

import numpy as np

from tfvp import files


class ShardWriter:
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

    def keep(self, source, fingerprint, note=""):
        """Ends a source, or a part of one; `note` says what its readers should know."""
        entry = {"source": source.name, "fingerprint": fingerprint, "clips": list(self.clips.values())}
        if source.part is not None:
            entry.update(plan=source.part.plan, part=source.part.number, parts=source.part.total)
        self.sources.append({**entry, **({"note": note} if note else {})})
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
                described[key] = {
                    "name": self.paths[key].name,
                    "bytes": size,
                    "sha256": files.sha256(self.temporary[key]),
                }
                os.replace(self.temporary[key], self.paths[key])
            else:
                self.temporary[key].unlink()
        if self.sources:
            files.write_json(
                self.store.folder / f"{self.name}.json",
                {"name": self.name, "frames": self.frames, "files": described, "sources": self.sources},
            )
