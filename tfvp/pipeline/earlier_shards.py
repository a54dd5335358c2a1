"""Shards of the format before this one, taken over where they hold the same frames.

Format 1 named its folders by all settings, splits included, and knew a file by its time of modification.
"""

import contextlib
import json
import os
import pathlib

from tfvp import files
from tfvp.pipeline import entries

FORMAT = 1
_GONE = f"format {FORMAT}: "  # before the fingerprints of files that are not there to be looked at
# Options that version 0.1 did not have, and that change nothing about files that it could decode.
_LATER = ("truncated",)


def take_over(store, sources, prints):
    """Moves the shards of one folder of format 1 into a store without a manifest, if there is a fitting one.

    Args:
        store: a `tfvp.pipeline.shards.Store` whose folder exists and is locked; `store.earlier` says where to look.
        sources: list of `tfvp.pipeline.decoding.Source`.
        prints: {source name: fingerprint}.

    Returns:
        What the old manifest says, {"sources", "clips", "splitting"} in the current form, or None.
    """
    name = store.folder.name.rsplit("-", 1)[0]
    places = [folder for place in store.earlier for folder in sorted(place.glob(f"{name}-*")) if folder != store.folder]
    fitting = [(folder, manifest) for folder in places if _fits(manifest := _manifest(folder), store)]
    # Those with the same splits first.
    for folder, manifest in sorted(fitting, key=lambda pair: _splitting(pair[1], store) != store.splitting):
        with contextlib.suppress(OSError):  # the folder stays where it may not be deleted, or holds damaged shards
            _move(folder, store.folder, sources, prints)
        splits = {clip["source"]: clip["split"] for clip in manifest["clips"]}
        return {
            "sources": {n: [prints.get(n, _GONE + manifest["sources"][n]), split] for n, split in splits.items()},
            "clips": manifest["clips"],
            "splitting": _splitting(manifest, store),
        }
    return None


def _manifest(folder):
    try:
        return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _splitting(manifest, store):
    return {key: manifest["settings"].get(key) for key in store.splitting}


def _fits(manifest, store):
    if manifest is None or manifest.get("format") != FORMAT or store.settings.get("labels") == "kmeans":
        return False
    old = {key: value for key, value in manifest["settings"].items() if key not in store.splitting}
    new = {key: value for key, value in store.settings.items() if key in old or key not in _LATER}
    return json.loads(json.dumps(new)) == old


def _move(folder, target, sources, prints):
    now = {source.name: (_stamp(source), prints[source.name]) for source in sources}
    number = entries.next_number(target)
    for path, shard in entries.whole_shards(folder):
        kept = []
        for entry in shard["sources"]:
            stamp, fingerprint = now.get(entry["source"], (None, _GONE + entry["fingerprint"]))
            if stamp is None or stamp == _without_split(entry["fingerprint"]):
                kept.append({**entry, "fingerprint": fingerprint})
        name, number = f"shard-{number:05d}", number + 1
        for file in shard["files"].values():
            file["name"], old = file["name"].replace(shard["name"], name), file["name"]
            _bring(folder / old, target / file["name"])
        files.write_json(target / f"{name}.json", {**shard, "name": name, "sources": kept})
        with contextlib.suppress(OSError):
            path.unlink()
    for left in (*folder.glob(".*.tmp*"), folder / ".lock", folder / "manifest.json"):
        left.unlink(missing_ok=True)
    folder.rmdir()


def _bring(path, target):
    """Moves a file, or links to it where it may only be read or lies on another disk."""
    try:
        os.replace(path, target)
    except OSError:
        os.symlink(path.resolve(), target)


def _without_split(fingerprint):
    name, _, *rest = json.loads(fingerprint)
    return [name, *rest]


def _stamp(source):
    """The fingerprint of format 1, less the split."""
    state = source.state
    with contextlib.suppress(OSError):
        if not state and pathlib.Path(source.path).is_dir():
            status = [entry.stat() for entry in os.scandir(source.path)]
            state = (len(status), sum(s.st_size for s in status), max((s.st_mtime_ns for s in status), default=0))
        elif not state:
            status = source.path.stat()
            state = (status.st_size, status.st_mtime_ns)
    return json.loads(json.dumps([source.name, source.segments, *state]))
