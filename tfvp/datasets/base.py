"""The contract of data sets, and its two kinds.

A `GeneratedDataset` computes clip number n of a split on demand; its author writes
`generate`. A `FileDataset` has files that are decoded once into shards (see
`tfvp.pipeline.shards`); its author lists them in `sources`. Either is one short file.
"""

import collections.abc
import functools
import io
import pathlib
import re

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvp import registry, video_io, video_parts
from tfvp.datasets import stored
from tfvp.datasets.info import DatasetInfo, Decoded, Settings  # noqa: F401 - data sets take them from here
from tfvp.errors import UserError
from tfvp.pipeline import batching, decoding, draws, shards, sizes
from tfvp.preprocessing import Preprocessing

_printed = set()
_SEGMENT = re.compile(r"#\d+-\d+$")  # what `decode` appends to the names of segments
_LENGTHS = "eval.eval_seq_len (when training, train.seq_len and train.validation_seq_len)"


class VideoDataset:
    """Clips of frames in three splits, read in any order.

    Options are the constructor's keyword arguments: annotated, with defaults, plain YAML types.
    They become keys of the section `data`, and are passed on to `super().__init__`.

    Attributes:
        info: a `DatasetInfo`.
        endless: whether training clips are drawn anew in each epoch. Clip number k of epoch e
            then has the number e * N + k, with N clips in an epoch.
        splits: names of the splits.
        provides: keys that `read` returns, or can return if an option asks for it.
        channels: numbers of channels that `data.channels` may ask for.
        video_dtype: of stored frames: uint8 in [0, 255], or float32 in [0, 1] where bytes would lose precision.
        resize: of frames (`tfvp.video_io.RESIZE_MODES`), unless there is an option of this name.

    Args:
        settings: a `Settings`.

    Raises:
        UserError: settings that no data set can take.
    """

    info = None
    endless = False
    splits = ("train", "validation", "test")
    provides = ("video",)
    channels = (1, 3)
    video_dtype = np.uint8
    resize = "area"

    def __init__(self, settings: Settings, **options):
        height, width = settings.image_size
        if settings.channels not in self.channels:
            allowed = "1 (grey) or 3 (RGB)" if self.channels == (1, 3) else f"{self.channels[0]} for {self.name}"
            raise UserError(f"data.channels={settings.channels} must be {allowed}")
        if height < 1 or width < 1:
            raise UserError(f"data.image_size={[height, width]} must be positive")
        self.settings = settings
        self.options = options

    # Written by the data set's author, or by one of the two base classes below.

    def prepare(self, progress: bool = True) -> None:
        """Makes the data ready to be read; returns quickly if it already is.

        Raises:
            UserError: files are missing or unreadable; the message says what to download.
        """

    def prune(self, progress: bool = True) -> None:
        """As `prepare`, and deletes decoded frames whose raw files are gone or were replaced.

        Raises:
            UserError: as `prepare`, and if all raw files are gone.
        """
        self.prepare(progress)

    def check(self, progress: bool = True) -> int:
        """Compares files of decoded frames with their checksums.

        Returns:
            The number of files.

        Raises:
            UserError: the first file that differs.
        """
        return 0

    def clip_lengths(self, split: str) -> np.ndarray:
        """The number of frames of each clip of a split: int64 [N]."""
        raise NotImplementedError

    def read(
        self, split: str, clips: np.ndarray, starts: np.ndarray, length: int, stride: int = 1
    ) -> dict[str, np.ndarray]:
        """Reads windows of clips. Safe to call from several threads.

        Args:
            split: one of `splits`.
            clips: int64 [N], numbers of clips.
            starts: int64 [N], the first frame of each window.
            length: frames in a window.
            stride: frames of the clip from one frame of the window to the next.

        Returns:
            {"video": `video_dtype` [N, length, H, W, C], ...}.
        """
        raise NotImplementedError

    def evaluation_windows(self, rule: str, length: int, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The windows that make up a published test set.

        Args:
            rule: its name, from `tfvp.metrics.protocols.Protocol.windows`.
            length: frames of a window.
            stride: frames of the clip from one frame of the window to the next.

        Returns:
            (clips of the test split, starts), int64 [N] each.

        Raises:
            UserError: the data set has no such rule, or clips of it are missing.
        """
        raise UserError(f"{self.name} has no test windows called {rule!r}")

    def validation_windows(self, length: int, stride: int = 1) -> tuple[np.ndarray, np.ndarray] | None:
        """The windows of the validation split that training validates on.

        Args:
            length, stride: as in `evaluation_windows`.

        Returns:
            (clips, starts), int64 [N] each; None = a sample of all windows that do not overlap
            (`tfvp.pipeline.windows.sample`). Data sets whose validation split is tiny return windows that overlap.
        """
        return None

    def notes(self) -> list[str]:
        """Sentences on where the data came from and what could be added, which `tfvp data` shows."""
        return []

    @classmethod
    def frame_rule(cls, options: collections.abc.Mapping[str, object]) -> dict[str, object]:
        """How videos become clips under the options `data`, beside the size: arguments of `Preprocessing`.

        These are resize, fps, and frame_stride where the clips themselves leave out frames of the video.
        """
        return {"resize": options.get("resize", cls.resize), "fps": options.get("fps", 0.0)}

    def clip_names(self, split: str, clips: np.ndarray) -> list[str]:
        """Names of clips: the same on every machine, and different where the clips are.

        Args:
            split: one of `splits`.
            clips: int64 [N], numbers of clips.

        Returns:
            Paths below `data.root`; "drawn:<split>:<number>" for clips that are computed.
        """
        return [f"drawn:{split}:{n}" for n in clips]

    def clip_sources(self, split: str, clips: np.ndarray) -> list[str]:
        """The films that clips are cut from; clips of one film are not independent. Defaults to their names."""
        return self.clip_names(split, clips)

    # Provided by this class.

    @classmethod
    def is_drawn(cls, options: dict[str, object]) -> bool:
        """Whether a data set of these options, a configuration's section `data`, is `endless`."""
        return cls.endless

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to every frame of a file."""
        return Preprocessing(self.settings.image_size, self.settings.channels, **self.frame_rule(self.options))

    @property
    def name(self) -> str:
        """The name of the data set in configurations."""
        return getattr(self, "registered_name", type(self).__name__)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (*self.settings.image_size, self.settings.channels)

    def element_spec(self, length: int) -> dict[str, tf.TensorSpec]:
        """The spec of one window of `length` frames: {key: tf.TensorSpec}."""
        return {"video": tf.TensorSpec([length, *self.frame_shape], tf.as_dtype(self.video_dtype))}

    def load(self, split: str, length: int, stride: int = 1) -> tf.data.Dataset:
        """The first `length` frames of every clip that is long enough, in order.

        Returns:
            tf.data.Dataset of {"video": uint8 [length, H, W, C], ..., "id": int64, the number
            of the clip in its split}.

        Raises:
            UserError: no clip is long enough.
        """
        self.prepare()
        clips = self.usable_clips(split, length, stride)
        return batching.first_windows(self, split, clips, length, stride)

    def usable_clips(self, split: str, length: int, stride: int = 1, option: str = _LENGTHS) -> np.ndarray:
        """Numbers of the clips that hold `length` frames, int64 [n]; prints once how many do not.

        Raises:
            UserError: no clip is long enough; the message gives the length of the longest.
        """
        if split not in self.splits:
            names = ", ".join(self.splits)
            raise UserError(f"{self.name} has no split {split!r}{registry.nearest(split, self.splits)}; it has {names}")
        lengths, span = self.clip_lengths(split), (length - 1) * stride + 1
        usable = np.flatnonzero(lengths >= span)
        if not len(lengths):
            raise UserError(f"the {split} split of {self.name} is empty; the expected files are: {self.info.layout}")
        if not len(usable):
            also = " and data.frame_stride" if stride > 1 else ""
            longer = ", or raise data.clip_length" if "clip_length" in self.options else ""
            raise UserError(
                f"the {split} split of {self.name} has no clip of {span} frames, the longest has {lengths.max()};"
                f" lower {option}{also}{longer}"
            )
        if len(usable) < len(lengths):
            self.warn_once(
                f"{len(lengths) - len(usable)} of {len(lengths)} {split} clips of {self.name} are skipped:"
                f" they are shorter than {span} frames"
            )
        return usable

    def warn_once(self, sentence: str) -> None:
        """Prints a sentence, unless this process has printed it before."""
        if sentence not in _printed:
            _printed.add(sentence)
            tqdm.write(sentence)


class GeneratedDataset(VideoDataset):
    """Clips that are computed from their number.

    An author writes `clip_lengths` and `generate`.
    """

    endless = True

    def generate(self, split: str, random: np.ndarray, starts: np.ndarray, length: int, stride: int) -> np.ndarray:
        """Draws clips.

        Args:
            split: one of `splits`.
            random: uint64 [N], a random key for each clip; see `tfvp.pipeline.draws`.
            starts, length, stride: as in `read`.

        Returns:
            uint8 [N, length, H, W, C].
        """
        raise NotImplementedError

    def read(
        self, split: str, clips: np.ndarray, starts: np.ndarray, length: int, stride: int = 1
    ) -> dict[str, np.ndarray]:
        random = draws.keys(self.name, split, self.settings.seed if split == "train" else 0, clips)
        return {"video": self.generate(split, random, np.asarray(starts), length, stride)}


class FileDataset(VideoDataset):
    """Files that are decoded once into shards.

    An author writes `sources`; and `decode` and `arrays`, where a file is not simply a video.
    Frames are converted by `preprocessing`, which goes by the options `resize` and `fps` where there are such.

    Attributes:
        split_options: names of options that only assign clips to splits; changing them decodes nothing again.
        depends_on_root: whether what is stored of a file depends on the others in its folder, too.
    """

    split_options = ()
    depends_on_root = False

    def sources(self) -> list[decoding.Source]:
        """The raw files: a list of `tfvp.pipeline.decoding.Source`, empty if none exist."""
        raise NotImplementedError

    def arrays(self) -> dict[str, tuple]:
        """How a frame is stored: {key: (dtype, shape)}."""
        return {"video": (self.video_dtype, self.frame_shape)}

    def decode(self, source: decoding.Source) -> collections.abc.Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Yields (clip name, {key: [n, ...]}), the clips of a file in pieces.

        Raises:
            UserError: the file cannot be read; it is then named, counted and skipped.
        """
        path, options = source.path, self.preprocessing.reading
        if source.member:
            path, options["file"] = pathlib.Path(source.member), io.BytesIO(decoding.unzipped(source))
        pieces = video_io.iterate_video(path, **options, part=source.part)
        for name, piece in decoding.in_segments(source, pieces):
            yield name, {"video": piece}

    def divided(self, source: decoding.Source, frames: int) -> list[video_parts.Part]:
        """How a long film is divided, so that several threads decode it and a stopped preparation goes on inside it.

        An author whose `decode` heeds `source.part` may return `tfvp.video_io.divide(source.path, frames)`.

        Args:
            source: of `sources`.
            frames: about so many for each part.

        Returns:
            The parts; [] for a file that is decoded in one go.
        """
        return []

    def frames_in(self, source: decoding.Source) -> int | None:
        """How many frames a file gives, by a glance at it; None where that does not tell. Space is estimated by it."""
        return sizes.frames_of(source, self.preprocessing.fps)

    @property
    def root(self) -> pathlib.Path:
        """The folder of the raw files; what is in an object store is fetched first.

        Raises:
            UserError: data.root is empty, or does not exist.
        """
        if not self.settings.root:
            raise UserError(f"{self.name} needs data.root; {self.info.download}")
        path = self.settings.folder
        if not path.is_dir():
            raise UserError(f"data.root={self.settings.root} is not a directory; {self.info.download}")
        return path

    @functools.cached_property
    def store(self) -> shards.Store:
        """The `shards.Store` with the decoded frames."""
        return stored.store_of(self)

    def decoding_options(self) -> dict[str, object]:
        """The options that change what is decoded: all but `split_options`."""
        return {key: value for key, value in self.options.items() if key not in self.split_options}

    def prepare(self, progress: bool = True) -> None:
        stored.prepare(self, progress)

    def prune(self, progress: bool = True) -> None:
        stored.prepare(self, progress, prune=True)

    def check(self, progress: bool = True) -> int:
        return self.store.check(progress)

    def clip_lengths(self, split: str) -> np.ndarray:
        return self.store.clip_lengths(split)

    def clip_names(self, split: str, clips: np.ndarray) -> list[str]:
        names = self.store.clip_names(split)
        return [names[n] for n in clips]

    def clip_sources(self, split: str, clips: np.ndarray) -> list[str]:
        return [film_of(name) for name in self.clip_names(split, clips)]

    def read(
        self, split: str, clips: np.ndarray, starts: np.ndarray, length: int, stride: int = 1
    ) -> dict[str, np.ndarray]:
        return self.store.read(split, clips, starts, length, stride)

    def notes(self) -> list[str]:
        count = len(self.store.manifest["sources"])
        return [
            f"{count} files in {self.settings.root}, decoded into {self.store.folder}",
            *stored.sentences(self),
        ]


def film_of(name: str) -> str:
    """The name of the file that a segment was cut from; of other clips, their own."""
    return _SEGMENT.sub("", name)


def at_least_one(**options: int) -> None:
    """Raises if an option of a data set is smaller than 1.

    Raises:
        UserError: the first such option.
    """
    for key, value in options.items():
        if value < 1:
            raise UserError(f"data.{key}={value} must be at least 1")
