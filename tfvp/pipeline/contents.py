"""Which raw files are the same as before: by their size and parts of their content, not by time or place.

A file that is moved, copied or touched keeps its fingerprint, so that nothing is decoded again for it. Of a large file
the first, the middle and the last block are hashed together with its size; an edit that changes none of them, and
not the size either, is not noticed. No video encoder writes such a file.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import stat
from concurrent import futures

from tqdm import tqdm

from tfvp import files
from tfvp.errors import UserError

BLOCK = 2**16  # bytes; files of up to three blocks are hashed as a whole
MANY = 1000  # files that take a while to look into
_UNREADABLE = "unreadable:"


def of_file(path):
    """A digest of a file's size and blocks, as text."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(str(size).encode())
        starts = (0, (size - BLOCK) // 2, size - BLOCK) if size > 3 * BLOCK else range(0, size, BLOCK)
        for start in starts:
            file.seek(start)
            digest.update(file.read(BLOCK))
    return f"{size}:{digest.hexdigest()[:20]}"


def of_path(path):
    """A digest of a file, or of the names and contents of the files in a folder, as text."""
    path = pathlib.Path(path)
    if not path.is_dir():
        return of_file(path)
    entries = [[entry.name, of_file(entry.path)] for entry in _files_in(path)]
    return f"{len(entries)} files:{_digest(entries)}"


def fingerprints(sources, memo_path, progress=False):
    """What identifies the frames of each source: {source name: text}, the same wherever the file lies.

    Files are read anew only where their size or time of modification differs from what the call before remembered.

    Args:
        sources: list of `tfvp.pipeline.decoding.Source`.
        memo_path: where that is kept, a `pathlib.Path`. It need not exist; it is written if its folder can be.
        progress: whether to show a bar, where there are many.
    """
    memo, fresh = _remembered(memo_path), {}
    places = {source.name: source.files or (source.path,) for source in sources if not source.state}
    stamps = {paths: _stamp(paths) for paths in dict.fromkeys(places.values())}
    for name, paths in places.items():
        if paths not in fresh:
            stamp, content = memo.get(name, (None, None))
            if stamp == stamps[paths] and not content.startswith(_UNREADABLE):
                fresh[paths] = content
    unread = [paths for paths in stamps if paths not in fresh]
    with futures.ThreadPoolExecutor(min(8, len(unread) or 1)) as pool:
        bar = {"desc": "looking into files", "unit": "file", "leave": False}
        read = tqdm(pool.map(_content, unread), total=len(unread), disable=not progress or len(unread) < MANY, **bar)
        fresh.update(zip(unread, read))
    if unread and memo_path.parent.is_dir():
        names = {name: [stamps[paths], fresh[paths]] for name, paths in places.items()}
        with contextlib.suppress(OSError, UserError):  # it only saves time
            files.write_json(memo_path, {**memo, **names})
    return {
        source.name: json.dumps([list(source.state) or fresh[places[source.name]], source.member, source.segments])
        for source in sources
    }


def _remembered(path):
    try:
        memo = json.loads(path.read_text(encoding="utf-8"))
        return {name: (stamp, content) for name, (stamp, content) in memo.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _content(paths):
    try:
        return _joined([of_path(path) for path in paths])
    except OSError:  # decoding says what is wrong with it
        return f"{_UNREADABLE} {_stamp(paths)}"


def _stamp(paths):
    """Sizes and times of modification: text that changes when a file is written, or one in a folder."""
    return _joined([_stamp_of(path) for path in paths])


def _stamp_of(path):
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return f"{status.st_size} {status.st_mtime_ns}"
        status = [(entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in _files_in(path)]
        return f"{len(status)} {_digest(status)}"
    except OSError:
        return "gone"


def _joined(texts):
    return texts[0] if len(texts) == 1 else f"{len(texts)} files:{_digest(texts)}"


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:20]


def _files_in(folder):
    return sorted((entry for entry in os.scandir(folder) if entry.is_file()), key=lambda entry: entry.name)
