"""Lists a folder of raw videos, and assigns files to splits."""

import contextlib
import functools
import os
import pathlib
import re

from tfvp import video_io
from tfvp.pipeline import draws, outputs


def plain(name):
    """A folder's name in the form that is compared: "Moving Mnist" and "moving-mnist" are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_folder(root, *names, depth=2):
    """The folder below `root` with one of the names, regardless of capitals and spaces; or None. None that tfvp wrote.

    Args:
        root: a `pathlib.Path`.
        *names: the first match counts, the least deep first.
        depth: how many levels to look into.
    """
    wanted = [plain(name) for name in names]
    level = [root] if root.is_dir() else []
    for _ in range(depth):
        entries = [entry for folder in level for entry in _entries(folder)]
        below = [pathlib.Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        for match in (f for name in wanted for f in sorted(below) if plain(f.name) == name):
            if not outputs.is_output(match, [entry.name for entry in _entries(match)]):
                return match
        level = below
    return None


def walk(root, loops=None, unreadable=None, written=None):
    """Every folder below `root` with the names of its files, without hidden ones and those that tfvp wrote.

    Links to folders are followed, unless they lead into a folder that they lie in: three videos beside a link to their
    own folder are three.

    Args:
        root: a `pathlib.Path`.
        loops: a list that links which were not followed are appended to.
        unreadable: a list that folders which cannot be read are appended to.
        written: a list that folders which tfvp wrote (`tfvp.pipeline.outputs`) are appended to.

    Yields:
        (folder as `pathlib.Path`, [name of a file in it, ...]).
    """
    known = functools.cache(identity)
    stack = [(root, False)]
    while stack:
        folder, linked = stack.pop()
        names, below = [], []
        for entry in _entries(folder, unreadable):
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                names.append(entry.name)
                continue
            through_link = linked or entry.is_symlink()
            # Without a link on the way no folder is above itself, and most trees have none.
            if through_link and known(path) in map(known, _up_to(root, folder)):
                if loops is not None:
                    loops.append(path)
                continue
            below.append((path, through_link))
        if folder != root and outputs.is_output(folder, names):
            if written is not None:
                written.append(folder)
            continue
        yield folder, names
        stack += reversed(below)


def videos(root, suffixes=video_io.READABLE_SUFFIXES, images=True):
    """Video files and folders of images below `root`, in natural order, without hidden ones.

    Args:
        root: a `pathlib.Path`.
        suffixes: of the files that count.
        images: whether a folder with images in it counts as a video.

    Returns:
        List of `pathlib.Path`.
    """
    paths = []
    for folder, names in walk(root):
        paths += [folder / name for name in names if name.lower().endswith(suffixes)]
        if images and any(name.lower().endswith(video_io.IMAGE_SUFFIXES) for name in names):
            paths.append(folder)
    return sorted(paths, key=lambda path: video_io.natural_key(path.relative_to(root).as_posix()))


def assign_splits(names, group_of=None, /, **fractions):
    """Assigns names to splits, by a hash of the name or of the group that it belongs to.

    A name keeps its split when others are added or removed, except at two bounds that matter in small
    folders: a split that would be empty gets the name with the lowest hash of the largest
    split, and one of more than twice its share leaves the rest to "train".

    Args:
        names: unique strings.
        group_of: a function from a name to its group, whose names are in one split; fractions are then of the groups.
            Defaults to each name by itself.
        **fractions: of the names for each split; what they leave is for "train".

    Returns:
        {name: split}; no split is empty if there are enough names.
    """
    if group_of is not None:
        groups = {name: group_of(name) for name in names}
        splits = assign_splits(sorted(set(groups.values())), **fractions)
        return {name: splits[group] for name, group in groups.items()}
    place = {name: float(draws.Draws(draws.keys("split", name)).uniform()[0]) for name in names}
    result, low = dict.fromkeys(names, "train"), 0.0
    for split, fraction in fractions.items():
        inside = sorted((n for n in names if low <= place[n] < low + fraction), key=place.get)
        result.update(dict.fromkeys(inside[: max(1, int(2 * fraction * len(names)))], split))
        low += fraction
    for split in [s for s, f in fractions.items() if f > 0] + ["train"]:
        holders = list(result.values())
        if split not in holders and len(names) > len(set(holders)):
            largest = max(sorted(set(holders)), key=holders.count)
            result[min((n for n in names if result[n] == largest), key=place.get)] = split
    return result


def identity(path):
    """What two paths of one file or folder have in common.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(path)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _entries(folder, unreadable=None):
    """What `os.scandir` finds in a folder, nothing where it may not be read."""
    try:
        return list(os.scandir(folder))
    except OSError:
        if unreadable is not None:
            unreadable.append(folder)
        return []


def _is_folder(entry):
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False


def _up_to(root, folder):
    """`folder` and the folders above it, up to `root`."""
    return [folder, *(above for above in folder.parents if above == root or root in above.parents)]
