"""The published layouts of KTH and long Moving MNIST, and folders of anything: who goes where, and what is refused."""

import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import layouts
from tfvp import registry, video_io
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import listing


def build(name, root, options=None, **settings):
    settings = {"image_size": (24, 32), **settings}
    return registry.lookup("dataset", name)(base.Settings(root=str(root), **settings), **(options or {}))


def prepared(name, root, options=None, **settings):
    dataset = build(name, root, options, **settings)
    dataset.prepare(progress=False)
    return dataset


def shown(dataset, split):
    """{clip number that is drawn on the frames: frames}, and that frames count up from their first."""
    found = {}
    for clip, length in enumerate(dataset.clip_lengths(split).tolist()):
        video = dataset.read(split, np.array([clip]), np.array([0]), length)["video"][0]
        numbers, frames = layouts.marks(video)
        assert len(set(numbers)) == 1 and (np.diff(frames) == 1).all()
        found[int(numbers[0])] = length
    return found


@pytest.mark.parametrize("layout", ["zips", "folders", "readme"])
def test_kth_splits_by_person(tmp_path, layout):
    layouts.write_kth(tmp_path, layout)
    dataset = prepared("kth", tmp_path)
    assert shown(dataset, "train") == {p: 30 + p for p in (1, 2, 16)}
    assert shown(dataset, "validation") == {p: 30 + p for p in (17, 18, 20)}
    assert shown(dataset, "test") == {p: 30 + p for p in (21, 25)}
    # Without validation persons all of them train, and one clip in twenty (here: one) is held out.
    everyone = prepared("kth", tmp_path, {"validation_persons": []})
    held_out = set(shown(everyone, "validation"))
    assert len(held_out) == 1 and set(shown(everyone, "train")) == {1, 2, 16, 17, 18, 20} - held_out


def test_kth_never_validates_on_test_persons(tmp_path):
    with pytest.raises(UserError, match="21 to 25 are the test split"):
        build("kth", tmp_path, {"validation_persons": [20, 21]})
    # A test person's file in the training folder is a test clip all the same.
    layouts.write_kth(tmp_path, "readme")
    name = "person25_boxing_d1_uncomp.avi"
    (tmp_path / "KTH" / "test" / name).rename(tmp_path / "KTH" / "train" / name)
    assert set(shown(prepared("kth", tmp_path), "test")) == {21, 25}


def test_kth_reads_the_readme_layout_with_other_names(tmp_path):
    for folder, numbers in (("train", range(12)), ("test", (20, 21))):
        for n in numbers:
            video_io.write_video(tmp_path / "KTH" / folder / f"{n}.avi", layouts.marked_clip(n, 20), 25, "ffv1")
    dataset = prepared("kth", tmp_path)
    found = {split: set(shown(dataset, split)) for split in dataset.splits}
    assert found["test"] == {20, 21} and found["train"] | found["validation"] == set(range(12))
    assert found["validation"] and not found["train"] & found["validation"]


def test_kth_segments(tmp_path):
    layouts.write_kth(tmp_path, "zips", persons=(1, 2, 21))
    layouts.write_kth_segments(
        tmp_path,
        {
            "person01_boxing_d1": "1-10, 12-20, 25-90",
            "person21_boxing_d1": "5-8, 3-6",
            "person13_boxing_d3": "*missing*",
        },
    )
    dataset = prepared("kth", tmp_path, {"segments": True})
    # The third segment ends with the file, and person 2 is not listed.
    assert dataset.clip_lengths("train").tolist() == [10, 9, 7, 32]
    starts = [layouts.marks(dataset.read("train", np.array([i]), np.array([0]), 1)["video"][0])[1][0] for i in range(4)]
    assert starts == [0, 11, 24, 0]
    assert dataset.clip_lengths("test").tolist() == [4, 4]
    (tmp_path / "00sequences.txt").unlink()
    with pytest.raises(UserError, match="00sequences.txt.*data.segments=false"):
        prepared("kth", tmp_path, {"segments": True})


def test_kth_zips_are_read_in_place(tmp_path):
    layouts.write_kth(tmp_path, "zips", persons=(1, 17, 21))
    content = (tmp_path / "boxing.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "boxing.zip", "a") as archive:
        clip = layouts.video_bytes(layouts.marked_clip(3, 20), ".avi", tmp_path, "ffv1")
        archive.writestr("../../person03_boxing_d1_uncomp.avi", clip)
        archive.writestr("/etc/person04_boxing_d2_uncomp.avi", clip)
        archive.writestr("readme.txt", "not a clip")
    (tmp_path / "bytes.avi").unlink()
    prepared("kth", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".avi", ".txt")], "a member was unpacked"
    for name in ("person03_boxing_d1_uncomp.avi", "person04_boxing_d2_uncomp.avi"):
        outside = (tmp_path.parent, tmp_path.parent.parent, pathlib.Path("/etc"))
        assert not any((folder / name).exists() for folder in outside)
    (tmp_path / "boxing.zip").write_bytes(layouts.truncated(content, 0.9))
    with pytest.raises(UserError, match="boxing.zip is truncated"):
        prepared("kth", tmp_path)


def test_kth_damaged_members_are_left_out(tmp_path, capsys):
    base._printed.clear()
    layouts.write_kth(tmp_path, "zips", persons=(1, 2, 17, 21))
    content = bytearray((tmp_path / "boxing.zip").read_bytes())
    place = content.index(b"person02_boxing_d1_uncomp.avi") + 200
    content[place : place + 50] = bytes(50)
    (tmp_path / "boxing.zip").write_bytes(content)
    dataset = prepared("kth", tmp_path)
    assert set(shown(dataset, "train")) == {1}
    assert "1 of 4 files of kth cannot be read" in capsys.readouterr().out
    assert list(dataset.store.manifest["unreadable"]) == ["person02_boxing_d1"]


@pytest.mark.parametrize("name", ["kth", "folder"])
def test_missing_and_empty_roots(tmp_path, name):
    messages = {"": "needs data.root", tmp_path / "nowhere": "is not a directory", tmp_path: "contains nothing"}
    for root, message in messages.items():
        with pytest.raises(UserError, match=message) as caught:
            prepared(name, root)
        assert registry.lookup("dataset", name).info.download in str(caught.value)
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".npy"])
@pytest.mark.parametrize("name", ["Moving Mnist", "moving_mnist", "MOVING-MNIST", "."])
def test_long_clips_are_found_under_any_spelling(tmp_path, suffix, name):
    layouts.write_mmnist_long(tmp_path, suffix, train=11, name=name)
    dataset = prepared("mmnist_long", tmp_path, image_size=(64, 64))
    assert not dataset.endless
    assert {s: len(dataset.clip_lengths(s)) for s in dataset.splits} == {"train": 10, "validation": 1, "test": 2}
    assert set(shown(dataset, "test")) == {20, 21}
    found = {**shown(dataset, "train"), **shown(dataset, "validation")}
    assert set(found) == set(range(11))
    # Natural order: 2.avi before 10.avi.
    assert list(shown(dataset, "train")) == sorted(shown(dataset, "train"))


def test_long_clips_that_were_published_are_not_drawn_once_their_files_are_gone(tmp_path):
    layouts.write_mmnist_long(tmp_path, ".npy")
    before = prepared("mmnist_long", tmp_path, image_size=(64, 64))
    found = {split: shown(before, split) for split in before.splits}
    shutil.rmtree(tmp_path / "Moving Mnist" / "test-seq1000")
    for gone in ("test-seq1000", "Moving Mnist"):
        dataset = prepared("mmnist_long", tmp_path, image_size=(64, 64))
        assert not dataset.endless and {split: shown(dataset, split) for split in dataset.splits} == found, gone
        assert any("gone from" in note and "their decoded frames are still used" in note for note in dataset.notes())
        shutil.rmtree(tmp_path / "Moving Mnist", ignore_errors=True)
    with pytest.raises(UserError, match="contains nothing that mmnist_long can read"):
        dataset.prune(progress=False)
    assert prepared("mmnist_long", tmp_path, image_size=(32, 32)).endless  # of this size nothing was decoded


def test_long_clips_are_drawn_where_there_are_none(tmp_path):
    (tmp_path / "something else").mkdir()
    dataset = prepared("mmnist_long", tmp_path, image_size=(64, 64))
    assert dataset.endless and dataset.clip_lengths("train")[0] == 100 and dataset.clip_lengths("test")[0] == 1000


def test_folder_subfolders_are_the_splits(tmp_path):
    layouts.write_folder(tmp_path, ["Train/a.npy", "Train/deep/b.npy", "val/c.npy", "test/d.npy", "test/e.npy"])
    dataset = prepared("folder", tmp_path)
    assert [sorted(shown(dataset, split)) for split in dataset.splits] == [[0, 1], [2], [3, 4]]


def test_folder_makes_up_a_validation_split(tmp_path):
    layouts.write_folder(tmp_path, [f"train/{i}.npy" for i in range(5)] + ["test/x.npy"])
    dataset = prepared("folder", tmp_path)
    assert [len(dataset.clip_lengths(s)) for s in dataset.splits] == [4, 1, 1]


@pytest.mark.parametrize(
    "names, message",
    [
        (["test/a.npy", "x.npy", "y.npy"], "none for training"),
    ],
)
def test_folders_with_too_little_say_so(tmp_path, names, message):
    layouts.write_folder(tmp_path, names)
    with pytest.raises(UserError, match=message):
        prepared("folder", tmp_path)
    assert not (tmp_path / ".tfvp").exists()


def test_folder_leaves_out_short_clips(tmp_path, capsys):
    base._printed.clear()
    layouts.write_folder(tmp_path, [f"{i}.npy" for i in range(6)], frames=5)
    dataset = prepared("folder", tmp_path, {"min_length": 7})
    assert sum(len(dataset.clip_lengths(s)) for s in dataset.splits) == 4
    assert "2 of 6 files" in capsys.readouterr().out


def test_folder_resamples(tmp_path):
    for i in range(3):
        video_io.write_video(tmp_path / f"{i}.avi", layouts.marked_clip(i, 30), 30, "ffv1")
    dataset = prepared("folder", tmp_path, {"fps": 10.0, "resize": "area"})
    assert dataset.info.fps == 10.0 and registry.lookup("dataset", "folder").info.fps is None
    assert [dataset.clip_lengths(s).tolist() for s in dataset.splits] == [[10]] * 3
    video = dataset.read("train", np.array([0]), np.array([0]), 10)["video"]
    assert layouts.marks(video)[1].tolist() == [list(range(0, 30, 3))]


def test_truncated_files_in_a_folder(tmp_path, capsys):
    base._printed.clear()
    layouts.write_folder(tmp_path, [f"{i}.avi" for i in range(8)], frames=20)
    bad = tmp_path / "3.avi"
    bad.write_bytes(layouts.truncated(bad.read_bytes(), 0.6))
    (tmp_path / "5.avi").write_bytes(b"")
    dataset = prepared("folder", tmp_path)
    clips = {n: frames for s in dataset.splits for n, frames in shown(dataset, s).items()}
    assert set(clips) == {0, 1, 2, 3, 4, 6, 7} and 5 < clips[3] < 23
    said = capsys.readouterr().out
    assert "1 of 8 files of folder cannot be read" in said and "5.avi" in said
    assert f"3.avi ({clips[3]} of 23 frames)" in said
    assert any("1 of 8 files" in note and "3.avi" in note for note in dataset.notes())
    with pytest.raises(UserError, match=r"2 of 8 files of folder .*3\.avi.*5\.avi.*data\.max_damaged=0\.25"):
        prepared("folder", tmp_path, {"truncated": "skip"})
    dataset = prepared("folder", tmp_path, {"truncated": "skip"}, max_damaged=0.25)
    assert set().union(*(shown(dataset, s) for s in dataset.splits)) == {0, 1, 2, 4, 6, 7}


@settings(max_examples=60, deadline=None)
@given(
    names=st.sets(st.text("abcdef/._ 0123456789", min_size=1, max_size=12), min_size=3, max_size=60),
    validation=st.floats(0.01, 0.4),
    test=st.floats(0.01, 0.4),
)
def test_dealing_leaves_no_split_empty(names, validation, test):
    dealt = listing.assign_splits(sorted(names), test=test, validation=validation)
    assert set(dealt) == names and set(dealt.values()) == {"train", "validation", "test"}
    counts = {split: list(dealt.values()).count(split) for split in ("train", "validation", "test")}
    for split, fraction in (("validation", validation), ("test", test)):
        assert counts[split] <= max(1, 2 * fraction * len(names))
    assert listing.assign_splits(sorted(names, reverse=True), test=test, validation=validation) == dealt


def test_dealing_is_stable_and_in_proportion():
    names = [f"video{i:04d}.mp4" for i in range(2000)]
    before = listing.assign_splits(names[:1000], test=0.1, validation=0.2)
    after = listing.assign_splits(names, test=0.1, validation=0.2)
    assert all(after[name] == split for name, split in before.items())
    share = {split: list(after.values()).count(split) / 2000 for split in ("train", "validation", "test")}
    assert abs(share["test"] - 0.1) < 0.02 and abs(share["validation"] - 0.2) < 0.03


def test_where_shards_are_kept(tmp_path, monkeypatch):
    root = tmp_path / "raw"
    layouts.write_folder(root, [f"{i}.npy" for i in range(3)])
    assert prepared("folder", root).store.folder.parent == root / ".tfvp"
    assert prepared("folder", root, cache=str(tmp_path / "cache")).store.folder.is_relative_to(tmp_path / "cache")
    monkeypatch.setenv("TFVP_CACHE", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = prepared("folder", root, {"fps": 5.0}).store.folder
    assert found.is_relative_to(tmp_path / "home") and list(found.glob("manifest-*.json"))
    # Shards that lie beside the files are used even where they cannot be written.
    assert prepared("folder", root).store.folder.parent == root / ".tfvp"
    monkeypatch.delenv("TFVP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    store = build("folder", root, {"fps": 6.0}).store
    assert store.folder.is_relative_to(tmp_path / "person" / ".cache" / "tfvp")


def test_a_folder_of_real_clips(tmp_path):
    root = layouts.shared_data("kth_small")
    dataset = prepared("folder", root, cache=str(tmp_path), image_size=(32, 32))
    assert sum(len(dataset.clip_lengths(s)) for s in dataset.splits) == 5
    assert all((dataset.clip_lengths(s) == 75).all() for s in dataset.splits)


def test_a_real_kth_clip(tmp_path):
    root = layouts.shared_data("kth")
    dataset = prepared("kth", root, cache=str(tmp_path), image_size=(64, 64))
    assert dataset.clip_lengths("train").tolist() == [360] and dataset.info.fps == 25.0
    manifest = json.loads(dataset.store.manifest_path.read_text())
    assert manifest["clips"][0]["name"] == "person01_boxing_d1"
    expected = video_io.read_video(root / "person01_boxing_d1_uncomp.avi", (64, 64), 1, "squash")
    np.testing.assert_array_equal(dataset.read("train", np.array([0]), np.array([0]), 360)["video"][0], expected)
