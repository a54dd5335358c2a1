"""What is damaged and what is not: variable rates, files that end early, errors that pass, too many losses."""

import errno
import fractions
import os
import shutil

import av
import numpy as np
import pytest

from tests import layouts
from tests.unit.test_shards import SHAPE, assert_holds, decode, prepared, raw_files, store_in
from tfvp import registry, video_io
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import decoding

MILLISECOND = fractions.Fraction(1, 1000)
VARIABLE = {
    "uneven": np.cumsum(np.random.default_rng(0).uniform(0.01, 0.3, 60)),
    "slower": np.r_[np.arange(30) / 30, 1 + np.arange(30)],
    "pause at the end": np.r_[np.arange(59) / 30, 9.0],
}


def write_timed(path, codec, times):
    """A film whose frame number i is shown at times[i] seconds, in the middle grey of 4 * i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = round(time * 1000), MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("name, codec", [("a.mkv", "libx264"), ("a.mkv", "mpeg4"), ("a.webm", "libvpx")])
@pytest.mark.parametrize("times", VARIABLE.values(), ids=VARIABLE)
def test_films_of_variable_rate_are_whole(tmp_path, name, codec, times):
    write_timed(tmp_path / name, codec, times)
    video = video_io.read_video(tmp_path / name, channels=1)
    np.testing.assert_allclose(video.mean((1, 2, 3)), 4 * np.arange(60), atol=6)
    content = (tmp_path / name).read_bytes()
    for fraction in (0.8, 0.5):
        (tmp_path / name).write_bytes(layouts.truncated(content, fraction))
        with pytest.raises(UserError, match=r"truncated.* promises [\d.]+ seconds, its \d+ frames end after"):
            video_io.read_video(tmp_path / name)


def test_sound_may_go_on_after_the_pictures(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=25), container.add_stream("aac", rate=48_000, layout="mono")
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        for second in range(3):
            for i in range(25 if second < 2 else 0):
                picture = np.full((48, 64, 3), 5 * i, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            for i in range(48):
                sound = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
                sound.rate, sound.pts = 48_000, (second * 48 + i) * 1000
                container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    assert len(video_io.read_video(path)) == 50
    path.write_bytes(layouts.truncated(path.read_bytes(), 0.6))
    with pytest.raises(UserError, match="truncated"):
        video_io.read_video(path)


def test_what_comes_before_the_damage_is_read(tmp_path):
    video_io.write_video(tmp_path / "a.avi", layouts.marked_clip(0, 60), 30, "ffv1")
    (tmp_path / "a.avi").write_bytes(layouts.truncated((tmp_path / "a.avi").read_bytes(), 0.7))
    for fps, step in ((0, 1), (10, 3)):
        pieces, frames = video_io.iterate_video(tmp_path / "a.avi", fps=fps, chunk=7), []
        with pytest.raises(UserError, match="truncated"):
            for piece in pieces:
                frames += layouts.marks(piece)[1].tolist()
        assert 30 < len(frames) * step < 50 and frames == list(range(0, frames[-1] + 1, step))


def test_published_files_that_end_early_are_refused(tmp_path):
    layouts.write_train_test(tmp_path, "minerl", suffix=".avi")
    bad = tmp_path / "minerl" / "train" / "3.avi"
    bad.write_bytes(layouts.truncated(bad.read_bytes(), 0.8))
    dataset = registry.lookup("dataset", "minerl")(base.Settings(root=str(tmp_path), channels=3))
    dataset.prepare(progress=False)
    assert "truncated" in dataset.store.manifest["unreadable"]["minerl/train/3.avi"]
    assert sum(len(dataset.clip_lengths(split)) for split in dataset.splits) == 7


def stale():
    return OSError(errno.ESTALE, "Stale file handle")


def too_many():
    return av.error.OSError(errno.EMFILE, "Too many open files")


def hidden():
    error = UserError("1.avi is damaged, truncated or not a video (Input/output error)")
    error.__cause__ = OSError(errno.EIO, "Input/output error")
    return error


PASSING = {"ESTALE": stale, "EMFILE": too_many, "EIO below": hidden, "memory": MemoryError, "parser": SystemError}


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING)
def test_errors_that_pass_are_no_damage(tmp_path, monkeypatch, error):
    monkeypatch.setattr(decoding, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    sources, left = raw_files(tmp_path / "raw"), {"failures": 10, "decoded": []}

    def failing(source):
        left["decoded"].append(source.name)
        frames = decode(source)
        yield next(frames)
        if source.name == "1.avi" and left["failures"]:
            left["failures"] -= 1
            raise error()
        yield from frames

    # Four attempts are not enough; what is decoded is kept, and nothing is said to be damaged.
    with pytest.raises(UserError, match=r"1\.avi cannot be read at the moment.*4 times.*repeat the same command"):
        prepared(tmp_path, sources, failing)
    assert left["failures"] == 6 and not list(tmp_path.glob("shards-*/manifest.json"))
    before, left["decoded"], left["failures"] = set(left["decoded"]) - {"1.avi"}, [], 3
    # The fourth attempt succeeds, without what the ones before it had yielded.
    store = prepared(tmp_path, sources, failing)
    assert left["decoded"].count("1.avi") == 4 and before.isdisjoint(left["decoded"])
    assert store.manifest["unreadable"] == {}
    assert_holds(store, "train", [0, 1, 3, 4])


def test_files_that_vanish_are_no_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "PAUSES", (0,))
    sources = raw_files(tmp_path / "raw")
    store = store_in(tmp_path / "shards")

    def vanishing(source):
        if source.name == "4.avi":
            source.path.unlink(missing_ok=True)
        return decode(source)

    with pytest.raises(UserError, match=r"4\.avi cannot be read at the moment"):
        store.prepare(sources, vanishing, progress=False)
    assert not list(tmp_path.glob("shards-*/manifest.json"))


def test_what_ffmpeg_calls_an_input_error_of_a_readable_file_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "PAUSES", (60,))

    def damaged(source):
        if source.name == "1.avi":
            raise av.error.OSError(errno.EIO, "Input/output error")
        return decode(source)

    store = prepared(tmp_path, raw_files(tmp_path / "raw"), damaged)
    assert list(store.manifest["unreadable"]) == ["1.avi"]


def test_single_videos_are_not_called_damaged(tmp_path, monkeypatch):
    video_io.write_video(tmp_path / "a.avi", layouts.marked_clip(0, 5), 30, "ffv1")

    def failing(*_, **__):
        raise too_many()

    monkeypatch.setattr(av, "open", failing)
    with pytest.raises(UserError, match=r"a\.avi cannot be read at the moment \(Too many open files\); try again"):
        video_io.read_video(tmp_path / "a.avi")


def test_too_many_losses_stop_the_preparation(tmp_path):
    for n in range(200):
        np.save(tmp_path / f"{n}.npy", np.full((4, *SHAPE), n, np.uint8))

    def damage(*numbers):
        for n in numbers:
            (tmp_path / f"{n}.npy").write_bytes(b"")

    def folder(**settings):
        dataset = registry.lookup("dataset", "folder")(base.Settings(str(tmp_path), image_size=SHAPE[:2], **settings))
        dataset.prepare(progress=False)
        return dataset

    damage(7, 9)
    assert len(folder().store.manifest["unreadable"]) == 2  # 1 %
    damage(11)
    with pytest.raises(
        UserError, match=r"3 of 200 files .*11\.npy.*7\.npy.*9\.npy.*data\.max_damaged=0\.015"
    ) as caught:
        folder()
    assert "1.5%" in str(caught.value)
    with pytest.raises(UserError, match="3 of 200 files"):  # not only the first time
        folder()
    dataset = folder(max_damaged=0.015)
    assert sum(len(dataset.clip_lengths(split)) for split in dataset.splits) == 197
    # Short videos are not damaged.
    for n in range(20, 30):
        np.save(tmp_path / f"{n}.npy", np.zeros((1, *SHAPE), np.uint8))
    dataset = folder(max_damaged=0.015)
    assert len(dataset.store.manifest["excluded"]) == 10 and any("10 of 200 files" in n for n in dataset.notes())


def test_a_file_that_ends_early_is_named_under_its_other_names(tmp_path):
    raw, copy = tmp_path / "raw", tmp_path / "copy"
    layouts.write_folder(raw, [f"{i}.avi" for i in range(4)], frames=20)
    (raw / "1.avi").write_bytes(layouts.truncated((raw / "1.avi").read_bytes(), 0.6))

    def noted(root):
        settings = base.Settings(str(root), cache=str(tmp_path / "cache"), image_size=SHAPE[:2])
        dataset = registry.lookup("dataset", "folder")(settings)
        dataset.prepare(progress=False)
        return [note for note in dataset.notes() if "end early" in note]

    (first,) = noted(raw)
    assert "1.avi (" in first and " of 21 frames)" in first
    (raw / "1.avi").rename(raw / "9.avi")
    assert noted(raw) == [first.replace("1.avi", "9.avi")]
    shutil.copytree(raw, copy)
    (copy / "9.avi").rename(copy / "5.avi")
    assert noted(copy) == [first.replace("1.avi", "5.avi")]
