"""Pieces of one film are never in two splits: by group, by time with a gap, by recording, by person."""

import shutil

import numpy as np
import pytest

from tests import layouts
from tfvp import registry
from tfvp.datasets import base, human36m
from tfvp.errors import UserError

SPLITS = ("train", "validation", "test")


def write(root, films):
    """Videos whose frames show their number in the film, and the film: {name: (film, first frame, frames)}."""
    for name, (film, first, frames) in films.items():
        video = np.zeros((frames, 16, 16), np.uint8)
        video[:, :8] = np.arange(first, first + frames)[:, None, None]
        video[:, 8:] = film
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, video)


def prepared(root, **options):
    dataset = registry.lookup("dataset", "folder")(base.Settings(root=str(root), image_size=(16, 16)), **options)
    dataset.prepare(progress=False)
    return dataset


def frames_of(dataset, split):
    """{film: numbers of its frames, in the order of clips}, read from the data."""
    found = {}
    for clip, length in enumerate(dataset.clip_lengths(split)):
        (video,) = dataset.read(split, np.array([clip]), np.array([0]), int(length))["video"]
        found.setdefault(int(video[0, 12, 0, 0]), []).extend(video[:, 0, 0, 0].tolist())
    return found


@pytest.mark.parametrize("group, name", [(r"^(.*)_part", "film{}_part{}.npy"), ("folder", "film{}/scenes/{}.npy")])
def test_pieces_of_a_film_stay_together(tmp_path, group, name):
    write(tmp_path, {name.format(f, p): (f, 10 * p, 10) for f in range(8) for p in range(5)})
    dataset = prepared(tmp_path, group=group, validation_fraction=0.2, test_fraction=0.2)
    films = [set(frames_of(dataset, split)) for split in SPLITS]
    assert all(films) and sum(map(len, films)) == 8 == len(set.union(*films))
    sources = dataset.clip_sources("test", np.arange(len(dataset.clip_lengths("test"))))
    assert len(sources) == 5 * len(set(sources)) and sources[0].startswith("film") and "part" not in sources[0]
    ungrouped = prepared(tmp_path, validation_fraction=0.2, test_fraction=0.2)
    assert not set.isdisjoint(*(set(frames_of(ungrouped, split)) for split in ("train", "test")))


@pytest.mark.parametrize("films", [1, 2])
def test_too_few_films_are_cut_by_time(tmp_path, films, capsys):
    """Two films were refused, with the advice to cut them."""
    base._printed.clear()
    write(tmp_path, {f"film{f}.npy": (f, 0, 200) for f in range(films)})
    dataset = prepared(tmp_path, gap=10)
    train, validation, test = (frames_of(dataset, split) for split in SPLITS)
    for film in range(films):
        assert train[film] == list(range(144))  # of 180 frames that are used, a tenth each for the others
        assert validation[film] == list(range(154, 172)) and test[film] == list(range(182, 200))
    assert dataset.clip_names("test", [0]) == ["film0.npy#183-200"]
    assert dataset.clip_sources("test", [0]) == ["film0.npy"]
    assert f"{films} film" in capsys.readouterr().out and any("cut by time" in note for note in dataset.notes())
    (part,) = dataset.read("validation", np.array([films - 1]), np.array([2]), 3, 4)["video"]
    assert part[:, 0, 0, 0].tolist() == [156, 160, 164]
    # Frames are stored whole: another gap or other shares decode nothing again.
    stored = {path.name: path.stat().st_mtime_ns for path in dataset.store.folder.glob("shard-*")}
    other = prepared(tmp_path, gap=0, test_fraction=0.5)
    assert {path.name: path.stat().st_mtime_ns for path in other.store.folder.glob("shard-*")} == stored
    assert frames_of(other, "test")[0] == list(range(100, 200))


def test_a_film_in_pieces_is_cut_as_one(tmp_path):
    write(tmp_path, {f"film{f}_{p}.npy": (f, 25 * p, 25) for f in range(2) for p in range(8)})
    dataset = prepared(tmp_path, group=r"film\d", gap=10)
    train, validation, test = (frames_of(dataset, split) for split in SPLITS)
    assert train[1] == list(range(144)) and validation[1] == list(range(154, 172)) and test[1] == list(range(182, 200))
    names = dataset.clip_names("train", np.arange(6))
    assert names[:2] == ["film0_0.npy", "film0_1.npy"] and names[5] == "film0_5.npy#1-19"
    assert set(dataset.clip_sources("train", np.arange(12))) == {"film0", "film1"}


def test_one_training_video_beside_a_test_folder_is_cut_for_validation(tmp_path):
    write(tmp_path, {"train/a.npy": (1, 0, 100), "test/b.npy": (2, 0, 30)})
    dataset = prepared(tmp_path, gap=20)
    found = [frames_of(dataset, split) for split in SPLITS]
    assert found == [{1: list(range(72))}, {1: list(range(92, 100))}, {2: list(range(30))}]


def test_what_cannot_be_split_is_said(tmp_path):
    write(tmp_path, {"a.npy": (1, 0, 40)})
    with pytest.raises(UserError, match="a.npy has 40 frames, too few to be cut.*lower data.gap"):
        prepared(tmp_path)
    write(tmp_path, {"train/x_1.npy": (1, 0, 9), "train/y_1.npy": (1, 0, 9), "test/x_2.npy": (1, 0, 9)})
    with pytest.raises(UserError, match=r"train/x_1.npy and test/x_2.npy are of one film by data.group"):
        prepared(tmp_path, group=r"([a-z])_\d")
    for options, message in (({"group": "("}, "regular expression"), ({"gap": -1}, "data.gap=-1 must be 0 or more")):
        with pytest.raises(UserError, match=message):
            prepared(tmp_path, **options)


def test_a_recording_of_human36m_is_in_one_split(tmp_path):
    """All takes and cameras of what an actor does: they show the same movements at the same time."""
    assert human36m.recording("images/S11_Walking 1.60457274_") == "images/S11_Walking"
    assert human36m.recording("images/S11_WalkDog.60457274_") == "images/S11_WalkDog"
    assert human36m.recording("images/S1_Directions_1.54138969_") == "images/S1_Directions"
    actions, cameras = ("Walking", "Eating", "Greeting", "Phoning", "Sitting"), (54138969, 55011271, 58860488, 60457274)
    listed = {
        split: [
            f"images/{subject}_{action}{take}.{camera}_,{first}"
            for subject in subjects
            for action in actions
            for take in ("", " 1")
            for camera in cameras
            for first in (1, 41)
        ]
        for split, subjects in (("train", ("S1", "S5", "S6", "S7", "S8")), ("test", ("S9", "S11")))
    }
    (tmp_path / "images").mkdir()
    for split, lines in listed.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
        for line in lines:
            prefix, first = line.split(",")
            (tmp_path / f"{prefix}{int(first):06d}.jpg").touch()
    # Of one frame each: only the first one of a clip is there.
    dataset = registry.lookup("dataset", "human36m")(base.Settings(root=str(tmp_path), channels=3), clip_length=1)
    found = {split: [s.member for s in dataset.sources() if s.split == split] for split in SPLITS}
    recordings = {split: {human36m.recording(member.split(",")[0]) for member in found[split]} for split in SPLITS}
    assert recordings["validation"] and sum(map(len, recordings.values())) == 35 == len(set.union(*recordings.values()))
    assert len(found["validation"]) == 16 * len(recordings["validation"])
    assert sorted(found["train"] + found["validation"]) == sorted(listed["train"])
    assert sorted(found["test"]) == sorted(listed["test"])


@pytest.mark.parametrize("persons", [[], [17, 18, 19, 20], [3]])
def test_persons_of_kth_are_never_trained_and_tested(tmp_path, persons):
    for action in ("walking", "boxing"):
        (tmp_path / action).mkdir()
        for person in range(1, 26):
            for scenario in range(1, 5):
                (tmp_path / action / f"person{person:02d}_{action}_d{scenario}_uncomp.avi").touch()
    dataset = registry.lookup("dataset", "kth")(
        base.Settings(root=str(tmp_path), image_size=(16, 16)), validation_persons=persons
    )
    found = {split: {int(s.name[6:8]) for s in dataset.sources() if s.split == split} for split in SPLITS}
    assert found["test"] == set(range(21, 26)) and not found["test"] & (found["train"] | found["validation"])
    if persons:
        assert found["validation"] == set(persons) and found["train"] == set(range(1, 21)) - set(persons)
    files = [s.path for s in dataset.sources()]
    assert len(set(files)) == len(files)  # a film, with all of its segments, is in one split


def sides(dataset):
    """{film: its split}, read from the frames; no film is in two."""
    found = [(film, split) for split in SPLITS for film in frames_of(dataset, split)]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("films", [3, 5])
def test_films_keep_their_splits_when_the_file_of_one_is_gone(tmp_path, films):
    for gone in range(films):
        root = tmp_path / str(gone)
        write(root, {f"film{f}.npy": (f, 0, 20) for f in range(films)})
        before = sides(prepared(root))
        assert set(before.values()) == set(SPLITS)
        (root / f"film{gone}.npy").rename(tmp_path / "away.npy")
        after = prepared(root)
        assert sides(after) == before and after.store.lost == [f"film{gone}.npy"]
        assert sides(prepared(root)) == before
        (tmp_path / "away.npy").rename(root / f"film{gone}.npy")
        back = prepared(root)
        assert sides(back) == before and back.store.lost == []


def test_splits_depend_on_names_alone(tmp_path):
    """Not on what was prepared before: folders of other image sizes, the larger one of data.crop_margin, agree."""
    write(tmp_path, {f"film{f}.npy": (f, 0, 20) for f in range(4)})
    prepared(tmp_path)
    prepared(tmp_path, test_fraction=0.3)
    write(tmp_path, {f"film{f}.npy": (f, 0, 20) for f in range(4, 12)})
    grown = sides(prepared(tmp_path))
    shutil.copytree(tmp_path, tmp_path.parent / "fresh", ignore=shutil.ignore_patterns(".tfvp"))
    assert sides(prepared(tmp_path.parent / "fresh")) == grown


@pytest.mark.parametrize("gone", ["train", "val", "test"])
def test_folders_of_splits_that_are_gone(tmp_path, gone):
    write(tmp_path, {f"train/{f}.npy": (f, 0, 20) for f in range(4)})
    write(tmp_path, {"val/8.npy": (8, 0, 20), "test/9.npy": (9, 0, 20)})
    before = sides(prepared(tmp_path))
    shutil.rmtree(tmp_path / gone)
    after = prepared(tmp_path)
    assert sides(after) == before and len(after.store.lost) == (4 if gone == "train" else 1)


def test_films_that_are_sorted_into_folders_later_are_dealt_anew(tmp_path):
    write(tmp_path, {f"film{f}.npy": (f, 0, 20) for f in range(6)})
    assert set(sides(prepared(tmp_path)).values()) == set(SPLITS)
    for film in range(6):
        folder = tmp_path / ("test" if film == 0 else "train")
        folder.mkdir(exist_ok=True)
        (tmp_path / f"film{film}.npy").rename(folder / f"film{film}.npy")
    found = sides(prepared(tmp_path))
    assert found[0] == "test" and sorted(found.values()) == ["test", *["train"] * 4, "validation"]


def test_a_film_that_was_cut_by_time_is_whole_among_more(tmp_path):
    write(tmp_path, {"film0.npy": (0, 0, 200)})
    assert len(frames_of(prepared(tmp_path), "test")[0]) == 15
    (tmp_path / "film0.npy").unlink()
    write(tmp_path, {f"film{f}.npy": (f, 0, 20) for f in range(1, 4)})
    assert set(sides(prepared(tmp_path))) == {0, 1, 2, 3}


def test_published_clips_keep_their_splits_when_one_is_gone(tmp_path):
    layouts.write_train_test(tmp_path, suffix=".npy", train=30)

    def splits():
        dataset = registry.lookup("dataset", "mazes")(base.Settings(str(tmp_path), image_size=(16, 16), channels=3))
        dataset.prepare(progress=False)
        return {name: split for split in SPLITS for name in dataset.store.clip_names(split)}

    before = splits()
    for name in [name for name, split in before.items() if split == "validation"]:
        (tmp_path / name).unlink()
        assert splits() == before
