"""Decoding into shards: exact, resumable, one process at a time, and nothing damaged slips in."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests import golden, layouts
from tfvp import files, video_io
from tfvp.errors import UserError
from tfvp.pipeline import decoding, shard_files, shards
from tfvp.pipeline.decoding import Source

SHAPE = (6, 8, 1)


def raw_files(root, count=6, frames=20):
    """Lossless files and their sources; clip n has frames + n frames."""
    root.mkdir(exist_ok=True)
    for n in range(count):
        video_io.write_video(root / f"{n}.avi", layouts.marked_clip(n, frames + n, *SHAPE[:2]), 25, "ffv1")
    return sources_of(root)


def sources_of(root):
    paths = sorted(root.glob("*.avi"), key=video_io.natural_key)
    return [Source(p.name, "test" if i % 3 == 2 else "train", p) for i, p in enumerate(paths)]


def decode(source):
    for piece in video_io.iterate_video(source.path, channels=1, chunk=7):
        yield source.name, {"video": piece}


def store_in(folder, **settings):
    return shards.Store(folder, {"dataset": "toy", **settings}, {"video": (np.uint8, SHAPE)})


def prepared(tmp_path, sources, decode=decode):
    store = store_in(tmp_path / "shards")
    store.prepare(sources, decode, progress=False)
    return store


def whole_clips(store, split):
    return [
        store.read(split, np.array([i]), np.array([0]), int(length))["video"][0]
        for i, length in enumerate(store.clip_lengths(split))
    ]


def assert_holds(store, split, numbers, frames=20):
    assert store.clip_names(split) == [f"{n}.avi" for n in numbers]
    for number, clip in zip(numbers, whole_clips(store, split)):
        np.testing.assert_array_equal(clip, layouts.marked_clip(number, frames + number, *SHAPE[:2]))


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(decoding, "SHARD_BYTES", 45 * int(np.prod(SHAPE)))


def test_frames_come_back_exactly(tmp_path, small_shards):
    store = prepared(tmp_path, raw_files(tmp_path / "raw"))
    assert_holds(store, "train", [0, 1, 3, 4])
    assert_holds(store, "test", [2, 5])
    assert len(store.clip_lengths("validation")) == 0
    store.check(progress=False)


def test_windows_are_cut_where_they_should_be(tmp_path, small_shards):
    store = prepared(tmp_path, raw_files(tmp_path / "raw"))
    clips, starts = np.array([3, 0, 3, 1]), np.array([2, 0, 9, 5])
    video = store.read("train", clips, starts, 5, stride=3)["video"]
    numbers, frames = layouts.marks(video)
    assert numbers.tolist() == [[n] * 5 for n in (4, 0, 4, 1)]
    np.testing.assert_array_equal(frames, starts[:, None] + np.arange(5) * 3)


def test_the_manifest_says_it_all(tmp_path, small_shards):
    store = prepared(tmp_path, raw_files(tmp_path / "raw"))
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert manifest["format"] == shards.FORMAT and manifest["counts"] == {"train": 4, "test": 2}
    assert manifest["frames"] == sum(20 + n for n in range(6)) == sum(s["frames"] for s in manifest["shards"])
    assert len(manifest["shards"]) > 1
    for shard in manifest["shards"]:
        file = store.folder / shard["files"]["video"]["name"]
        array = np.load(file)
        assert array.dtype == np.uint8 and array.shape == (shard["frames"], *SHAPE)
        assert files.sha256(file) == shard["files"]["video"]["sha256"]
        for clip in manifest["clips"]:
            if clip["shard"] == shard["name"]:
                part = array[clip["offset"] : clip["offset"] + clip["length"]]
                assert (layouts.marks(part)[0] == int(clip["source"].split(".")[0])).all()


def test_other_settings_get_another_folder(tmp_path):
    folders = {store_in(tmp_path / "s", size=size).folder for size in (32, 64, 128)}
    assert len(folders) == 3 and store_in(tmp_path / "s", size=32).folder in folders


def test_a_second_time_decodes_nothing(tmp_path):
    sources = raw_files(tmp_path / "raw")
    store = prepared(tmp_path, sources)
    before = {p.name: p.stat().st_mtime_ns for p in store.folder.glob("[!.]*")}
    again = prepared(tmp_path, sources, decode=None)
    assert {p.name: p.stat().st_mtime_ns for p in again.folder.glob("[!.]*")} == before


def test_only_what_changed_is_decoded_again(tmp_path, small_shards):
    sources = raw_files(tmp_path / "raw")
    prepared(tmp_path, sources)
    video_io.write_video(tmp_path / "raw" / "1.avi", layouts.marked_clip(9, 15, *SHAPE[:2]), 25, "ffv1")
    (tmp_path / "raw" / "5.avi").unlink()
    decoded = []

    def watched(source):
        decoded.append(source.name)
        return decode(source)

    store = prepared(tmp_path, sources_of(tmp_path / "raw"), watched)
    assert decoded == ["1.avi"]
    assert store.clip_names("train") == ["0.avi", "1.avi", "3.avi", "4.avi"]
    assert store.clip_lengths("train").tolist() == [20, 15, 23, 24]
    assert (layouts.marks(whole_clips(store, "train")[1])[0] == 9).all()
    names = {clip["shard"] for clip in store.manifest["clips"]}
    assert {p.name.split(".")[0] for p in store.folder.glob("shard-*.npy")} >= names


def test_shards_outlive_the_raw_files(tmp_path):
    prepared(tmp_path, raw_files(tmp_path / "raw"))
    assert_holds(prepared(tmp_path, [], decode=None), "test", [2, 5])


def test_truncated_files_among_good_ones(tmp_path, small_shards):
    sources = raw_files(tmp_path / "raw", frames=30)
    for name in ("1.avi", "2.avi"):
        path = tmp_path / "raw" / name
        path.write_bytes(layouts.truncated(path.read_bytes(), 0.8))
    store = prepared(tmp_path, sources)
    assert set(store.manifest["unreadable"]) == {"1.avi", "2.avi"}
    assert all(name in reason for name, reason in store.manifest["unreadable"].items())
    assert_holds(store, "train", [0, 3, 4], frames=30)
    assert_holds(store, "test", [5], frames=30)
    assert store.manifest["frames"] == sum(s["frames"] for s in store.manifest["shards"]) == 30 + 33 + 34 + 35


def test_nothing_readable_is_an_error(tmp_path):
    sources = raw_files(tmp_path / "raw", 3)
    for source in sources:
        source.path.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 3 files"):
        prepared(tmp_path, sources)
    assert not list((tmp_path).glob("shards-*/manifest.json"))


def test_interruption_keeps_what_is_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    sources, decoded = raw_files(tmp_path / "raw"), []

    def interrupted(source):
        for piece in decode(source):
            yield piece
            if source.name == "3.avi":
                raise KeyboardInterrupt

    def watched(source):
        decoded.append(source.name)
        return decode(source)

    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, sources, interrupted)
    assert not list(tmp_path.glob("shards-*/manifest.json"))
    assert not list(tmp_path.glob("shards-*/.*.tmp*"))
    store = prepared(tmp_path, sources, watched)
    assert decoded == ["3.avi", "4.avi", "5.avi"]
    assert_holds(store, "train", [0, 1, 3, 4])
    store.check(progress=False)


CHILD = """
import os, pathlib, sys, time
sys.path.insert(0, {repository!r})
os.cpu_count = lambda: 1
from tests.unit import test_shards as t
t.decoding.SHARD_BYTES = 1
root = pathlib.Path({root!r})

with open(root / "ready", "a") as ready:
    ready.write("x")
while {together} > (root / "ready").stat().st_size:
    time.sleep(0.01)

def slow(source):
    with open(root / "log", "a") as log:
        log.write(f"{{os.getpid()}} {{source.name}}\\n")
    time.sleep({seconds})
    yield from t.decode(source)

store = t.store_in(root / "shards")
store.prepare(t.sources_of(root / "raw"), slow, progress=False)
t.assert_holds(store, "train", [0, 1, 3, 4])
"""


def child(root, seconds, together=1):
    """A process that prepares the shards once `together` of them are ready to."""
    code = CHILD.format(repository=str(golden.ROOT), root=str(root), seconds=seconds, together=together)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def log_lines(root):
    path = root / "log"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_process_is_taken_over(tmp_path):
    raw_files(tmp_path / "raw")
    killed = child(tmp_path, 0.3)
    wait_for(lambda: len(log_lines(tmp_path)) >= 3 or killed.poll() is not None)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    first = [line.split()[1] for line in log_lines(tmp_path)]
    assert len(first) < 6 and not list(tmp_path.glob("shards-*/manifest.json"))
    second = child(tmp_path, 0.0)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    again = [line.split()[1] for line in log_lines(tmp_path)[len(first) :]]
    # Two shards were renamed before the kill; at most the file in work was lost.
    assert again == sorted(set(f"{n}.avi" for n in range(6)) - set(first[:-1]))
    assert not list(tmp_path.glob("shards-*/.*.tmp*"))


@pytest.mark.slow
def test_processes_wait_for_each_other(tmp_path):
    raw_files(tmp_path / "raw")
    children = [child(tmp_path, 0.1, together=3) for _ in range(3)]
    outputs = [c.communicate(timeout=60)[0] for c in children]
    assert [c.returncode for c in children] == [0, 0, 0], outputs
    lines = log_lines(tmp_path)
    assert sorted(line.split()[1] for line in lines) == [f"{n}.avi" for n in range(6)], "a file was decoded twice"
    assert len({line.split()[0] for line in lines}) == 1
    assert sum("waiting for another process" in output for output in outputs) >= 1


@pytest.mark.parametrize("damage", ["shorter", "gone", "other bytes"])
def test_damaged_shards_are_noticed(tmp_path, damage):
    sources = raw_files(tmp_path / "raw")
    prepared(tmp_path, sources)
    file = next(tmp_path.glob("shards-*/*.npy"))
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    store = store_in(tmp_path / "shards")
    if damage == "other bytes":
        file.write_bytes(content)
        with pytest.raises(UserError, match="sha256"):
            store.check(progress=False)
        return
    file.write_bytes(content[:-5]) if damage == "shorter" else file.unlink()
    with pytest.raises(UserError, match="incomplete"):
        store.clip_lengths("train")
    store.prepare(sources, decode, progress=False)
    assert_holds(store, "train", [0, 1, 3, 4])
    store.check(progress=False)


def test_reading_before_preparing(tmp_path):
    with pytest.raises(UserError, match="prepare"):
        store_in(tmp_path / "shards").clip_lengths("train")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="data.cache"):
        store_in(tmp_path / "file" / "shards").prepare(raw_files(tmp_path / "raw"), decode, progress=False)


def test_a_full_disk(tmp_path, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_files.ShardWriter, "finish", full)
    with pytest.raises(UserError, match="No space left"):
        prepared(tmp_path, raw_files(tmp_path / "raw"))


def test_threads_read_the_same(tmp_path, small_shards):
    store = prepared(tmp_path, raw_files(tmp_path / "raw"))
    rng = np.random.default_rng(0)
    clips, starts = rng.integers(0, 4, (40, 8)), rng.integers(0, 15, (40, 8))
    expected = [prepared(tmp_path, []).read("train", c, s, 5)["video"] for c, s in zip(clips, starts)]
    results = [None] * 40

    def work(begin):
        for i in range(begin, 40, 4):
            results[i] = store.read("train", clips[i], starts[i], 5)["video"]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    np.testing.assert_array_equal(results, expected)


def test_labels_and_actions_lie_beside_the_video(tmp_path):
    arrays = {"video": (np.uint8, SHAPE), "labels": (np.uint8, SHAPE[:2]), "actions": (np.float32, (4,))}
    store = shards.Store(tmp_path / "shards", {"dataset": "toy"}, arrays)

    def with_more(source):
        for name, pieces in decode(source):
            yield (
                name,
                {
                    "video": pieces["video"],
                    "labels": pieces["video"][..., 0] // 4,
                    "actions": np.repeat(pieces["video"][:, -1, -1].astype(np.float32) / 8, 4, axis=-1),
                },
            )

    store.prepare(raw_files(tmp_path / "raw"), with_more, progress=False)
    read = store.read("test", np.array([1, 0]), np.array([3, 7]), 4, stride=2)
    np.testing.assert_array_equal(read["labels"], read["video"][..., 0] // 4)
    np.testing.assert_array_equal(read["actions"][..., 2], read["video"][..., -1, -1, 0] / np.float32(8))
    assert read["actions"].dtype == np.float32


def test_a_decoder_that_breaks_its_word_is_a_defect(tmp_path):
    def wrong(source):
        yield source.name, {"video": np.zeros((2, 3, 3, 1), np.uint8)}

    with pytest.raises(ValueError, match="0.avi"):
        prepared(tmp_path, raw_files(tmp_path / "raw", 1), wrong)
