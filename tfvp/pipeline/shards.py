"""Videos decoded once into flat files, and read from them at memory speed.

A shard folder holds

    shard-00000.video.npy   uint8 [frames, H, W, C]: clips one after the other, about 256 MB
                            (or compressed images, see `tfvp.pipeline.columns`)
    shard-00000.json        which raw files are in it, and where their clips are
    manifest.json           written last: format, settings, counts, sha256 of every file, every clip
    contents.json           sizes, times and digests of the raw files, which saves reading them anew
    .used                   an empty file; its time is that of the last use

Every file is written under a temporary name and renamed, so that a file with its final name is complete.
A folder without a manifest is an interrupted preparation: its finished shards are kept, and
only the missing clips are decoded. The folder's name ends in a digest of what changes the frames
(image size, channels, resizing, rate, labels, ...), so that other settings get a folder of their own. Raw files are
known by their content (`tfvp.pipeline.contents`) wherever they lie, and splits are in the manifest alone: neither
another place nor another split decodes anything again. Several folders of raw files may share one shard folder,
each with a manifest of its own.

Nothing is deleted unless `prune` is asked for: frames whose raw files are gone are used further, and said to be.
Further arrays of one entry per frame, such as labels and actions, lie beside the video in files of the same kind.
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
from tfvp.pipeline import columns, contents, dealing, decoding, earlier_shards, frame_codecs, sizes
from tfvp.pipeline.entries import Entries, is_whole, next_number, pieces_of

FORMAT = 2


class Store:
    """One shard folder.

    Args:
        folder: its path; it is created if it does not exist.
        settings: JSON-like dict of everything that the contents depend on.
        arrays: {key: (dtype, shape of one frame's entry)}; must contain "video".
        splitting: JSON-like dict of the settings that only assign clips to splits.
        view: distinguishes the folders of raw files that share this one.
        root: the folder of raw files, which the manifest names.
        earlier: folders where shards of an earlier format may lie, which are taken over.
        storage: how frames are kept, one of `frame_codecs.KINDS`.

    Attributes:
        lost: names of sources whose frames are used although the raw files are gone; after `prepare`.
    """

    def __init__(self, folder, settings, arrays, splitting=None, view="", root="", earlier=(), storage="raw"):
        if storage != "raw":
            settings = {**settings, "storage": storage}
        digest = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True).encode()).hexdigest()[:10]
        folder = pathlib.Path(folder)
        self.folder = folder.with_name(f"{folder.name}-{digest}")
        self.manifest_path = self.folder / (f"manifest-{view}.json" if view else "manifest.json")
        self.memo_path = self.manifest_path.with_name(self.manifest_path.name.replace("manifest", "contents"))
        self.settings = settings
        self.splitting = splitting or {}
        self.root = str(root)
        self.earlier = [pathlib.Path(place) for place in earlier]
        self.arrays = {key: (np.dtype(dtype), tuple(shape)) for key, (dtype, shape) in arrays.items()}
        self.storage = storage
        self.codecs = {key: frame_codecs.codec_of(storage, key, *self.arrays[key]) for key in self.arrays}
        self.lost = []

    # Writing.

    def prepare(self, sources, decode, progress=True, prune=False, parts=None, count=None):
        """Makes the folder complete and up to date; returns at once if it already is.

        Args:
            sources: list of `decoding.Source`, or [] where the raw files are gone.
            decode: source -> iterator of (clip name, {key: [n, ...]}); pieces of one clip follow
                each other. A UserError from it marks the file as unreadable: its clips are
                skipped, and it is named once.
            progress: whether to show a progress bar.
            prune: delete frames whose raw files are gone or were replaced, unless another folder of raw files needs
                them.
            parts: divides long films, as `decoding.Decoding` takes it.
            count: source -> how many frames it has, by a glance, or None. Needed space is said beforehand by it.

        Raises:
            UserError: nothing can be read, the folder cannot be written or is too small, or files are gone that would
                have to be assigned to other splits.
        """
        try:
            if sources:
                with contextlib.suppress(OSError):  # raised below, if it matters
                    self.folder.mkdir(parents=True, exist_ok=True)
            self.mark_used()
            prints = contents.fingerprints(sources, self.memo_path, progress)
            if not prune and (self._is_current(sources, prints) or self._is_decoded(sources, prints)):
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if prune or not self._is_current(sources, prints):
                    self._build(sources, prints, decode, progress, prune, parts, count)
        except OSError as error:
            raise UserError(
                f"cannot write the decoded frames to {self.folder} ({error.strerror or error});"
                " free some space or set data.cache to another folder"
            ) from error

    def mark_used(self):
        """Notes that the frames are used today."""
        with contextlib.suppress(OSError):
            (self.folder / ".used").touch()

    def _is_current(self, sources, prints):
        manifest = self._read_manifest()
        if manifest is None or not all(is_whole(self.folder, shard) for shard in manifest["shards"]):
            return False
        lost, renamed = self._not_listed(manifest, prints)
        if renamed or manifest["splitting"] != self._splitting:
            return False
        listed = self._listed(sources, {**prints, **lost}, lost, manifest)
        if listed != {name: entry for name, entry in manifest["sources"].items() if name in listed}:
            return False
        self._use(manifest)
        self.lost = sorted(lost)
        return True

    def _listed(self, sources, prints, lost, former):
        """{name: [fingerprint, split]} of all sources, the lost ones behind those that they followed before."""
        known = dealing.splits_of(former)
        splits = dealing.settled(sources, {name: known[name] for name in lost})
        return {name: [prints[name], splits[name]] for name in _merged(sources, lost, former)}

    def _use(self, manifest):
        """Reads by this manifest from now on, whatever other splits another process writes into the file."""
        if self.__dict__.get("manifest") != manifest:
            for cached in ("_tables", "_pieces", "_arrays"):
                self.__dict__.pop(cached, None)
            self.manifest = manifest

    @property
    def _splitting(self):
        return json.loads(json.dumps(self.splitting))

    @staticmethod
    def _not_listed(manifest, prints):
        """({name: fingerprint} of sources with frames that are gone, names of those that are renamed)."""
        used, then = dealing.splits_of(manifest), {name: e[0] for name, e in manifest["sources"].items()}
        # A copy that was there before is no new name of what is gone.
        there = {fingerprint for name, fingerprint in prints.items() if then.get(name) != fingerprint}
        rest = {name: e for name, e in then.items() if name in used and name not in prints}
        lost = {name: fingerprint for name, fingerprint in rest.items() if fingerprint not in there}
        return lost, rest.keys() - lost.keys()

    def _is_decoded(self, sources, prints):
        """Whether every source is decoded, or known to give no frames; writes the manifest then, if it may be written.

        Nobody waits for a lock here, and frames that others prepared can be read under other splits.
        """
        former, entries = self._read_manifest(), Entries(self.folder)
        if former is None:
            return False
        without = {n for n, fingerprint in prints.items() if entries.clips(n, fingerprint) is None}
        report = {kind: {} for kind in decoding.NO_PROBLEMS}
        for kind, known in report.items():
            same = (n for n in without if former["sources"].get(n, [None])[0] == prints[n])
            known.update({n: former[kind][n] for n in same if n in former.get(kind, {})})
        if without - set().union(*report.values()):
            return False
        lost = self._lost(former, prints, entries)
        self._use(self._assembled(sources, prints, lost, former, entries, report))
        with contextlib.suppress(UserError):
            files.write_json(self.manifest_path, self.manifest)
        return True

    def _read_manifest(self):
        try:
            manifest = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return manifest if manifest.get("format") == FORMAT else None

    @contextlib.contextmanager
    def _locked(self):
        """Waits for any other process that prepares this folder. The lock goes with its process."""
        waiting = functools.partial(tqdm.write, f"waiting for another process that decodes into {self.folder}")
        with locks.locked(self.folder, waiting=waiting):
            yield

    def _build(self, sources, prints, decode, progress, prune, parts, count):
        files.remove_leftovers(self.folder)
        former = self._read_manifest()
        if former is None:
            former = earlier_shards.take_over(self, sources, prints)
        entries = Entries(self.folder)
        lost = {} if prune else self._lost(former, prints, entries)
        todo = [source for source in sources if entries.clips(source.name, prints[source.name]) is None]
        if count is not None:
            sizes.announce(self, todo, count, progress)
        number = next_number(self.folder)
        report = decoding.NO_PROBLEMS
        if todo:
            report = decoding.Decoding(self, todo, prints, decode, number, progress, parts, entries.parts).run()
        self._use(self._assembled(sources, prints, lost, former, Entries(self.folder), report))
        files.write_json(self.manifest_path, self.manifest)
        if prune:
            self._remove_unused()

    def _lost(self, former, prints, entries):
        """{name: fingerprint} of sources whose frames are used without their raw files.

        Raises:
            UserError: the frames are damaged, or other splits are asked for than they were assigned to.
        """
        lost = self._not_listed(former, prints)[0] if former else {}
        if lost and former["splitting"] != self._splitting:
            raise UserError(
                f"{counted(lost)} of {self.settings['dataset']} whose raw files are gone cannot be assigned to splits"
                f" again, and {_changed(former['splitting'], self._splitting)}; bring the files back, leave that as it"
                " was, or drop their frames with `tfvp data --prune`"
            )
        for name, fingerprint in lost.items():
            if entries.clips(name, fingerprint) is None:
                raise UserError(
                    f"the decoded frames of {name} in {self.folder} are damaged, and its raw file is gone; bring it"
                    " back, or drop the frames with `tfvp data --prune`"
                )
        return lost

    def _assembled(self, sources, prints, lost, former, entries, report):
        """The manifest: every source that has frames."""
        prints = {**prints, **lost}
        listed, clips = self._listed(sources, prints, lost, former), []
        for name, (fingerprint, split) in listed.items():
            clips += [{"source": name, "split": split, **clip} for clip in entries.clips(name, fingerprint) or ()]
        if not clips:
            reasons = [reason for problems in report.values() for reason in problems.values()]
            first = next(iter(reasons), "they hold no frames")
            raise UserError(
                f"none of the {len(sources)} files of {self.settings['dataset']} can be read; the first: {first}"
            )
        self.lost = sorted(lost)
        used = {shard for clip in clips for shard, *_ in pieces_of(clip)}
        return {
            "format": FORMAT,
            "settings": self.settings,
            "splitting": self._splitting,
            "root": self.root,
            "arrays": {key: {"dtype": dtype.name, "shape": list(shape)} for key, (dtype, shape) in self.arrays.items()},
            "counts": {split: sum(c["split"] == split for c in clips) for split in sorted({c["split"] for c in clips})},
            "frames": sum(clip["length"] for clip in clips),
            **report,
            "truncated": {
                # Shards of before name the file in their notes.
                name: note if note.endswith(")") else f"{name} ({note})"
                for name, (fingerprint, _) in listed.items()
                if (note := entries.note(name, fingerprint))
            },
            "shards": [shard for name, shard in entries.shards.items() if name in used],
            "sources": listed,
            "clips": clips,
        }

    def _remove_unused(self):
        """Deletes shards that no manifest needs."""
        used = set()
        for path in self.folder.glob("manifest*.json"):
            with contextlib.suppress(OSError, ValueError):
                used |= {shard["name"] for shard in json.loads(path.read_text(encoding="utf-8"))["shards"]}
        for path in self.folder.glob("shard-*"):
            if path.name.split(".")[0] not in used:
                path.unlink()

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
            if not is_whole(self.folder, entry):
                raise UserError(
                    f"{entry['name']} in {self.folder} is missing or incomplete; delete that folder to make it again"
                )
        return manifest

    def splits(self):
        """{source name: split} of the sources whose frames are here; {} before they are."""
        return dealing.splits_of(self._read_manifest())

    def check(self, progress=True):
        """Compares the sha256 of every file with the manifest; returns how many there are.

        Raises:
            UserError: the first file that differs.
        """
        listed = [f for entry in self.manifest["shards"] for f in entry["files"].values()]
        for file in tqdm(listed, desc="checking", unit="file", disable=not progress, leave=False):
            if files.sha256(self.folder / file["name"]) != file["sha256"]:
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
        span = (length - 1) * stride + 1
        result = {key: np.empty((len(clips), length, *shape), dtype) for key, (dtype, shape) in self.arrays.items()}
        first = table["piece"][clips]
        shards, begins = self._pieces["shard"][first], self._pieces["offset"][first] + starts
        whole = starts + span <= self._pieces["length"][first]
        for i, (shard, begin, inside) in enumerate(zip(shards.tolist(), begins.tolist(), whole.tolist())):
            if inside:
                for key, array in self._arrays[shard].items():
                    result[key][i] = array[begin : begin + span : stride]
            else:
                self._read_pieces(result, i, int(first[i]), int(starts[i]) + stride * np.arange(length))
        return result

    def _read_pieces(self, result, i, piece, frames):
        """Fills window `i` with frames of a clip whose first piece is `piece`."""
        begin = 0
        while (frames >= begin).any():
            length = int(self._pieces["length"][piece])
            rows = np.flatnonzero((frames >= begin) & (frames < begin + length))
            where = frames[rows] - begin + self._pieces["offset"][piece]
            for key, array in self._arrays[int(self._pieces["shard"][piece])].items():
                result[key][i, rows] = array[where]
            begin, piece = begin + length, piece + 1

    def _table(self, split):
        return self._tables.get(split, self._tables[""])

    @functools.cached_property
    def _tables(self):
        """{split: {"length", "piece"}}, of each clip the frames and the number of its first piece."""
        rows, pieces = {"": []}, 0
        for clip in self.manifest["clips"]:
            rows.setdefault(clip["split"], []).append((clip["length"], pieces))
            pieces += len(pieces_of(clip))
        columns = {split: np.array(r, np.int64).reshape(-1, 2).T for split, r in rows.items()}
        return {split: dict(zip(("length", "piece"), c)) for split, c in columns.items()}

    @functools.cached_property
    def _pieces(self):
        """{"shard", "offset", "length"} of the pieces of all clips, int64 [P] each."""
        numbers = {shard["name"]: i for i, shard in enumerate(self.manifest["shards"])}
        rows = [(numbers[shard], *place) for clip in self.manifest["clips"] for shard, *place in pieces_of(clip)]
        return dict(zip(("shard", "offset", "length"), np.array(rows, np.int64).reshape(-1, 3).T))

    @functools.cached_property
    def _arrays(self):
        return [
            {key: columns.reader(self.folder, key, entry["files"], codec) for key, codec in self.codecs.items()}
            for entry in self.manifest["shards"]
        ]


def counted(names):
    """ "1 file" or "3 files"."""
    return f"{len(names)} file{'s' * (len(names) != 1)}"


def _changed(old, new):
    """What differs between two settings of splits, in words."""
    different = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"data.{key} was {old.get(key)} and is {new.get(key)}" for key in different)


def _merged(sources, lost, former):
    """Names of both, the lost ones behind those that they followed before."""
    listed = {source.name: None for source in sources}
    behind, last = {None: []}, None
    for name in former["sources"] if lost else ():
        if name in lost:
            behind[last].append(name)
        elif name in listed:
            behind[name], last = [], name
    return behind[None] + [name for one in listed for name in (one, *behind.get(one, ()))]
