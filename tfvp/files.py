"""Files that are either whole or absent: written to a temporary name, then renamed."""

import contextlib
import json
import os
import pathlib

from tfvp.errors import UserError


@contextlib.contextmanager
def atomic_write(path):
    """Yields a temporary path of the same suffix; on success it takes the place of `path`.

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


def write_json(path, value):
    """Writes `value` as indented JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=True) + "\n", encoding="utf-8")


def writable_folder(path):
    """Creates the folder where it is missing and makes sure that files can be written into it.

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
