"""What is kept of decoded frames, and how to be rid of it."""

import contextlib
import dataclasses
import datetime
import json
import pathlib
import re

from tfvp import locks
from tfvp.errors import UserError
from tfvp.pipeline import entries, outputs, shards

_PLACE = re.compile(r"\.tfvp|[0-9a-f]{8}")
_LEVELS = ("*", ".tfvp/*", "*/*")  # below a folder: shards of this version, beside raw files, of version 0.1


@dataclasses.dataclass(frozen=True)
class Cached:
    """One folder of shards.

    Attributes:
        path: of the folder, as text.
        name: the end of its path, by which it is chosen.
        dataset: name of the data set.
        settings: what its frames depend on; {} where that is not known.
        roots: folders of the raw files that it was decoded from; as far as that is known.
        bytes: of all files in it.
        used: when it was last prepared or read, a date and time in ISO 8601.
        state: "current"; "incomplete" (decoding was interrupted, and goes on with the same command); "damaged";
            "format 1" (of version 0.1; taken over when its data are prepared again).
    """

    path: str
    name: str
    dataset: str
    settings: dict
    roots: list
    bytes: int
    used: str
    state: str

    @property
    def current(self):
        """Whether it can be read as it is."""
        return self.state == "current"

    def to_dict(self):
        """Plain JSON types."""
        return {**dataclasses.asdict(self), "current": self.current}

    def age(self):
        """Days since it was used."""
        return (datetime.datetime.now() - datetime.datetime.fromisoformat(self.used)).total_seconds() / 86400


def listed(places):
    """The folders of shards in and below some folders, sorted by path: list of `Cached`."""
    paths = {}
    for place in map(pathlib.Path, places):
        for level in _LEVELS:
            for path in place.glob(level):
                if path.is_dir() and _is_store(path):
                    paths.setdefault(path.resolve(), path)
    return [_described(paths[path]) for path in sorted(paths)]


def chosen(cached, names):
    """Those of some names.

    Raises:
        UserError: there is none of a name, or there are several.
    """
    result = []
    for name in names:
        matches = [one for one in cached if name in (one.path, one.name)]
        if len(matches) != 1:
            what = f"{len(matches)} folders of decoded frames are" if matches else "no folder of decoded frames is"
            raise UserError(f"{what} called {name}; give the name or path that `tfvp data --cache` shows")
        result += [one for one in matches if one not in result]
    return result


def remove(cached):
    """Deletes a folder of shards, but no file in it that tfvp did not write.

    Raises:
        UserError: another process decodes into it, or it cannot be deleted.
    """
    folder = pathlib.Path(cached.path)
    try:
        with locks.locked(folder, taken=f"another process is decoding into {folder}; it is not removed"):
            # The manifests first, so that what an interruption leaves is not taken for whole.
            for pattern in sorted(outputs.DECODED_FILES, key=lambda pattern: pattern != "manifest*.json"):
                for path in folder.glob(pattern):
                    path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies there
            folder.rmdir()
            if _PLACE.fullmatch(folder.parent.name):
                folder.parent.rmdir()
    except OSError as error:
        raise UserError(f"{folder} cannot be removed: {error.strerror or error}") from None


def _is_store(path):
    return outputs.DECODED.fullmatch(path.name) and any(
        True for pattern in outputs.DECODED_FILES for _ in path.glob(pattern)
    )


def _described(folder):
    manifests = [manifest for manifest in map(_read, folder.glob("manifest*.json")) if manifest]
    formats = {manifest.get("format") for manifest in manifests}
    if not manifests:
        state = "incomplete"
    elif not all(entries.is_whole(folder, shard) for manifest in manifests for shard in manifest.get("shards", ())):
        state = "damaged"
    elif formats == {shards.FORMAT}:
        state = "current"
    else:
        state = f"format {min(formats, key=str)}"
    files = [path for path in folder.rglob("*") if path.is_file()]
    marks = [folder / ".used"] if (folder / ".used").exists() else files
    used = max((path.stat().st_mtime for path in marks), default=folder.stat().st_mtime)
    settings = dict(manifests[0].get("settings", {})) if manifests else {}
    roots = [manifest["root"] for manifest in manifests if manifest.get("root")]
    if not roots and folder.parent.name == ".tfvp":
        roots = [str(folder.parent.parent)]
    return Cached(
        path=str(folder),
        name=folder.name,
        dataset=settings.pop("dataset", folder.name.rsplit("-", 2)[0]),
        settings=settings,
        roots=sorted(roots),
        bytes=sum(path.stat().st_size for path in files),
        used=datetime.datetime.fromtimestamp(used).isoformat(timespec="seconds"),
        state=state,
    )


def _read(path):
    with contextlib.suppress(OSError, ValueError):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest if isinstance(manifest, dict) else None
    return None
