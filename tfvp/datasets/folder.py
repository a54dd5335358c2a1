"""Your own videos: any folder of them."""

import dataclasses
import functools
import pathlib
import re
import typing

import numpy as np
import tensorflow as tf

from tfvp import video_decoding, video_io
from tfvp.datasets import base, time_split
from tfvp.errors import UserError
from tfvp.pipeline import contents, dealing, listing
from tfvp.pipeline import survey as surveys
from tfvp.pipeline.decoding import Excluded, Incomplete, Source
from tfvp.pipeline.pseudo_labels import KMeansLabels, ModelLabels
from tfvp.registry import register

SAMPLED_VIDEOS = 32  # that kmeans looks at
_SUBFOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
_NOT_FILMS = {"", *(name for names in _SUBFOLDERS.values() for name in names)}


@register("dataset", "folder")
class Folder(base.FileDataset):
    """Videos below `data.root`, one file or one folder of images a clip; any sizes and rates.

    Reads mp4, avi, mov, mkv, m4v, webm, gif, npy and npz files ([T, H, W] or [T, H, W, C],
    uint8 or floats in [0, 1]), and folders of png, jpg, bmp, tif, webp or ppm images in natural
    order. Hidden files are ignored. Images beside videos are thumbnails, as is one alone in a folder, several links to
    one file are one clip, and files of other formats are not read: all are counted and named, never clips of their own.

    Where `data.root` has subfolders train, validation (or val) and test, these are the splits; a
    missing or empty validation folder is replaced by some films of train. Otherwise films are assigned by a hash of
    their names, and no split is empty as long as there are three films. A film whose file is gone counts as long as
    its decoded frames are used, so that all keep their splits. When films are added, those that are there keep theirs
    where there are many; of fewer than about fifty some may move, as no split may be empty or have more than twice its
    share. A film is a file, or the files that `data.group` puts together, which are never in two splits. Of fewer than
    three films each is cut by time: its beginning is for training, then comes validation, then the test, with
    `data.gap` frames between them that are not used.

    Args:
        settings: `base.Settings`.
        resize: crop = the largest central part of the right aspect ratio, by area; area = the
            whole frame by area; squash = the whole frame, bicubic.
        fps: frames per second to resample to, by holding frames; 0 = as they are. Arrays and
            folders of images have no rate, and are taken as they are.
        min_length: videos with fewer frames are skipped and named.
        truncated: use = a video file whose frames end early, or are damaged from some place on, is used as far as it
            can be read, and named; skip = it counts as damaged.
        validation_fraction: of the films, for validation; where films are cut by time, of their frames.
        test_fraction: of the films or frames, for the test split.
        group: which files are of one film. "" = each file is a film; folder = the files of one folder, except those
            that lie in no folder of their own; or a regular expression that is searched in a file's path, whose first
            group, or whole match, names the film: "^(.*)_part" makes one of a/x_part1.mp4 and a/x_part2.mp4. A file
            without a match is a film.
        gap: frames that are left out between training, validation and test where films are cut by time.
        labels: label maps to go with the frames. none; kmeans = classes of colour and place,
            found on training videos; or the path of a Keras segmentation model (see
            `tfvp.pipeline.pseudo_labels`).
        classes: of kmeans.
    """

    info = base.DatasetInfo(
        description="Your own videos.",
        homepage="",
        licence="yours",
        fps=None,
        download=(
            "put videos (mp4, avi, mov, mkv, gif, npy, npz or folders of images) into a folder and name it as data.root"
        ),
        layout="videos anywhere below data.root, or below its subfolders train, validation and test",
        context=10,
        horizon=10,
        decoded=(base.Decoded(25 * 3600, (128, 128, 3), note="an hour of video at 25 frames per second"),),
    )

    provides = ("video", "labels")
    split_options = ("validation_fraction", "test_fraction", "group")

    def __init__(
        self,
        settings,
        resize: typing.Literal["crop", "area", "squash"] = "crop",
        fps: float = 0.0,
        min_length: int = 2,
        truncated: typing.Literal["use", "skip"] = "use",
        validation_fraction: float = 0.1,
        test_fraction: float = 0.1,
        group: str = "",
        gap: int = 25,
        labels: str = "none",
        classes: int = 8,
    ):
        labelled = {} if labels == "none" else {"labels": labels, "classes": classes}
        super().__init__(
            settings,
            **labelled,
            **({"group": group} if group else {}),  # folders that were decoded without it stay as they are
            resize=resize,
            fps=float(fps),
            min_length=min_length,
            truncated=truncated,
            validation_fraction=float(validation_fraction),
            test_fraction=float(test_fraction),
        )
        if fps < 0:
            raise UserError(f"data.fps={fps} must be 0 or more")
        if validation_fraction < 0 or test_fraction < 0 or validation_fraction + test_fraction >= 1:
            raise UserError(
                f"data.validation_fraction={validation_fraction} and data.test_fraction={test_fraction}"
                " must leave something for training"
            )
        if gap < 0:
            raise UserError(f"data.gap={gap} must be 0 or more")
        try:
            self._pattern = re.compile(group)
        except re.error as error:
            raise UserError(f"data.group={group!r} is neither 'folder' nor a regular expression: {error}") from None
        if not 2 <= classes <= 256:
            raise UserError(f"data.classes={classes} must be between 2 and 256")
        self.info = dataclasses.replace(self.info, fps=float(fps) or None)
        self.labels = labels
        self.group = group
        self.gap = gap  # frames are stored whole, so that it changes nothing of what is decoded or assigned
        self.depends_on_root = labels == "kmeans"
        self._reports = []

    def arrays(self):
        labels = {} if self.labels == "none" else {"labels": (np.uint8, self.settings.image_size)}
        return {**super().arrays(), **labels}

    def element_spec(self, length):
        labels = {"labels": tf.TensorSpec([length, *self.settings.image_size], tf.uint8)}
        return {**super().element_spec(length), **({} if self.labels == "none" else labels)}

    def decoding_options(self):
        if self.labels == "kmeans":  # its classes come from training videos
            margin = {"centres": contents.of_path(self.labeller.path)} if self.settings.margin else {}
            return {**self.options, **margin}
        model = pathlib.Path(self.labels).expanduser()
        labels = {"labels": contents.of_path(model)} if self.labels != "none" and model.exists() else {}
        return {**super().decoding_options(), **labels}

    @functools.cached_property
    def labeller(self):
        """A function from frames uint8 [T, H, W, C] to classes uint8 [T, H, W]."""
        if self.labels != "kmeans":
            return ModelLabels(self.labels)
        if self.settings.margin:  # a class has one number, whether frames are cropped or not
            settings = dataclasses.replace(self.settings, image_size=self.settings.model_size, margin=0)
            return type(self)(settings, **self.options).labeller
        kmeans = KMeansLabels(self.store.folder / "centres.npy")
        if kmeans.centres is None:
            kmeans.fit(self._sample(), self.options["classes"])
        return kmeans

    def _sample(self):
        """Frames of up to `SAMPLED_VIDEOS` training videos, uint8 [T, H, W, C]."""
        frames = []
        for source in [s for s in self.sources() if s.split.startswith("train")][:SAMPLED_VIDEOS]:
            try:
                video = next(video_io.iterate_video(source.path, **self.preprocessing.reading))
                frames.append(video[:: max(1, len(video) // 4)])
            except UserError:  # `prepare` names it
                continue
        if not frames:
            raise UserError(f"data.labels=kmeans: none of the training videos in {self.root} can be read")
        return np.concatenate(frames)

    def prepare(self, progress=True):
        if self.labels != "none" and not self.store.manifest_path.is_file():
            self.labeller  # noqa: B018 - made once, before files are decoded in parallel
        super().prepare(progress)
        self.__dict__.pop("parts", None)
        if cut := self._cut_films():
            self.warn_once(cut)

    def film(self, name):
        """The film that a file, by its path below data.root, belongs to."""
        if self.group == "folder":
            folder = name.rpartition("/")[0]
            return name if listing.plain(folder) in _NOT_FILMS else folder
        match = self._pattern.search(name) if self.group else None
        return (match[1] if match.re.groups else match[0]) or name if match else name

    @functools.cached_property
    def parts(self):
        """{split: `time_split.Parts`} of the splits whose clips are cut out of films by time."""
        stored = {clip["split"] for clip in self.store.manifest["clips"]} - set(self.splits)
        result = {}
        for joined in sorted(stored):
            names = self.store.clip_names(joined)
            fractions = {split: self.options[f"{split}_fraction"] for split in joined.split("+")[1:]}
            films, lengths = [self.film(name) for name in names], self.store.clip_lengths(joined)
            result.update(
                time_split.cut(joined, names, films, lengths, fractions, self.gap, self.options["min_length"])
            )
        return result

    def clip_lengths(self, split):
        part = self.parts.get(split)
        return super().clip_lengths(split) if part is None else part.lengths

    def clip_names(self, split, clips):
        part = self.parts.get(split)
        return super().clip_names(split, clips) if part is None else [part.names[n] for n in clips]

    def clip_sources(self, split, clips):
        return [self.film(name) for name in super().clip_sources(split, clips)]

    def read(self, split, clips, starts, length, stride=1):
        part = self.parts.get(split)
        if part is None:
            return super().read(split, clips, starts, length, stride)
        return self.store.read(part.stored, part.clips[clips], part.first[clips] + starts, length, stride)

    def sources(self):
        folders = {split: listing.find_folder(self.root, *names, depth=1) for split, names in _SUBFOLDERS.items()}
        if any(folders.values()):
            return self._from_subfolders(folders)
        paths = self._survey({"": self.root})[""]
        return self._deal("test", "validation").out([Source(name, "train", path) for name, path in paths.items()])

    def _deal(self, *splits):
        shares = {split: self.options[f"{split}_fraction"] for split in splits}
        return dealing.Deal(shares, film_of=self.film, cut=True)

    def notes(self):
        return super().notes() + self._reports + list(filter(None, [self._cut_films()]))

    def _cut_films(self):
        """A sentence on films that are cut by time, or ""."""
        names = {split: part.names for split, part in self.parts.items()}
        films = {self.film(base.film_of(name)) for part in names.values() for name in part}
        if not films:
            return ""
        return (
            f"{len(films)} film{'s are' if len(films) > 1 else ' is'} cut by time into {', '.join(names)}, with"
            f" {self.gap} frames between them that are not used: there are too few for a film in each"
        )

    def decode(self, source):
        frames, damage = 0, None
        least = self.options["min_length"] if source.part is None else 0
        try:
            for name, pieces in super().decode(source):
                frames += len(pieces["video"])
                yield name, pieces if self.labels == "none" else {**pieces, "labels": self.labeller(pieces["video"])}
        except video_decoding.Truncated as error:
            if self.options["truncated"] == "skip" or frames < max(1, least):
                raise
            damage = error
        if frames < least:
            raise Excluded(f"{source.path} has {frames} frame(s), fewer than data.min_length={least}")
        if damage:
            raise Incomplete(damage.extent) from damage

    def divided(self, source, frames):
        return [] if self.options["min_length"] > frames else video_io.divide(source.path, frames)

    def _survey(self, folders):
        """{split: {name: path}} of folders; says what else they hold."""
        held = surveys.survey(self.root, folders)
        self._reports = held.notes()
        for sentence in self._reports:
            self.warn_once(sentence)
        return held.clips

    def _from_subfolders(self, folders):
        if not folders["train"] and not any(split.startswith("train") for split in self.store.splits().values()):
            raise UserError(f"{self.root} has a folder validation or test, but none for training; add one named train")
        # A video that several hold is kept for the test: a model must not have seen what it is tested on.
        held = self._survey({split: folders[split] for split in ("test", "validation", "train") if folders[split]})
        sources = [Source(name, split, path) for split in folders for name, path in held.get(split, {}).items()]
        names = _SUBFOLDERS["validation"]
        if not held.get("validation") and not dealing.has_folder(self.store.splits(), "validation", *names):
            sources = self._deal("validation").out(sources)
        self._check_films(sources)
        return sources

    def _check_films(self, sources):
        """Raises if files of one film are in two splits."""
        films = {}
        for source in sources:
            other = films.setdefault(self.film(source.name), source)
            if other.split != source.split:
                raise UserError(
                    f"{other.name} and {source.name} are of one film by data.group={self.group!r}, but for"
                    f" {other.split} and {source.split}; move them into one folder, or set another data.group"
                )
