"""Writes files that are either complete or absent: under a temporary name, then renamed."""

import collections.abc
import contextlib
import json
import os
import pathlib

from tfvp.errors import UserError


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
    """Writes `value` as indented JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=True) + "\n", encoding="utf-8")


def writable_folder(path: str | os.PathLike) -> pathlib.Path:
    """Creates the folder if it does not exist, and checks that files can be written into it.

    Raises:
        UserError: it cannot be created or written.
    """
    path = pathlib.Path(path)
    probe = path / f".probe-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write into {path}: {error.strerror or error}; choose another --logdir") from None
    return path
