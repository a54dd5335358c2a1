"""Which files of a person's own folder are clips, and what is said of the others.

Published data sets have a layout of their own and are listed by `tfvp.pipeline.listing` alone. A folder that a person
filled holds thumbnails, links and formats that are not read as well: each is one clip or none, never two, and is named.
"""

import collections
import dataclasses
import pathlib

from tfvp import video_io
from tfvp.pipeline import listing

SHOWN = 3  # examples in a sentence
KINDS = 6  # formats that a sentence names
# Videos to a person, but not to this package; a sentence about them says how to convert them.
OTHER_VIDEO_SUFFIXES = tuple(
    ".ts .mts .m2ts .mpg .mpeg .mpe .m1v .m2v .wmv .asf .flv .f4v .3gp .3g2 .ogv .vob .mxf .rm .rmvb .divx .dv .y4m"
    " .h264 .264 .h265 .hevc .ivf .mjpeg .mjpg .apng".split()
)


@dataclasses.dataclass
class Survey:
    """What a folder holds. All names are paths below it.

    Attributes:
        clips: {split: {name: path}} in natural order.
        thumbnails: images beside videos, which are no frames.
        single: images that are alone in their folder.
        sheets: contact sheets that `tfvp data` drew.
        arrays: arrays beside the frames of a clip, which are no clips.
        copies: {name: name of the clip that it is a link to}.
        loops: links into a folder that they lie in.
        broken: links that lead nowhere, and folders that may not be read.
        unread: files in formats that are not read.
        written: folders that tfvp wrote: runs, evaluations and the like.
        outside: clips that are in none of the folders of the splits.
    """

    clips: dict[str, dict[str, pathlib.Path]] = dataclasses.field(default_factory=dict)
    thumbnails: list[str] = dataclasses.field(default_factory=list)
    single: list[str] = dataclasses.field(default_factory=list)
    sheets: list[str] = dataclasses.field(default_factory=list)
    arrays: list[str] = dataclasses.field(default_factory=list)
    copies: dict[str, str] = dataclasses.field(default_factory=dict)
    loops: list[str] = dataclasses.field(default_factory=list)
    broken: list[str] = dataclasses.field(default_factory=list)
    unread: list[str] = dataclasses.field(default_factory=list)
    written: list[str] = dataclasses.field(default_factory=list)
    outside: list[str] = dataclasses.field(default_factory=list)

    def notes(self) -> list[str]:
        """A sentence on every kind of thing that is not a clip: how many there are, and the first of them."""
        same = [f"{name} is {clip}" for name, clip in self.copies.items()]
        kinds = [
            (self.thumbnails, "image", "beside videos", "not used (thumbnails); frames need a folder of their own"),
            (self.single, "image", "alone in a folder", "not used; a clip is several images, of one frame each"),
            (self.sheets, "contact sheet", "of `tfvp data`", "not used"),
            (self.arrays, "array", "beside the frames of a clip", "not used; give videos a folder without images"),
            (same, "link", "to a video that is here already", "not used a second time"),
            (self.loops, "link", "into a folder around it", "not followed"),
            (self.broken, "entry", "that cannot be opened", "left out"),
            (self.written, "folder", "that tfvp wrote", "not looked into"),
            (self.outside, "video", "outside of the folders train, validation and test", "not used"),
        ]
        result = [
            f"{_counted(names, word)} {where} ({_some(names)}) {'is' if len(names) == 1 else 'are'} {what}"
            for names, word, where, what in kinds
            if names
        ]
        return result + ([self._formats()] if self.unread else [])

    def _formats(self):
        suffixes = collections.Counter(pathlib.PurePath(name).suffix.lower() or "no suffix" for name in self.unread)
        kinds = [f"{count} {suffix}" for suffix, count in suffixes.most_common(KINDS)]
        kinds += [f"{len(suffixes) - KINDS} more kinds"] if len(suffixes) > KINDS else []
        videos = [name for name in self.unread if name.lower().endswith(OTHER_VIDEO_SUFFIXES)]
        advice = f"; videos have to be converted: ffmpeg -i {videos[0]} video.mp4" if videos else ""
        names = _some(videos or self.unread)
        return f"{_counted(self.unread, 'file')} in formats that are not read: {', '.join(kinds)} ({names}){advice}"


def survey(root: pathlib.Path, folders: dict[str, pathlib.Path]) -> Survey:
    """Surveys a folder of videos.

    A file is one clip: of several links to it, symbolic or hard, the first counts, by the order of `folders`, then of
    names, and a symbolic link never before a file. Links into a folder that they lie in are not followed. A folder of
    several images is a clip, unless it holds videos as well, or as many arrays as images: these are then the clips, and
    the images their thumbnails.

    Args:
        root: the folder.
        folders: {split: a folder below `root`, or `root`}.
    """
    result, entries, seen = Survey(clips={split: {} for split in folders}), {}, set()
    for rank, (split, folder) in enumerate(folders.items()):
        for path in _clips(root, folder, result, seen):
            name = path.relative_to(root).as_posix()
            try:
                entries.setdefault(listing.identity(path), []).append((rank, name, split, path))
            except OSError:
                result.broken.append(name)
    for same in entries.values():
        if len(same) > 1:
            same.sort(key=lambda entry: (entry[0], _is_link(root, entry[1]), _order(entry[1])))
        (_, clip, split, path), *others = same
        result.clips[split][clip] = path
        result.copies.update({name: clip for _, name, _, _ in others if name != clip})
    for split, paths in result.clips.items():
        result.clips[split] = dict(sorted(paths.items(), key=lambda item: _order(item[0])))
    if root not in folders.values():
        inside = tuple(f"{folder.relative_to(root).as_posix()}/" for folder in folders.values())
        names = [path.relative_to(root).as_posix() for path in listing.videos(root)]
        result.outside = [name for name in names if name != "." and not f"{name}/".startswith(inside)]
    return result


def _clips(root, folder, result, seen):
    """Paths in `folder` that may be clips; whatever else is there is entered into `result`, once for every folder."""
    loops, unreadable, written = [], [], []
    for place, names in listing.walk(folder, loops, unreadable, written):
        names = {(place / name).relative_to(root).as_posix(): place / name for name in sorted(names, key=_order)}
        readable = _ending(names, video_io.READABLE_SUFFIXES)
        sheets = [name for name in names if names[name].name == video_io.CONTACT_SHEET]
        images = [name for name in _ending(names, video_io.IMAGE_SUFFIXES) if name not in sheets]
        arrays = _ending(names, video_io.ARRAY_SUFFIXES)
        is_clip = len(images) > 1 and len(readable) == len(arrays) < len(images)
        yield from [place] if is_clip else map(names.get, readable)
        if listing.identity(place) not in seen:
            seen.add(listing.identity(place))
            result.unread += [name for name in names if name not in {*readable, *images, *sheets}]
            result.sheets += sheets
            result.arrays += arrays if is_clip else []
            if not is_clip:
                (result.thumbnails if readable else result.single).extend(images)
    result.loops += [path.relative_to(root).as_posix() for path in loops]
    result.broken += [path.relative_to(root).as_posix() for path in unreadable]
    result.written += [path.relative_to(root).as_posix() for path in written]
    for names in (
        result.thumbnails,
        result.single,
        result.sheets,
        result.arrays,
        result.unread,
        result.loops,
        result.broken,
        result.written,
    ):
        names.sort(key=_order)


def _ending(names, suffixes):
    return [name for name in names if name.lower().endswith(suffixes)]


def _order(name):
    return video_io.natural_key(name)


def _is_link(root, name):
    """Whether there is a symbolic link on the way from `root` to a file."""
    steps = pathlib.PurePosixPath(name)
    return any((root / step).is_symlink() for step in (steps, *steps.parents[:-1]))


def _counted(things, word):
    plural = {"entry": "entries"}.get(word, f"{word}s")
    return f"{len(things)} {word if len(things) == 1 else plural}"


def _some(names):
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
