"""Which folders tfvp wrote, so that nothing in them is taken for a video where they lie among videos."""

import fnmatch
import json
import pathlib
import re

# What a folder of decoded frames is called, and the files in it.
DECODED = re.compile(r".+-\d+x\d+x\d+-[0-9a-f]{10}")
DECODED_FILES = (
    "shard-*",
    "manifest*.json",
    "contents*.json",
    "remote-*.json",
    "centres.npy",
    ".lease",
    ".used",
    ".*.tmp*",
    ".lock",
)
# Files that stand together, the one of them whose contents are looked at, and a key of those.
_DOCUMENTS = (
    ({"config.yml", "environment.json"}, "environment.json", "sessions"),  # a run
    ({"metrics.json", "curves.csv"}, "metrics.json", "protocol"),  # an evaluation, or scores of files
    ({"comparison.json", "report.html"}, "comparison.json", "compares"),
)
# Files that stand together, and one further down: of imported and published models, of exports, and of remote folders.
_TREES = (
    ({"config.yml"}, "model/status.json"),
    ({"config.yml"}, "model/best.weights.h5"),
    ({"saved_model.pb"}, "assets.extra/model.json"),
    ({"url.txt", "objects.jsonl"}, "raw"),
)


def is_output(folder: pathlib.Path, names: list[str]) -> bool:
    """Whether tfvp wrote a folder: a run, an evaluation, scores, a comparison, a model, an export or decoded frames.

    One file that is called as one of tfvp's does not make it so: others stand beside it, or it says what it is.

    Args:
        folder: the folder.
        names: of the files in it, without folders.
    """
    present = set(names)
    if DECODED.fullmatch(folder.name):
        if any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in DECODED_FILES):
            return True
    if any(files <= present and (folder / deeper).exists() for files, deeper in _TREES):
        return True
    return any(files <= present and _has_key(folder / name, key) for files, name, key in _DOCUMENTS)


def _has_key(path, key):
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and key in document
