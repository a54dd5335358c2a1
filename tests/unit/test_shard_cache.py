"""What decoded frames outlive: raw files that are gone, moved, touched or sorted anew, and an older version."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from tests import layouts
from tests.unit.test_shards import SHAPE, assert_holds, decode, raw_files, sources_of
from tfvp import registry
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import contents, decoding, entries, shards
from tfvp.pipeline.decoding import Source


@pytest.fixture(autouse=True)
def unsaid():
    base._printed.clear()


def folder_of(root, cache="", **options):
    settings = base.Settings(root=str(root), cache=str(cache), image_size=(24, 32))
    return registry.lookup("dataset", "folder")(settings, **options)


def store_in(folder, splitting=None, view="", earlier=()):
    arrays = {"video": (np.uint8, SHAPE)}
    return shards.Store(folder, {"dataset": "toy"}, arrays, splitting, view=view, earlier=earlier)


def decoded_by(dataset, monkeypatch, prune=False):
    """Names of the files that `prepare` decodes."""
    names, decode = [], dataset.decode
    monkeypatch.setattr(dataset, "decode", lambda source: names.append(source.name) or decode(source))
    dataset.prune(progress=False) if prune else dataset.prepare(progress=False)
    return names


def clips_of(dataset):
    """{name: number in its marks} of all clips, read from their frames."""
    found = {}
    for split in dataset.splits:
        for n, name in enumerate(dataset.store.clip_names(split)):
            video = dataset.read(split, np.array([n]), np.array([0]), 5)["video"]
            found[name] = int(layouts.marks(video)[0][0, 0])
    return found


@pytest.fixture
def videos(tmp_path):
    root = tmp_path / "videos"
    layouts.write_folder(root, [f"{i}.npy" for i in range(8)], frames=10)
    return root


def frames_on_disk(folder):
    return {path.name for path in folder.rglob("shard-*.npy")}


def test_files_that_are_gone_are_still_used_until_asked(videos, monkeypatch, capsys):
    before = folder_of(videos)
    before.prepare(progress=False)
    clips, files = clips_of(before), frames_on_disk(videos)
    for name in ("2.npy", "5.npy"):
        (videos / name).unlink()
    np.save(videos / "9.npy", layouts.marked_clip(9, 30))
    after = folder_of(videos)
    assert decoded_by(after, monkeypatch) == ["9.npy"]
    said = " ".join(capsys.readouterr().out.split())
    assert f"2 of 9 files of folder are gone from {videos} (2.npy, 5.npy)" in said and "--prune" in said
    assert {name: clips_of(after)[name] for name in clips} == clips and files < frames_on_disk(videos)
    assert after.store.lost == ["2.npy", "5.npy"] and len(after.notes()) == 2
    pruned = folder_of(videos)
    assert decoded_by(pruned, monkeypatch, prune=True) == []
    assert set(clips_of(pruned)) == {f"{i}.npy" for i in (0, 1, 3, 4, 6, 7, 9)} and pruned.store.lost == []


def test_a_copy_that_is_gone_is_still_used(videos, monkeypatch):
    shutil.copy(videos / "3.npy", videos / "copy.npy")
    before = folder_of(videos)
    before.prepare(progress=False)
    clips = clips_of(before)
    (videos / "copy.npy").unlink()
    for _ in range(2):
        after = folder_of(videos)
        assert decoded_by(after, monkeypatch) == [] and clips_of(after) == clips and after.store.lost == ["copy.npy"]
    (videos / "4.npy").rename(videos / "5.npy")  # the frames of 4.npy are used once, as those of 5.npy
    moved = folder_of(videos)
    assert decoded_by(moved, monkeypatch) == [] and moved.store.lost == ["copy.npy"]
    assert clips_of(moved) == {**{n: mark for n, mark in clips.items() if n != "4.npy"}, "5.npy": 4}


def test_pruning_deletes_what_nothing_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "SHARD_BYTES", 1)  # a shard for each file
    sources = raw_files(tmp_path / "raw", 4)
    store_in(tmp_path / "s").prepare(sources, decode, progress=False)
    sources[1].path.unlink()
    store = store_in(tmp_path / "s")
    store.prepare([sources[0], *sources[2:]], None, progress=False)
    assert len(frames_on_disk(tmp_path)) == 4 and store.clip_names("train") == ["0.avi", "1.avi", "3.avi"]
    store.prepare([sources[0], *sources[2:]], None, progress=False, prune=True)
    assert len(frames_on_disk(tmp_path)) == 3 and store.clip_names("train") == ["0.avi", "3.avi"]
    assert_holds(store, "test", [2])


@pytest.mark.parametrize("gone", ["unmounted", "empty"])
def test_a_mount_that_is_gone(videos, tmp_path, monkeypatch, capsys, gone):
    before = folder_of(videos, tmp_path / "cache")
    before.prepare(progress=False)
    clips = clips_of(before)
    shutil.rmtree(videos)
    if gone == "empty":
        videos.mkdir()
    after = folder_of(videos, tmp_path / "cache")
    assert decoded_by(after, monkeypatch) == [] and clips_of(after) == clips
    assert "8 of 8 files of folder are gone" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="not a directory|contains nothing"):
        folder_of(videos, tmp_path / "cache").prune(progress=False)
    with pytest.raises(UserError, match=r"data.test_fraction was 0.1 and is 0.4; bring the files back"):
        folder_of(videos, tmp_path / "cache", test_fraction=0.4).prepare(progress=False)
    assert clips_of(folder_of(videos, tmp_path / "cache")) == clips


def test_other_splits_decode_nothing(videos, monkeypatch):
    folder_of(videos).prepare(progress=False)
    other = folder_of(videos, validation_fraction=0.4)
    assert decoded_by(other, monkeypatch) == []
    assert len(other.store.clip_names("validation")) > 1 and len(clips_of(other)) == 8
    assert len(list((videos / ".tfvp").iterdir())) == 1


def test_runs_with_other_splits_do_not_disturb_each_other(tmp_path):
    sources = raw_files(tmp_path / "raw")
    others = [dataclasses.replace(source, split="test") for source in sources]
    first, second = store_in(tmp_path / "s", {"share": 0.1}), store_in(tmp_path / "s", {"share": 1.0})
    first.prepare(sources, decode, progress=False)
    second.prepare(others, None, progress=False)
    assert_holds(first, "train", [0, 1, 3, 4])
    assert_holds(second, "test", range(6))
    first.prepare(sources, None, progress=False)
    assert_holds(first, "test", [2, 5])
    assert_holds(second, "test", range(6))


def test_a_folder_that_is_renamed_or_touched_decodes_nothing(tmp_path, monkeypatch):
    root = tmp_path / "videos"
    layouts.write_folder(root, ["train/0.npy", "train/1.npy", "val/2.npy", "test/3.npy"], frames=10)
    folder_of(root).prepare(progress=False)
    (root / "val").rename(root / "validation")
    os.utime(root / "train" / "0.npy", (1, 1))
    after = folder_of(root)
    assert decoded_by(after, monkeypatch) == [] and after.store.lost == []
    assert clips_of(after)["validation/2.npy"] == clips_of(after)["train/0.npy"] + 2


@pytest.mark.parametrize("cache", ["", "cache"])
def test_a_moved_folder_decodes_nothing(videos, tmp_path, monkeypatch, cache):
    cache = cache and tmp_path / cache
    before = folder_of(videos, cache)
    before.prepare(progress=False)
    clips = clips_of(before)
    moved = videos.rename(tmp_path / "elsewhere")
    after = folder_of(moved, cache)
    assert decoded_by(after, monkeypatch) == [] and clips_of(after) == clips


def test_folders_that_share_a_cache_keep_each_others_frames(videos, tmp_path, monkeypatch):
    second = tmp_path / "second"
    second.mkdir()
    for n in range(3):
        np.save(second / f"{n}.npy", layouts.marked_clip(20 + n, 9))
    datasets = [folder_of(root, tmp_path / "cache") for root in (videos, second)]
    for dataset in datasets:
        dataset.prepare(progress=False)
    assert datasets[0].store.folder == datasets[1].store.folder
    assert sorted(clips_of(datasets[1]).values()) == [20, 21, 22] and max(clips_of(datasets[0]).values()) < 20
    again = folder_of(second, tmp_path / "cache")
    assert decoded_by(again, monkeypatch, prune=True) == [] and len(clips_of(again)) == 3
    assert decoded_by(folder_of(videos, tmp_path / "cache"), monkeypatch) == []


def test_a_cache_that_may_only_be_read_serves_other_splits(videos, monkeypatch):
    (videos / "3.npy").write_bytes(b"damaged")
    np.save(videos / "4.npy", layouts.marked_clip(4, 1))
    before = folder_of(videos)
    before.prepare(progress=False)
    monkeypatch.setattr(shards.files, "write_json", lambda path, value: (_ for _ in ()).throw(UserError("read-only")))
    other = folder_of(videos, test_fraction=0.5)
    assert decoded_by(other, monkeypatch) == [] and len(other.clip_lengths("test")) > 1
    assert len(clips_of(other)) == 6 and other.notes() == before.notes() and len(other.notes()) == 3


def test_a_replaced_file_of_equal_size_is_noticed(tmp_path):
    path, block = tmp_path / "a.bin", contents.BLOCK
    content = bytearray(5 * block)
    prints = set()
    for place in (None, 0, 2 * block + 9, 5 * block - 1):
        if place is not None:
            content[place] ^= 1
        path.write_bytes(content)
        prints.add(contents.of_file(path))
    assert len(prints) == 4
    small = tmp_path / "b.bin"
    small.write_bytes(bytes(3 * block))
    assert (
        contents.of_file(small)
        == f"{3 * block}:" + hashlib.sha256(str(3 * block).encode() + bytes(3 * block)).hexdigest()[:20]
    )


def test_raw_files_are_not_read_again(tmp_path, monkeypatch):
    images = tmp_path / "raw" / "images"
    images.mkdir(parents=True)
    for n in range(3):
        (images / f"{n}.png").write_bytes(b"x" * n)
    sources = [*raw_files(tmp_path / "raw", 2), Source("images", "train", images)]
    memo = tmp_path / "contents.json"
    read, of_file = [], contents.of_file
    monkeypatch.setattr(contents, "of_file", lambda path: read.append(path) or of_file(path))
    first = contents.fingerprints(sources, memo)
    assert len(read) == 5 and contents.fingerprints(sources, memo) == first and len(read) == 5
    os.utime(images / "1.png", (1, 1))
    assert contents.fingerprints(sources, memo) == first and len(read) == 8
    (images / "1.png").write_bytes(b"y")
    second = contents.fingerprints(sources, memo)
    assert second["images"] != first["images"] and len(read) == 11


def as_format_1(store, sources, splitting, folder):
    """The folder of a prepared store as version 0.1 wrote it."""
    old = {}
    for source in sources:
        status = source.path.stat()
        old[source.name] = json.dumps([source.name, source.split, (), status.st_size, status.st_mtime_ns])
    settings = {**store.settings, **splitting}
    digest = hashlib.sha256(json.dumps([1, settings], sort_keys=True).encode()).hexdigest()[:10]
    target = folder / f"{store.folder.name.rsplit('-', 1)[0]}-{digest}"
    shutil.move(store.folder, target)
    for name in ("contents.json", ".used"):
        (target / name).unlink()
    for path in target.glob("shard-*.json"):
        shard = json.loads(path.read_text())
        for entry in shard["sources"]:
            entry["fingerprint"] = old[entry["source"]]
        path.write_text(json.dumps(shard))
    manifest = json.loads((target / "manifest.json").read_text())
    manifest.update(format=1, settings=settings, sources=old)
    del manifest["splitting"], manifest["root"]
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def test_shards_of_version_0_1_are_taken_over(tmp_path):
    sources, splitting, place = raw_files(tmp_path / "raw"), {"fraction": 0.1}, tmp_path / "old"
    new = store_in(tmp_path / "toy", splitting)
    new.prepare(sources, decode, progress=False)
    place.mkdir()
    old = as_format_1(new, sources, splitting, place)
    sources[5].path.unlink()
    os.utime(sources[4].path, (1, 1))  # 0.1 knew no content, so that this may be another file
    decoded = []

    def watched(source):
        decoded.append(source.name)
        return decode(source)

    store = store_in(tmp_path / "toy", splitting, earlier=[place])
    store.prepare(sources[:5], watched, progress=False)
    assert decoded == ["4.avi"] and not old.exists() and store.lost == ["5.avi"]
    assert_holds(store, "train", [0, 1, 3, 4])
    assert_holds(store, "test", [2, 5])
    store.check(progress=False)
    store_in(tmp_path / "toy", splitting).prepare(sources[:5], None, progress=False)


def test_a_clip_in_several_shards_is_read_as_one(tmp_path):
    source, clip = raw_files(tmp_path / "raw", 2)[0], layouts.marked_clip(0, 20, *SHAPE[:2])
    sources = sources_of(tmp_path / "raw")
    store = store_in(tmp_path / "s")
    store.prepare(sources, decode, progress=False)
    for path in store.folder.glob("shard-*.json"):
        shard = json.loads(path.read_text())
        entry = next((e for e in shard["sources"] if e["source"] == source.name), None)
        if entry is None:
            continue
        where, shard["sources"] = entry["clips"][0]["offset"], [e for e in shard["sources"] if e is not entry]
        for part, (first, end) in enumerate(((0, 7), (7, 9), (9, 20))):
            clips = [{"name": source.name, "offset": where + first, "length": end - first}]
            last = {"parts": 3} if part == 2 else {}
            shard["sources"].append({**entry, "clips": clips, "part": part, **last})
        path.write_text(json.dumps(shard))
    store.manifest_path.unlink()
    store = store_in(tmp_path / "s")
    store.prepare(sources, None, progress=False)
    starts = np.arange(14)
    video = store.read("train", np.zeros(14, np.int64), starts, 3, stride=3)["video"]
    np.testing.assert_array_equal(video, [clip[start : start + 7 : 3] for start in starts])
    assert store.clip_lengths("train").tolist() == [20, 21]


def test_a_source_with_a_missing_part_is_not_complete(tmp_path):
    entry = {"source": "a", "fingerprint": "f", "clips": [{"name": "a", "offset": 0, "length": 4}]}
    for sources, whole in (
        ([entry], True),
        ([{**entry, "part": 0}], False),
        ([{**entry, "part": 1, "parts": 2}], False),
        ([{**entry, "part": 0}, {**entry, "part": 1, "parts": 2}], True),
    ):
        shard = {"name": "shard-00000", "frames": 4, "files": {}, "sources": sources}
        (tmp_path / "shard-00000.json").write_text(json.dumps(shard))
        assert (entries.Entries(tmp_path).clips("a", "f") is not None) == whole


def test_damaged_frames_without_raw_files(tmp_path):
    sources = raw_files(tmp_path / "raw", 3)
    store = store_in(tmp_path / "s")
    store.prepare(sources, decode, progress=False)
    for path in store.folder.glob("shard-*.npy"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="are damaged, and its raw file is gone"):
        store_in(tmp_path / "s").prepare(sources[:2], decode, progress=False)


def test_shards_of_version_0_1_that_may_only_be_read_are_linked(tmp_path, monkeypatch):
    sources, place = raw_files(tmp_path / "raw"), tmp_path / "old"
    new = store_in(tmp_path / "toy")
    new.prepare(sources, decode, progress=False)
    place.mkdir()
    old = as_format_1(new, sources, {}, place)
    before = sorted(path.name for path in old.iterdir())
    replace, unlink = os.replace, pathlib.Path.unlink

    def refuse(path):
        if old in pathlib.Path(path).parents:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", lambda path, target: (refuse(path), replace(path, target)))
    monkeypatch.setattr(pathlib.Path, "unlink", lambda path, **options: (refuse(path), unlink(path, **options)))
    store = store_in(tmp_path / "toy", earlier=[place])
    store.prepare(sources, None, progress=False)
    assert_holds(store, "train", [0, 1, 3, 4])
    assert sorted(path.name for path in old.iterdir()) == before


def test_own_videos_that_version_0_1_decoded_are_taken_over(videos, monkeypatch):
    dataset = folder_of(videos)
    dataset.prepare(progress=False)
    clips, sources = clips_of(dataset), dataset.sources()
    monkeypatch.delitem(dataset.store.settings, "truncated")  # 0.1 had no such option
    as_format_1(dataset.store, sources, dataset.store.splitting, videos / ".tfvp")
    again = folder_of(videos)
    assert decoded_by(again, monkeypatch) == [] and clips_of(again) == clips


def test_a_shard_that_a_power_cut_emptied_is_decoded_again(tmp_path):
    sources = raw_files(tmp_path / "raw", 4)
    store = store_in(tmp_path / "s")
    store.prepare(sources[:3], decode, progress=False)
    for path in store.folder.glob("shard-*.json"):
        path.write_bytes(bytes(40) if path.stem == "shard-00000" else b"")
    store = store_in(tmp_path / "s")
    store.prepare(sources, decode, progress=False)
    assert_holds(store, "train", [0, 1, 3])
    assert_holds(store, "test", [2])
    store.check(progress=False)
