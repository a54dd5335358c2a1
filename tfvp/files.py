"""Writes files that are either complete or absent: under a temporary name, then renamed."""

import collections.abc
import contextlib
import hashlib
import json
import math
import os
import pathlib
import re

from tfvp.errors import UserError

MOST_LISTED = 8  # numbers that a note names
_URL = re.compile(r"[a-z][a-z0-9+.-]+:[:/]", re.IGNORECASE)  # two letters at least: C:/ is a disk


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> collections.abc.Iterator[pathlib.Path]:
    """Yields a temporary path with the same suffix, which replaces `path` on success.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    path = pathlib.Path(path)
    # Some writers choose the format by the suffix, and Keras insists on ".weights.h5".
    suffix = "".join(path.suffixes)
    temporary = path.with_name(f".{path.name[: len(path.name) - len(suffix)]}.{os.getpid()}.tmp{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes `value` as indented JSON, which has no word for numbers that are not finite; see `finite`."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(finite(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def finite(value: object) -> object:
    """`value`, of plain JSON types, with None for every number that is not finite.

    Where there are such numbers in a dict, a sentence in its "notes" says which: NaN and Infinity are not JSON, and
    strict readers refuse the whole file for one of them.
    """
    places = []
    clean = _finite(value, (), places)
    if places and isinstance(clean, dict):
        listed = "; ".join(f"{place} ({name})" for place, name in places[:MOST_LISTED])
        more = f"; and {len(places) - MOST_LISTED} more" if len(places) > MOST_LISTED else ""
        clean["notes"] = [*clean.get("notes", []), f"null stands for numbers that are not finite: {listed}{more}"]
    return clean


def _finite(value, path, places):
    if isinstance(value, dict):
        return {key: _finite(entry, (*path, str(key)), places) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry, (*path, str(n)), places) for n, entry in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        places.append(("/".join(path), "not a number" if math.isnan(value) else "infinite"))
        return None
    return value


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def readable_size(count: float) -> str:
    """A number of bytes in words: "512 B", "4.4 GB"; 1 kB = 1,000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Removes temporary files that killed processes left in a folder, which no other process may be writing to."""
    for path in pathlib.Path(folder).glob(".*.tmp*"):
        with contextlib.suppress(OSError):
            path.unlink()


def is_url(place: str | os.PathLike) -> bool:
    """Whether a place is in an object store, such as gs://bucket/kth, and not a folder of this machine."""
    return bool(_URL.match(os.fspath(place)))


def writable_folder(path: str | os.PathLike) -> pathlib.Path:
    """Creates the folder if it does not exist, and checks that files can be written into it.

    Raises:
        UserError: it cannot be created or written.
    """
    if is_url(path):
        raise UserError(
            f"{os.fspath(path)} is an object store, and runs need a file system; mount it (gcsfuse, s3fs and the like),"
            " or train to a local --logdir and copy the run"
        )
    path = pathlib.Path(path)
    probe = path / f".probe-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write into {path}: {error.strerror or error}; choose another --logdir") from None
    return path
