"""What the finished shards of a folder hold, source by source."""

import contextlib
import json


def is_whole(folder, shard):
    """Whether all files of a shard have the size that they were written with."""
    with contextlib.suppress(OSError):
        return all((folder / file["name"]).stat().st_size == file["bytes"] for file in shard["files"].values())
    return False


def whole_shards(folder):
    """Yields (path, content) of the descriptions of a folder's whole shards, in order.

    One that cannot be read, as after a power cut, describes no whole shard.
    """
    for path in sorted(folder.glob("shard-*.json")):
        with contextlib.suppress(OSError, ValueError):
            shard = json.loads(path.read_text(encoding="utf-8"))
            if is_whole(folder, shard):
                yield path, shard


def next_number(folder):
    """The number of the next shard of a folder."""
    return max((int(path.stem.split("-")[1]) for path in folder.glob("shard-*.json")), default=-1) + 1


def pieces_of(clip):
    """[[shard name, offset, length], ...] of a clip in a manifest."""
    return clip.get("pieces") or [[clip["shard"], clip["offset"], clip["length"]]]


class Entries:
    """The entries of all whole shards.

    An entry says where the clips of a source lie in one shard: {"source", "fingerprint", "clips": [{"name",
    "offset", "length"}, ...]}, and perhaps a "note" for readers. Where a source is spread over several entries, each
    has "plan", which says how it was divided, "parts", how many there are in it, and "part", its place; clips of
    the same name follow each other in the order of parts.

    Args:
        folder: a `pathlib.Path`.

    Attributes:
        shards: {name: {"name", "frames", "files"}}, sorted.
    """

    def __init__(self, folder):
        self.shards = {}
        self._parts = {}
        self._names = {}
        for _, shard in whole_shards(folder):
            self.shards[shard["name"]] = {key: shard[key] for key in ("name", "frames", "files")}
            for entry in shard["sources"]:
                key = entry["source"], entry["fingerprint"]
                place = entry.get("plan", ""), entry.get("part", 0)
                self._parts.setdefault(key, {})[place] = (entry, shard["name"])
                self._names.setdefault(entry["fingerprint"], []).append(entry["source"])

    def parts(self, name, fingerprint, plan=""):
        """The finished parts of a source in one plan: {number: (entry, shard name)}."""
        parts = self._parts.get((name, fingerprint), {})
        return {part: entry for (division, part), entry in parts.items() if division == plan}

    def note(self, name, fingerprint):
        """What readers of a source should know, or ""; it is known under other names, too."""
        for known in (name, *self._names.get(fingerprint, ())):
            entry, _ = self.parts(known, fingerprint).get(0, ({}, ""))
            if entry:
                return entry.get("note", "")
        return ""

    def clips(self, name, fingerprint):
        """The clips of a source, or None if it is not complete.

        A file that was renamed is known by its fingerprint; its clips get the new name.

        Returns:
            List of {"name", "length", "shard", "offset"}, or with "pieces", [[shard, offset, length], ...], in place
            of the last two where a clip lies in several shards.
        """
        for old in (name, *self._names.get(fingerprint, ())):
            for plan in sorted({plan for plan, _ in self._parts.get((old, fingerprint), {})}):
                clips = self._joined(self.parts(old, fingerprint, plan))
                names = [_renamed(clip["name"], old, name) for clip in clips or ()]
                if clips is not None and None not in names:
                    return [{**clip, "name": new} for clip, new in zip(clips, names)]
        return None

    @staticmethod
    def _joined(parts):
        count = max((entry.get("parts", 0 if "part" in entry else 1) for entry, _ in parts.values()), default=0)
        if not count or sorted(parts) != list(range(count)):
            return None
        pieces = {}
        for _, (entry, shard) in sorted(parts.items()):
            for clip in entry["clips"]:
                pieces.setdefault(clip["name"], []).append([shard, clip["offset"], clip["length"]])
        clips = []
        for name, places in pieces.items():
            where = {"shard": places[0][0], "offset": places[0][1]} if len(places) == 1 else {"pieces": places}
            clips.append({"name": name, "length": sum(length for *_, length in places), **where})
        return clips


def _renamed(clip, old, new):
    """The name of a clip once its source is called `new`; None where it does not begin with the source's name."""
    if old == new:
        return clip
    # Some data sets list a file once for each split, as "<file>:<split>", and name its clips by the file.
    for before, after in ((old, new), (old.rsplit(":", 1)[0], new.rsplit(":", 1)[0])):
        if clip == before or clip.startswith((f"{before}#", f"{before}/")):
            return after + clip[len(before) :]
    return None
