"""Long films in parts: the frames of one pass, shared among threads, and resumed inside a film."""

import fractions
import signal
import subprocess
import sys
import threading
import weakref

import av
import numpy as np
import pytest

from tests import golden, layouts
from tests.unit.test_shards import wait_for
from tfvp import registry, video_io, video_parts
from tfvp.datasets import base
from tfvp.pipeline import decoding
from tfvp.pipeline.decoding import Source

EVEN = np.arange(120) / 25
UNEVEN = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.2, 120))
OPEN = "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0"


def write_film(path, codec="libx264", times=EVEN, **options):
    """A film of 80x60 whose frames all differ, with key frames every 12 frames or so."""
    unit = fractions.Fraction(1, 25) if path.suffix == ".avi" else fractions.Fraction(1, 1000)
    noise = np.random.default_rng(0).integers(0, 30, (60, 80, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "12", **options})
        stream.height, stream.width = 60, 80
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = unit
        for i, time in enumerate(times):
            picture = np.full((60, 80, 3), 2 * i % 200, np.uint8)
            picture[10:30, i % 40 : i % 40 + 20] = 220
            frame = av.VideoFrame.from_ndarray(picture + noise * (i % 3 == 0), "rgb24")
            frame.pts, frame.time_base = round(time / unit), unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def whole(path, **options):
    return video_io.read_video(path, (30, 40), 1, **options)


FILMS = {
    "B-frames.mp4": ("libx264", EVEN, {"bf": "3"}),
    "uneven, B-frames.mp4": ("libx264", UNEVEN, {"bf": "3"}),
    "uneven, B-frames.mkv": ("libx264", UNEVEN, {"bf": "3"}),
    "B-frames.avi": ("mpeg4", EVEN, {"bf": "2"}),
    "open groups.mkv": ("libx265", EVEN, {"x265-params": OPEN + ":log-level=none"}),
    "pictures.avi": ("mjpeg", EVEN, {}),
    "uneven.webm": ("libvpx", UNEVEN, {}),
    "lossless.mkv": ("ffv1", UNEVEN, {}),
}


@pytest.mark.parametrize("name", FILMS)
def test_parts_are_the_film(tmp_path, name):
    codec, times, options = FILMS[name]
    path = write_film(tmp_path / name, codec, times, **options)
    parts = video_parts.divide(path, 20)
    assert 4 <= len(parts) <= 6 and [part.number for part in parts] == list(range(len(parts)))
    assert sum(part.frames for part in parts) == 120
    for fps in (0, 10, 60, 7.3):
        one = whole(path, fps=fps)
        many = [piece for p in parts for piece in video_io.iterate_video(path, (30, 40), 1, fps=fps, part=p)]
        np.testing.assert_array_equal(np.concatenate(many), one)


def test_images_and_arrays_are_divided_evenly(tmp_path):
    clip = layouts.marked_clip(3, 50)
    np.save(tmp_path / "array.npy", clip)
    for t, frame in enumerate(clip):
        video_io.write_video(tmp_path / "images" / f"{t}.png", frame[None])
    for name in ("array.npy", "images"):
        parts = video_io.divide(tmp_path / name, 20)
        assert [part.frames for part in parts] == [20, 20, 10]
        read = [piece for part in parts for piece in video_io.iterate_video(tmp_path / name, part=part)]
        np.testing.assert_array_equal(np.concatenate(read), clip)
        assert video_io.divide(tmp_path / name, 50) == []


def test_what_cannot_be_divided(tmp_path):
    assert video_parts.divide(write_film(tmp_path / "open.mp4", **{"x264-params": OPEN}), 20) == []
    path = write_film(tmp_path / "short.mp4")
    assert video_parts.divide(path, 120) == []
    path.write_bytes(path.read_bytes()[:-100])
    assert video_parts.divide(path, 20) == []
    cut = write_film(tmp_path / "cut.mkv")
    cut.write_bytes(layouts.truncated(cut.read_bytes(), 0.9))
    assert video_parts.divide(cut, 20) == []


@pytest.fixture
def tiny(monkeypatch):
    """Parts of 20 frames, and shards of about twice as many."""
    monkeypatch.setattr(decoding, "PART_FRAMES", 20)
    monkeypatch.setattr(decoding, "SHARD_BYTES", 40 * 30 * 40)
    monkeypatch.setattr(decoding, "PARTS_PER_SHARD", 2)


def folder(root, **options):
    dataset = registry.lookup("dataset", "folder")(
        base.Settings(str(root), image_size=(30, 40)), **{"resize": "area", "validation_fraction": 0.0, **options}
    )
    for split in ("train", "test"):
        (root / split).mkdir(exist_ok=True)
    return dataset


def clips(dataset):
    dataset.prepare(progress=False)
    return {
        name: dataset.read(split, np.array([i]), np.array([0]), int(length))["video"][0]
        for split in ("train", "test")
        for i, (name, length) in enumerate(zip(dataset.store.clip_names(split), dataset.clip_lengths(split)))
    }


@pytest.fixture
def films(tmp_path):
    for i, name in enumerate(("train/a.mp4", "train/b.mkv", "test/c.mp4")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_film(tmp_path / name, times=(EVEN, UNEVEN, EVEN[:50])[i])
    return tmp_path


@pytest.mark.parametrize("fps", [0.0, 10.0])
def test_a_divided_film_is_one_clip(films, tiny, fps):
    dataset = folder(films, fps=fps)
    read = clips(dataset)
    for name, video in read.items():
        np.testing.assert_array_equal(video, whole(films / name, fps=fps))
    assert len(read) == 3
    divided = {clip["name"]: clip["pieces"] for clip in dataset.store.manifest["clips"] if "pieces" in clip}
    assert len(divided["train/a.mp4"]) >= 4 and len({shard for shard, *_ in divided["train/a.mp4"]}) > 1
    n = dataset.store.clip_names("train").index("train/a.mp4")
    starts = np.arange(0, len(read["train/a.mp4"]) - 21, 3)
    windows = dataset.read("train", np.full(len(starts), n), starts, 11, 2)["video"]
    np.testing.assert_array_equal(windows, [read["train/a.mp4"][s : s + 21 : 2] for s in starts])


def test_several_threads_share_one_film(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 3)
    together = threading.Barrier(3, timeout=30)
    (tmp_path / "train").mkdir()
    write_film(tmp_path / "train" / "a.mp4")
    dataset = folder(tmp_path)
    source, first = Source("a", "train", tmp_path / "train" / "a.mp4"), threading.local()

    def meeting(source):
        if not hasattr(first, "met"):  # goes on only once three threads are at work in the film
            first.met = together.wait()
        yield from dataset.decode(source)

    dataset.store.prepare([source], meeting, progress=False, parts=dataset.divided)
    video = dataset.read("train", np.array([0]), np.array([0]), 120)["video"][0]
    np.testing.assert_array_equal(video, whole(source.path))


def test_an_interrupted_film_is_resumed_inside(films, tiny, monkeypatch):
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)
    decoded, dataset = [], folder(films)
    original = type(dataset).decode

    def watched(self, source):
        decoded.append((source.name, source.part.number if source.part else None))
        if decoded[-1] == ("train/b.mkv", 3) and len(decoded) == len(set(decoded)):
            raise KeyboardInterrupt
        yield from original(self, source)

    monkeypatch.setattr(type(dataset), "decode", watched)
    with pytest.raises(KeyboardInterrupt, match="kept"):
        dataset.prepare(progress=False)
    assert len(decoded) >= 8, "the film before it was decoded"
    read = clips(folder(films))
    assert decoded.count(("train/b.mkv", 3)) == 2
    assert all(decoded.count(part) == 1 for part in decoded if part != ("train/b.mkv", 3))
    for name, video in read.items():
        np.testing.assert_array_equal(video, whole(films / name))


CHILD = """
import pathlib, sys, time
sys.path.insert(0, {repository!r})
import numpy as np
from tfvp import video_io, video_parts
from tfvp.pipeline import decoding, shards
decoding.os.cpu_count = lambda: 1
decoding.PART_FRAMES, decoding.SHARD_SECONDS = 20, 0
root = pathlib.Path({root!r})

def decode(source):
    with open(root / "log", "a") as log:
        log.write(f"{{source.part.number}}\\n")
    time.sleep({seconds})
    for piece in video_io.iterate_video(source.path, (30, 40), 1, part=source.part):
        yield source.name, {{"video": piece}}

store = shards.Store(root / "shards", {{"dataset": "film"}}, {{"video": (np.uint8, (30, 40, 1))}})
sources = [decoding.Source("film", "train", root / "film.mp4")]
store.prepare(sources, decode, progress=False, parts=lambda s, frames: video_parts.divide(s.path, frames))
np.save(root / "read.npy", store.read("train", np.array([0]), np.array([0]), 120)["video"][0])
"""


def test_a_killed_preparation_is_resumed_inside_the_film(tmp_path):
    count = len(video_parts.divide(write_film(tmp_path / "film.mp4"), 20))

    def child(seconds):
        code = CHILD.format(repository=str(golden.ROOT), root=str(tmp_path), seconds=seconds)
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def log():
        return (tmp_path / "log").read_text().split() if (tmp_path / "log").exists() else []

    killed = child(0.5)
    wait_for(lambda: len(log()) >= 3 or killed.poll() is not None, 60)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = log()
    assert 3 <= len(before) < count
    again = child(0.0)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    # At most the part that was in work is decoded a second time.
    assert log()[len(before) :] == [str(n) for n in range(len(before) - 1, count)]
    np.testing.assert_array_equal(np.load(tmp_path / "read.npy"), whole(tmp_path / "film.mp4"))


def test_a_film_that_seems_divisible_is_decoded_in_one_pass(tmp_path, tiny):
    (tmp_path / "train").mkdir()
    write_film(tmp_path / "train" / "b.mkv", times=EVEN[:10])
    path = write_film(tmp_path / "train" / "a.mkv", **{"x264-params": "intra-refresh=1:keyint=12:bframes=0"})
    assert video_parts.divide(path, 20)
    dataset = folder(tmp_path)
    np.testing.assert_array_equal(clips(dataset)["train/a.mkv"], whole(path))
    assert "pieces" not in dataset.store.manifest["clips"][0]


def test_a_damaged_film_is_used_up_to_the_damage(films, tiny):
    path = films / "train" / "a.mp4"
    with av.open(str(path)) as container:
        bad = [packet for packet in container.demux(video=0) if packet.size][70]
        place = bad.pos
    content = bytearray(path.read_bytes())
    content[place : place + bad.size] = bytes(bad.size)
    before = whole(path)
    path.write_bytes(content)
    dataset = folder(films)
    read = clips(dataset)["train/a.mp4"]
    assert 40 < len(read) < 75
    np.testing.assert_array_equal(read, before[: len(read)])
    assert list(dataset.store.manifest["truncated"]) == ["train/a.mp4"]


def test_shards_are_finished_after_a_while(films, monkeypatch):
    monkeypatch.setattr(decoding, "SHARD_SECONDS", 0)
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)
    dataset = folder(films)
    dataset.prepare(progress=False)
    assert len(dataset.store.manifest["shards"]) == 3


def test_segments_hold_little_of_the_film():
    alive, most = [], 0

    class Piece(np.ndarray):
        """Arrays of this class can be referred to weakly."""

    def pieces():
        for i in range(0, 1000, 10):
            nonlocal most
            piece = np.arange(i, i + 10).view(Piece)
            alive.append(weakref.ref(piece))
            most = max(most, sum(reference() is not None for reference in alive))
            yield piece
            del piece

    segments = ((5, 25), (15, 40), (30, 35), (400, 420), (990, 1010), (2000, 2010))
    source = Source("a", "train", None, segments=segments)
    cut = {name: np.asarray(frames).tolist() for name, frames in decoding.in_segments(source, pieces())}
    assert cut == {f"a#{a + 1}-{b}": list(range(a, min(b, 1000))) for a, b in segments[:-1]}
    assert 1 < most < 10


def test_a_recording_of_caltech_is_streamed(tmp_path):
    (tmp_path / "caltech" / "set06").mkdir(parents=True)
    clip = np.tile(layouts.marked_clip(0, 50, 48, 64), (6, 1, 1, 1))
    layouts.write_seq(tmp_path / "caltech" / "set06" / "V000.seq", clip, 8)
    video_io.write_video(tmp_path / "caltech" / "set06" / "V001.avi", clip, 30, "mjpeg")
    dataset = registry.lookup("dataset", "kitti_caltech")(base.Settings(str(tmp_path), image_size=(32, 40)))
    for source in dataset.sources():
        pieces = [piece["video"] for _, piece in dataset.decode(source)]
        assert sum(map(len, pieces)) == 100 and max(map(len, pieces)) < 20
        expected = np.tile(np.arange(50), 6)[2::3]
        np.testing.assert_array_equal(layouts.marks(np.concatenate(pieces))[1], expected)
