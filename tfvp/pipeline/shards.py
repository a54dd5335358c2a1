"""Videos decoded once into flat files, and read from them at memory speed.

A shard folder holds

    shard-00000.video.npy   uint8 [frames, H, W, C]: clips one after the other, about 256 MB
    shard-00000.json        which raw files are in it, and where their clips are
    manifest.json           written last: format, settings, counts, sha256 of every file, every clip

Every file is written under a temporary name and renamed, so that a file with its final name is complete.
A folder without a manifest is an interrupted preparation: its finished shards are kept, and
only the missing clips are decoded. The folder's name ends in a digest of the settings, so
that other settings (another image size) get a folder of their own. Further arrays of one entry
per frame, such as labels and actions, lie beside the video in files of the same kind.
"""

import contextlib
import functools
import hashlib
import json
import pathlib

import numpy as np
from tqdm import tqdm

from tfvp import files, locks
from tfvp.errors import UserError
from tfvp.pipeline import decoding, shard_files

FORMAT = 1


class Store:
    """One shard folder.

    Args:
        folder: its path; it is created if it does not exist.
        settings: JSON-like dict of everything that the contents depend on.
        arrays: {key: (dtype, shape of one frame's entry)}; must contain "video".
    """

    def __init__(self, folder, settings, arrays):
        digest = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True).encode()).hexdigest()[:10]
        folder = pathlib.Path(folder)
        self.folder = folder.with_name(f"{folder.name}-{digest}")
        self.settings = settings
        self.arrays = {key: (np.dtype(dtype), tuple(shape)) for key, (dtype, shape) in arrays.items()}

    # Writing.

    def prepare(self, sources, decode, progress=True):
        """Makes the folder complete and up to date; returns at once if it already is.

        Args:
            sources: list of `decoding.Source`, or [] where the raw files are gone.
            decode: source -> iterator of (clip name, {key: [n, ...]}); pieces of one clip follow
                each other. A UserError from it marks the file as unreadable: its clips are
                skipped, and it is named once.
            progress: whether to show a progress bar.

        Raises:
            UserError: nothing can be read, or the folder cannot be written.
        """
        wanted = {source.name: source.fingerprint() for source in sources}
        if self._is_current(wanted):
            return
        for cached in ("manifest", "_tables", "_arrays"):
            self.__dict__.pop(cached, None)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if not self._is_current(wanted):
                    self._build(sources, wanted, decode, progress)
        except OSError as error:
            raise UserError(
                f"cannot write the decoded frames to {self.folder} ({error.strerror or error});"
                " free some space or set data.cache to another folder"
            ) from error

    def _is_current(self, wanted):
        manifest = self._read_manifest()
        if manifest is None or not all(self._is_whole(entry) for entry in manifest["shards"]):
            return False
        return not wanted or manifest["sources"] == wanted

    def _read_manifest(self):
        try:
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return manifest if manifest.get("format") == FORMAT else None

    def _is_whole(self, entry):
        with contextlib.suppress(OSError):
            return all((self.folder / f["name"]).stat().st_size == f["bytes"] for f in entry["files"].values())
        return False

    @contextlib.contextmanager
    def _locked(self):
        """Waits for any other process that prepares this folder. The lock goes with its process."""
        waiting = functools.partial(tqdm.write, f"waiting for another process that decodes into {self.folder}")
        with locks.locked(self.folder, waiting=waiting):
            yield

    def _build(self, sources, wanted, decode, progress):
        for stale in (*self.folder.glob(".*.tmp*"), self.folder / "manifest.json"):
            stale.unlink(missing_ok=True)
        done = self._finished()
        todo = [s for s in sources if s.name not in done or done[s.name][0]["fingerprint"] != wanted[s.name]]
        number = max((int(p.stem.split("-")[1]) for p in self.folder.glob("shard-*.json")), default=-1) + 1
        unreadable = decoding.Decoding(self, todo, wanted, decode, number, progress).run() if todo else {}
        done = self._finished()
        kept = [s for s in sources if s.name in done and done[s.name][0]["fingerprint"] == wanted[s.name]]
        if not kept:
            raise UserError(
                f"none of the {len(sources)} files of {self.settings['dataset']} can be read; the first: "
                f"{next(iter(unreadable.values()))}"
            )
        clips = [
            {"source": s.name, "split": s.split, "shard": done[s.name][1], **clip}
            for s in kept
            for clip in done[s.name][0]["clips"]
        ]
        used = {clip["shard"] for clip in clips}
        shards = []
        for path in sorted(self.folder.glob("shard-*.json")):
            entry = json.loads(path.read_text(encoding="utf-8"))
            if entry["name"] in used:
                shards.append({key: entry[key] for key in ("name", "frames", "files")})
                continue
            for name in (path.name, *(f["name"] for f in entry["files"].values())):
                (self.folder / name).unlink(missing_ok=True)
        files.write_json(
            self.folder / "manifest.json",
            {
                "format": FORMAT,
                "settings": self.settings,
                "arrays": {key: {"dtype": dtype.name, "shape": shape} for key, (dtype, shape) in self.arrays.items()},
                "counts": {
                    split: sum(c["split"] == split for c in clips) for split in sorted({c["split"] for c in clips})
                },
                "frames": sum(clip["length"] for clip in clips),
                "unreadable": unreadable,
                "shards": shards,
                "sources": wanted,
                "clips": clips,
            },
        )

    def _finished(self):
        """{source name: (entry, shard name)} of every shard that is whole."""
        sources = {}
        for path in sorted(self.folder.glob("shard-*.json")):
            shard = json.loads(path.read_text(encoding="utf-8"))
            if self._is_whole(shard):
                sources.update({entry["source"]: (entry, shard["name"]) for entry in shard["sources"]})
        return sources

    # Reading.

    @functools.cached_property
    def manifest(self):
        """The content of manifest.json.

        Raises:
            UserError: there is none, or a shard is missing or has another size.
        """
        manifest = self._read_manifest()
        if manifest is None:
            raise UserError(f"{self.folder} holds no complete data; call prepare() first, or run `tfvp data` once")
        for entry in manifest["shards"]:
            if not self._is_whole(entry):
                raise UserError(
                    f"{entry['name']} in {self.folder} is missing or incomplete; delete that folder to make it again"
                )
        return manifest

    def check(self, progress=True):
        """Compares the sha256 of every file with the manifest; returns how many there are.

        Raises:
            UserError: the first file that differs.
        """
        listed = [f for entry in self.manifest["shards"] for f in entry["files"].values()]
        for file in tqdm(listed, desc="checking", unit="file", disable=not progress, leave=False):
            if shard_files.sha256(self.folder / file["name"]) != file["sha256"]:
                raise UserError(
                    f"{file['name']} in {self.folder} is corrupt (wrong sha256); delete that folder to make it again"
                )
        return len(listed)

    def clip_lengths(self, split):
        """Frames of every clip of a split: int64 [N]."""
        return self._table(split)["length"]

    def clip_names(self, split):
        """Names of the clips of a split, in order."""
        return [clip["name"] for clip in self.manifest["clips"] if clip["split"] == split]

    def read(self, split, clips, starts, length, stride=1):
        """Windows of clips: {key: [N, length, ...]}; see `VideoDataset.read`."""
        table = self._table(split)
        shards, begins = table["shard"][clips], table["offset"][clips] + starts
        span = (length - 1) * stride + 1
        result = {key: np.empty((len(clips), length, *shape), dtype) for key, (dtype, shape) in self.arrays.items()}
        for i, (shard, begin) in enumerate(zip(shards.tolist(), begins.tolist())):
            for key, array in self._arrays[shard].items():
                result[key][i] = array[begin : begin + span : stride]
        return result

    def _table(self, split):
        return self._tables.get(split, self._tables[""])

    @functools.cached_property
    def _tables(self):
        numbers = {entry["name"]: i for i, entry in enumerate(self.manifest["shards"])}
        rows = {"": []}
        for clip in self.manifest["clips"]:
            rows.setdefault(clip["split"], []).append((numbers[clip["shard"]], clip["offset"], clip["length"]))
        columns = {split: np.array(r, np.int64).reshape(-1, 3).T for split, r in rows.items()}
        return {split: dict(zip(("shard", "offset", "length"), c)) for split, c in columns.items()}

    @functools.cached_property
    def _arrays(self):
        # np.asarray: slices of a memmap object are slow to make, those of a plain array are not.
        return [
            {key: np.asarray(np.load(self.folder / f["name"], mmap_mode="r")) for key, f in entry["files"].items()}
            for entry in self.manifest["shards"]
        ]
