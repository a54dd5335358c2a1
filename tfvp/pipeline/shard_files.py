"""One shard's files, while they are written.

`tfvp.pipeline.shards` describes the folder that they lie in.
"""

import numpy as np

from tfvp import files
from tfvp.pipeline import columns


class ShardWriter:
    """A shard that is being written. Files are open under temporary names until `finish`."""

    def __init__(self, store, name):
        self.store = store
        self.name = name
        self.sources = []
        self.columns = {
            key: columns.writer(store.folder / name, key, dtype, shape, store.codecs[key])
            for key, (dtype, shape) in store.arrays.items()
        }
        self.frames = 0
        self.clips = {}
        self.added = 0

    @property
    def bytes(self):
        return sum(column.size for column in self.columns.values())

    def append(self, name, pieces):
        clip = self.clips.setdefault(name, {"name": name, "offset": self.frames + self.added, "length": 0})
        count = len(pieces["video"])
        for key, (dtype, shape) in self.store.arrays.items():
            piece = np.ascontiguousarray(pieces[key])
            if piece.dtype != dtype or piece.shape != (count, *shape):
                raise ValueError(f"{key} of {name} is {piece.dtype} {piece.shape}, not {dtype} {(count, *shape)}")
            self.columns[key].append(piece)
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
        for column in self.columns.values():
            column.discard(self.frames)
        self.clips, self.added = {}, 0

    def finish(self):
        if not self.sources:
            for column in self.columns.values():
                column.abandon()
            return
        described = {}
        for column in self.columns.values():
            described.update(column.finish(self.frames))
        files.write_json(
            self.store.folder / f"{self.name}.json",
            {"name": self.name, "frames": self.frames, "files": described, "sources": self.sources},
        )
