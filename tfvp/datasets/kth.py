"""KTH actions (Schuldt, Laptev and Caputo, ICPR 2004): six actions by 25 persons, 160x120, grey, 25 fps."""

import re
import typing
import zipfile

import numpy as np

from tfvp import video_io
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import dealing, listing
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

ACTIONS = ("walking", "jogging", "running", "boxing", "handwaving", "handclapping")
FIRST_TEST_PERSON = 21
SRVP_WINDOWS, SRVP_SEED = 1000, 42
VALIDATION_SHARE = 0.05  # of the training clips, where no persons are held out
SEGMENTS_FILE = "00sequences.txt"
_NAME = re.compile(r"(?P<video>person(?P<person>\d\d)_[a-z]+_d\d)(_uncomp)?(?P<suffix>\.\w+)?")
_LARGEST_MEMBER = 2**30  # bytes; the published files have a few million at most


@register("dataset", "kth")
class KTH(base.FileDataset):
    """People walking, jogging, running, boxing, waving and clapping; one file a clip.

    Persons 1 to 20 are training, 21 to 25 test, as in SVG and HTSR. The validation persons are
    taken from training: 17 to 20 by default, which leaves 1 to 16, OpenSTL's training persons.
    Without validation persons, all 20 train, as in SVG and HTSR, and one clip in twenty of
    theirs, by a hash of its name, is validation.

    `data.root` may hold the six zip archives, the six folders that they unpack to, or folders
    `train` and `test` of files, directly or below `KTH`. The number in a file's name decides
    its split; files without one belong where their folder says, and a tenth of those in
    `train`, by a hash of their names, to validation. The files keep their names
    (person01_boxing_d1_uncomp.avi); 599 are published, person13_handclapping_d3 is missing.

    Args:
        settings: `base.Settings`; 64 or 128 pixels are usual, in 1 or 3 (equal) channels.
        resize: squash = the whole frame, bicubic, as SVG's ffmpeg command does; area = the
            whole frame, each pixel the mean of its area.
        segments: cut the clips to the parts with action that 00sequences.txt lists, as SVG
            does, instead of whole files; put the file into data.root.
        validation_persons: persons of the validation split, from 1 to 20; [] = none, see above.
    """

    info = base.DatasetInfo(
        description="25 persons walk, jog, run, box, wave and clap before plain backgrounds.",
        homepage="https://www.csc.kth.se/cvap/actions/",
        licence="free for research; see the homepage",
        fps=25.0,
        download=(
            "download walking, jogging, running, boxing, handwaving and handclapping.zip"
            " from https://www.csc.kth.se/cvap/actions/ into one folder, zipped or unpacked, and name it as data.root"
        ),
        layout="*.zip, or <action>/person01_<action>_d1_uncomp.avi, or KTH/{train,test}/*.avi",
        context=10,
        horizon=10,
        decoded=(base.Decoded(290_000, (64, 64, 1), note="about 290,000 frames"),),
    )
    split_options = ("validation_persons",)

    def __init__(
        self,
        settings,
        resize: typing.Literal["squash", "area"] = "squash",
        segments: bool = False,
        validation_persons: list[int] = (17, 18, 19, 20),
    ):
        persons = sorted(validation_persons)
        super().__init__(settings, resize=resize, segments=segments, validation_persons=persons)
        wrong = [p for p in persons if not 1 <= p < FIRST_TEST_PERSON]
        if wrong:
            raise UserError(f"data.validation_persons={persons} must be from 1 to 20: 21 to 25 are the test split")

    def sources(self):
        entries = {**self._zipped(), **self._loose()}
        listed = self._segments() if self.options["segments"] else {}
        folders = self._splits_by_folder([name for name in entries if not _NAME.fullmatch(name)])
        persons = self._splits_by_person([name for name in entries if _NAME.fullmatch(name)])
        sources = []
        for name, (path, member, state) in sorted(entries.items(), key=lambda item: video_io.natural_key(item[0])):
            split = persons.get(name) or folders.get(name)
            if split:
                segments = tuple(listed.get(name, ()))
                sources.append(Source(name, split, path, member, segments, state))
        if not self.options["validation_persons"]:
            sources = dealing.Deal({"validation": VALIDATION_SHARE}).out(sources, persons)
        if "validation" not in folders.values():
            sources = dealing.Deal({"validation": 0.1}).out(sources, folders)
        return sources

    def evaluation_windows(self, rule, length, stride=1):
        """ "srvp": the 1,000 windows of Franceschi et al. (2020), drawn with NumPy's seed 42.

        For each, in this order: the action, alphabetically, of 6; the person of 21 to 25; the
        scenario of 1 to 4; the first frame.
        """
        if rule != "srvp":
            return super().evaluation_windows(rule, length, stride)
        length = (length - 1) * stride + 1
        if self.options["segments"]:
            raise UserError("the test set of SRVP is made of whole clips; set data.segments=false")
        numbers = {name: n for n, name in enumerate(self.store.clip_names("test"))}
        lengths, random, windows = self.clip_lengths("test"), np.random.RandomState(SRVP_SEED), []
        for _ in range(SRVP_WINDOWS):
            action = sorted(ACTIONS)[random.randint(len(ACTIONS))]
            name = f"person{random.randint(21, 26):02d}_{action}_d{random.randint(1, 5)}"
            if name not in numbers or lengths[numbers[name]] < length:
                raise UserError(
                    f"the test set of SRVP needs {name} with at least {length} frames, which is not in"
                    f" {self.settings.root}; put all six archives there, or use --protocol default"
                )
            windows.append((numbers[name], random.randint(lengths[numbers[name]] - length + 1)))
        clips, starts = np.array(windows, np.int64).T
        return clips, starts

    def _splits_by_person(self, names):
        """{name: split} of files whose names have a person."""
        persons = {name: int(_NAME.fullmatch(name)["person"]) for name in names}
        splits = dict.fromkeys(self.options["validation_persons"], "validation")
        return {n: splits.get(p, "train") if p < FIRST_TEST_PERSON else "test" for n, p in persons.items()}

    def _loose(self):
        """{name: (path, "", ())} of the files and image folders that are not in archives."""
        entries = {}
        for path in listing.videos(self.root):
            match = _NAME.fullmatch(path.name)
            entries[match["video"] if match else path.relative_to(self.root).as_posix()] = (path, "", ())
        return entries

    def _zipped(self):
        """{name: (archive, member, state)} of the files in zip archives."""
        members = {}
        for path in listing.videos(self.root, (".zip",), images=False):
            try:
                with zipfile.ZipFile(path) as archive:
                    entries = archive.infolist()
            except (OSError, zipfile.BadZipFile) as error:
                raise UserError(f"{path} is truncated or damaged ({error}); download it again") from error
            for entry in entries:
                match = _NAME.fullmatch(entry.filename.rsplit("/", 1)[-1])
                if match and match["suffix"] == ".avi" and entry.file_size <= _LARGEST_MEMBER:
                    members[match["video"]] = (path, entry.filename, (entry.file_size, entry.CRC))
        return members

    def _splits_by_folder(self, names):
        """{name: split} of files whose names have no person, by the folder train or test above them."""
        inside = {}
        for name in names:
            above = [listing.plain(part) for part in name.split("/")[:-1]]
            inside[name] = next((part for part in reversed(above) if part in ("train", "test", "validation")), None)
        return inside

    def _segments(self):
        """{video: [(first, end), ...]} of 00sequences.txt, whose frames count from 1 and include the last."""
        files = listing.videos(self.root, (SEGMENTS_FILE,), images=False)
        if not files:
            raise UserError(
                f"data.segments needs {SEGMENTS_FILE} in {self.root}; download it from"
                f" {self.info.homepage}{SEGMENTS_FILE}, or set data.segments=false"
            )
        lines = files[0].read_text(encoding="utf-8", errors="replace").splitlines()
        listed = {}
        for line in lines:
            match = re.match(r"(person\d\d_[a-z]+_d\d)\s+frames\s+(.*)", line)
            if match:
                ranges = re.findall(r"(\d+)\s*-\s*(\d+)", match[2])
                listed[match[1]] = [(int(first) - 1, int(last)) for first, last in ranges]
        return listed
