"""Data sets in object stores: what is fetched, fetched again, kept and refused. The store is fsspec's in memory."""

import dataclasses
import json
import pathlib
import shutil
import sys
import uuid

import fsspec
import numpy as np
import pytest

from tests import layouts
from tfvp import registry
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import object_stores, remote

NAMES = [f"sub/{i}.npy" for i in range(6)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A folder of six clips."""
    folder = tmp_path_factory.mktemp("raw")
    layouts.write_folder(folder, NAMES)
    return folder


@pytest.fixture
def memory(monkeypatch):
    """fsspec's store in memory, with `reads`, a list of (path, begin, end) of what was fetched from it."""
    system = fsspec.filesystem("memory")
    whole, reads = type(system).cat_file, []

    def cat_file(self, path, start=None, end=None, **kwargs):
        reads.append((path, start, end))
        return whole(self, path, start, end, **kwargs)

    monkeypatch.setattr(type(system), "cat_file", cat_file)
    monkeypatch.setattr(object_stores, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(object_stores, "LISTING_WAITS", (0.0,))
    system.reads = reads
    base._printed.clear()
    yield system
    system.store.clear()


@pytest.fixture
def url(memory, raw):
    """The URL of the six clips in the store, beside hidden objects."""
    place = f"memory://{uuid.uuid4().hex}/clips"
    memory.put(str(raw), place, recursive=True)
    memory.pipe(f"{place}/.hidden", b"x")
    memory.pipe(f"{place}/.tfvp/manifest.json", b"x")
    return place


def mirror(url, cache):
    return remote.Mirror(url, cache)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def build(root, cache, **options):
    settings = base.Settings(root=str(root), cache=str(cache), image_size=(16, 16))
    return registry.lookup("dataset", "folder")(settings, **options)


def fetched(memory):
    """Names of the objects that were fetched since the last call."""
    names = sorted({pathlib.PurePosixPath(path).name for path, _, _ in memory.reads})
    memory.reads.clear()
    return names


def test_a_remote_data_set_is_the_local_one(url, raw, tmp_path, capsys):
    far, near = build(url, tmp_path / "far"), build(raw, tmp_path / "near")
    far.prepare(progress=False)
    near.prepare(progress=False)
    for split in near.splits:
        clips = np.arange(len(near.clip_lengths(split)))
        assert far.clip_names(split, clips) == near.clip_names(split, clips)
        np.testing.assert_array_equal(
            far.read(split, clips, 0 * clips, 12)["video"], near.read(split, clips, 0 * clips, 12)["video"]
        )
    said = capsys.readouterr().out
    assert f"fetching 6 of 6 objects of {url}, " in said and " are free" in said
    assert any(f"6 files in {url}" in note for note in far.notes())
    assert tree(far.settings.mirror.raw) == tree(raw)
    assert far.store.folder.is_relative_to(tmp_path / "far") and not far.store.folder.is_relative_to(
        far.settings.mirror.folder
    )


def test_what_changed_is_fetched_again_and_nothing_else(url, memory, raw, tmp_path):
    folder = mirror(url, tmp_path).fetch(progress=False)
    assert fetched(memory) == [pathlib.Path(name).name for name in NAMES]
    mirror(url + "/", tmp_path).fetch(progress=False)
    assert fetched(memory) == []
    memory.pipe(f"{url}/sub/1.npy", b"other")
    memory.rm(f"{url}/sub/2.npy")
    memory.pipe(f"{url}/new/7.npy", b"")
    (folder / "sub" / "3.npy").write_bytes(b"damaged")
    (folder / "sub" / "4.npy").unlink()
    mirror(url, tmp_path).fetch(progress=False)
    assert fetched(memory) == ["1.npy", "3.npy", "4.npy"]
    kept = {f"sub/{i}.npy": (raw / "sub" / f"{i}.npy").read_bytes() for i in (0, 3, 4, 5)}
    assert tree(folder) == {**kept, "sub/1.npy": b"other", "new/7.npy": b""}
    mirror(url, tmp_path).fetch(progress=False)
    assert fetched(memory) == []


class Killed(BaseException):
    """Ends a process in the middle of its work."""


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_process_is_continued_inside_a_file(url, memory, raw, tmp_path, monkeypatch, torn):
    monkeypatch.setattr(remote, "BLOCK", 4096)
    monkeypatch.setattr(remote, "THREADS", 1)
    counted = memory.cat_file.__func__

    def killed(self, path, start=None, end=None, **kwargs):
        if path.endswith(("4.npy", "5.npy")) or path.endswith("3.npy") and start == 2 * 4096:
            raise Killed
        return counted(self, path, start, end, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "cat_file", killed)
        with pytest.raises(Killed):
            mirror(url, tmp_path).fetch(progress=False)
    first = [place for place in memory.reads if place[0].endswith("3.npy")]
    assert [begin for _, begin, _ in first] == [0, 4096]
    memory.reads.clear()
    copy = mirror(url, tmp_path)
    if torn:
        with open(copy.folder / "objects.jsonl", "a") as journal:
            journal.write('{"name": "sub/0.np')
    assert tree(copy.fetch(progress=False)) == tree(raw)
    assert min(begin for path, begin, _ in memory.reads if path.endswith("3.npy")) == 2 * 4096
    assert fetched(memory) == ["3.npy", "4.npy", "5.npy"]
    assert not (copy.folder / "partial").exists()
    assert mirror(url, tmp_path)._outdated() == []


def test_passing_errors_are_tried_again(url, memory, tmp_path, monkeypatch):
    failures = {"find": 1, "cat_file": 2}
    for name in failures:
        working = getattr(type(memory), name)

        def failing(self, *arguments, name=name, working=working, **options):
            failures[name] -= 1
            if failures[name] >= 0:
                raise ConnectionResetError("Connection reset by peer")
            return working(self, *arguments, **options)

        monkeypatch.setattr(type(memory), name, failing)
    monkeypatch.setattr(remote, "THREADS", 1)
    assert len(tree(mirror(url, tmp_path).fetch(progress=False))) == 6
    failures["cat_file"] = 100
    with pytest.raises(UserError, match=r"0.npy cannot be fetched \(Connection reset by peer\); rerun"):
        mirror(url, tmp_path / "other").fetch(progress=False)


def test_objects_that_change_meanwhile(url, memory, tmp_path, monkeypatch):
    counted, changes = memory.cat_file.__func__, [b"longer " * 999, b""]

    def changing(self, path, start=None, end=None, **kwargs):
        piece = counted(self, path, start, end, **kwargs)
        if path.endswith("1.npy") and changes:
            self.pipe(path, changes.pop())
        return piece

    monkeypatch.setattr(type(memory), "cat_file", changing)
    folder = mirror(url, tmp_path).fetch(progress=False)
    assert (folder / "sub" / "1.npy").read_bytes() == memory.cat(f"{url}/sub/1.npy")
    changes += [f"change {n}".encode() for n in range(9)]
    memory.pipe(f"{url}/sub/1.npy", b"once more")
    with pytest.raises(UserError, match="sub/1.npy of memory://.* is not what the store lists, after 3 tries"):
        mirror(url, tmp_path).fetch(progress=False)


def test_checksums_of_the_store_are_compared(url, memory, tmp_path, monkeypatch):
    find = type(memory).find

    def with_md5(self, *arguments, **options):
        return {path: {**entry, "md5Hash": "AAAA"} for path, entry in find(self, *arguments, **options).items()}

    monkeypatch.setattr(type(memory), "find", with_md5)
    with pytest.raises(UserError, match="is not what the store lists"):
        mirror(url, tmp_path).fetch(progress=False)
    assert tree(mirror(url, tmp_path).raw) == {}


def test_what_does_not_fit_is_not_begun(url, memory, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1500))
    with pytest.raises(UserError, match=r"kB of memory://.* are to be fetched, and .* has 1.5 kB free; set data.cache"):
        mirror(url, tmp_path).fetch(progress=False)
    assert fetched(memory) == []


def test_raw_files_may_go_once_decoded(url, memory, tmp_path, monkeypatch, capsys):
    first = build(url, tmp_path)
    first.prepare(progress=False)
    shutil.rmtree(first.settings.mirror.raw)
    memory.reads.clear()
    again = build(url, tmp_path)
    again.prepare(progress=False)
    assert again.notes() and again.clip_lengths("train").tolist() == first.clip_lengths("train").tolist()
    assert fetched(memory) == [] and not again.settings.mirror.raw.exists()
    build(url, tmp_path, fps=5.0).prepare(progress=False)
    assert len(fetched(memory)) == 6
    memory.rm(f"{url}/sub/5.npy")
    fewer = build(url, tmp_path)
    for _ in range(2):
        fewer.prepare(progress=False)
        assert sum(len(fewer.clip_lengths(split)) for split in fewer.splits) == 6
        assert any(f"1 of 6 files of folder are gone from {url} (sub/5.npy)" in note for note in fewer.notes())
    fewer.prune(progress=False)
    assert sum(len(fewer.clip_lengths(split)) for split in fewer.splits) == 5
    monkeypatch.setattr(type(memory), "find", lambda *_, **__: 1 / 0)
    build(url, tmp_path).prepare(progress=False)
    assert "the frames that were decoded earlier are used unchecked: data.root=memory://" in capsys.readouterr().out
    with pytest.raises(UserError, match="cannot be listed"):
        build(url, tmp_path, fps=6.0).prepare(progress=False)


def test_published_clips_are_read_without_their_objects(memory, tmp_path):
    layouts.write_mmnist_long(tmp_path / "raw", ".npy")
    memory.put(str(tmp_path / "raw"), "memory://long", recursive=True)
    settings = base.Settings(root="memory://long", cache=str(tmp_path / "cache"), image_size=(64, 64))
    for count in (6, 0, 0):
        dataset = registry.lookup("dataset", "mmnist_long")(dataclasses.replace(settings))
        dataset.prepare(progress=False)
        assert len(memory.reads) == count and not dataset.endless and len(dataset.clip_lengths("test")) == 2
        shutil.rmtree(dataset.settings.mirror.raw, ignore_errors=True)
        memory.reads.clear()


def test_generated_data_sets_find_their_files(memory, tmp_path):
    layouts.write_mnist(tmp_path / "mnist")
    memory.put(str(tmp_path / "mnist"), "memory://mnist", recursive=True)
    settings = base.Settings(root="memory://mnist", cache=str(tmp_path), image_size=(64, 64))
    dataset = registry.lookup("dataset", "moving_mnist")(settings)
    dataset.prepare(progress=False)
    assert any(str(tmp_path / "remote") in note for note in dataset.notes())
    frames = dataset.read("train", np.arange(4), np.zeros(4, np.int64), 2)["video"]
    assert 50 <= frames.max() < 90  # the values of the training digits that `layouts` writes


@pytest.mark.parametrize(
    "root, sentence",
    [
        ("memory://not/there", "data.root=memory://not/there holds nothing, or does not exist"),
        ("gs:/bucket/x", "write gs://bucket/x"),
        ("https://host/x", "is a web page, which lists no files"),
        ("nowhere://bucket", "fsspec has no driver for nowhere://"),
        ("s3://bucket/x", r"needs a driver for s3://.*; pip install 'tfvp\[remote\]'"),
    ],
)
def test_roots_that_cannot_be_read(root, sentence, tmp_path, monkeypatch, memory):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=sentence):
        build(root, tmp_path / "cache").prepare(progress=False)
    assert not (tmp_path / "cache").exists() and not (tmp_path / root.split("/")[0]).exists()


def test_fsspec_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UserError, match=r"gs://bucket needs fsspec and a driver .*pip install 'tfvp\[remote\]'"):
        build("gs://bucket", tmp_path).prepare(progress=False)


@pytest.mark.parametrize(
    "error", [PermissionError("Access Denied"), type("NoCredentialsError", (Exception,), {})("unable to locate them")]
)
def test_missing_credentials_are_not_tried_again(url, memory, tmp_path, monkeypatch, error):
    calls = []

    def refused(*_, **__):
        calls.append(1)
        raise error

    monkeypatch.setattr(type(memory), "find", refused)
    with pytest.raises(UserError, match="may not be read .*; give credentials as its driver expects them"):
        mirror(url, tmp_path).fetch(progress=False)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "names, sentence",
    [
        (["a/../b.npy"], "no possible name of a file"),
        (["a", "a/b.npy"], "holds a/b.npy below an object with the name of its folder"),
        ([""], "is one object"),
    ],
)
def test_objects_that_are_no_files(names, sentence, tmp_path, monkeypatch, memory):
    entries = {"/odd" + "/" * bool(name) + name: {"size": 1, "type": "file", "created": 1.0} for name in names}
    monkeypatch.setattr(type(memory), "find", lambda *_, **__: entries)
    with pytest.raises(UserError, match=sentence):
        mirror("memory://odd", tmp_path).fetch(progress=False)


def test_decoded_frames_stay_on_this_machine(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="data.cache=s3://bucket/cache is an object store"):
        build(raw, "s3://bucket/cache").prepare(progress=False)
    monkeypatch.setenv("TFVP_CACHE", "gs://bucket")
    with pytest.raises(UserError, match="TFVP_CACHE=gs://bucket is an object store"):
        build("memory://x", "").prepare(progress=False)
    assert not list(tmp_path.iterdir())


def test_the_journal_holds_what_is_there(url, memory, tmp_path):
    copy = mirror(url, tmp_path)
    copy.fetch(progress=False)
    memory.rm(f"{url}/sub/0.npy")
    mirror(url, tmp_path).fetch(progress=False)
    lines = (copy.folder / "objects.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["name"] for line in lines) == NAMES[1:]
    assert (copy.folder / "url.txt").read_text().strip() == url
