"""Data sets that are published as folders `train` and `test` of video files, or as records of tensorflow-datasets."""

import re
import typing

from tfvp.datasets import base
from tfvp.pipeline import dealing, listing, tfrecords
from tfvp.pipeline.decoding import Source

_RECORDS = re.compile(r".*-(?P<split>train|test|validation)\.tfrecord-\d{5}-of-\d{5}")
_EVERY = 20  # one training clip in as many is held out for validation


class TrainTestFolders(base.FileDataset):
    """Clips in folders `train` and `test`, or in TFRecord files <name>-<split>.tfrecord-00000-of-00010.

    Folders are found regardless of capitals, one or two levels below data.root. Unless a
    validation split is published, a twentieth of the training clips is held out for it: of
    video files by a hash of their names, of records the first of every twenty in a file.

    Args:
        settings: `base.Settings`.
        resize: area = the whole frame, each pixel the mean of its area; squash = the whole
            frame, bicubic; crop = the largest central part, then as area.
    """

    def __init__(self, settings, resize: typing.Literal["area", "squash", "crop"] = "area"):
        super().__init__(settings, resize=resize)

    def sources(self):
        return self._records() or self._folders()

    def _folders(self):
        sources = []
        folders = {split: listing.find_folder(self.root, split) for split in ("train", "test", "validation")}
        for split, folder in folders.items():
            paths = {p.relative_to(self.root).as_posix(): p for p in listing.videos(folder)} if folder else {}
            sources += [Source(name, split, path) for name, path in paths.items()]
        if folders["validation"] or dealing.has_folder(self.store.splits(), "validation", "validation"):
            return sources
        return dealing.Deal({"validation": 1 / _EVERY}).out(sources)

    def _records(self):
        paths = [p for p in listing.videos(self.root, tuple("0123456789"), images=False) if _RECORDS.fullmatch(p.name)]
        splits = {path: _RECORDS.fullmatch(path.name)["split"] for path in paths}
        published = "validation" in splits.values()
        sources = []
        for path, split in splits.items():
            parts = ("train", "validation") if split == "train" and not published else (split,)
            name = path.relative_to(self.root).as_posix()
            sources += [Source(f"{name}:{part}", part, path, member=":".join(parts)) for part in parts]
        return sources

    def frames_in(self, source):
        if not source.member:
            return super().frames_in(source)
        shared = len(source.member.split(":")) > 1
        split = source.split if shared else "test"  # which holds nothing back
        return tfrecords.frames_in(source.path, tfrecords.count_encoded, _EVERY * shared, split)

    def decode(self, source):
        if not source.member:
            yield from super().decode(source)
            return
        shared = len(source.member.split(":")) > 1
        for number, example in enumerate(tfrecords.examples(source.path)):
            name = f"{source.name.rsplit(':', 1)[0]}#{number}"
            if shared and source.split != ("validation" if number % _EVERY == 0 else "train"):
                continue
            frames = tfrecords.encoded_frames(example, source.path)
            yield name, {"video": self.preprocessing.convert(frames)}
