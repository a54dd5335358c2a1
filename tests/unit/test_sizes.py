"""The space that decoded frames take is said before it is taken."""

import collections

import av
import numpy as np
import pytest

from tests import layouts
from tests.unit.test_shard_cache import folder_of
from tfvp import registry, video_io
from tfvp.datasets import base, kitti_caltech
from tfvp.errors import UserError
from tfvp.pipeline import sizes, tfrecords
from tfvp.pipeline.decoding import Source

Usage = collections.namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """A function that sets how many bytes are free."""
    return lambda count: monkeypatch.setattr(sizes.shutil, "disk_usage", lambda folder: Usage(0, 0, count))


@pytest.mark.parametrize("name, codec", [("a.avi", "ffv1"), ("a.avi", "mjpeg"), ("a.mp4", None), ("a.gif", None)])
def test_headers_say_how_many_frames_there_are(tmp_path, name, codec):
    video_io.write_video(tmp_path / name, layouts.marked_clip(1, 37), 10, codec)
    assert sizes.frames_in(tmp_path / name) == 37
    if codec:
        assert sizes.frames_in(tmp_path / name, fps=5.0) in (18, 19)


def test_a_header_without_a_count_has_a_duration(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 32, 24
        for frame in np.repeat(layouts.marked_clip(1, 37), 3, axis=-1):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    assert sizes.frames_in(tmp_path / "a.mkv") == 37


def test_folders_arrays_and_damaged_files(tmp_path):
    layouts.write_folder(tmp_path, ["images", "b.npy"], frames=9)
    assert (sizes.frames_in(tmp_path / "images"), sizes.frames_in(tmp_path / "b.npy")) == (9, 10)
    np.savez(tmp_path / "d.npz", video=layouts.marked_clip(1, 11), others=np.zeros(3))
    assert sizes.frames_in(tmp_path / "d.npz") == 11
    (tmp_path / "c.avi").write_bytes(b"broken")
    assert sizes.frames_in(tmp_path / "c.avi") is None and sizes.frames_in(tmp_path / "gone.mp4") is None


def test_many_files_are_estimated_from_some(tmp_path):
    sources = []
    for n in range(500):
        path = tmp_path / f"{n}.bin"
        path.write_bytes(bytes(100 + n))
        sources.append(Source(path.name, "train", path))
    asked = []

    def count(source):
        asked.append(source)
        return source.path.stat().st_size * 3 if int(source.path.stem) % 2 == 0 else None

    frames = sizes.estimate(sources, count)
    assert frames == pytest.approx(3 * sum(100 + n for n in range(500)), rel=0.01) and len(asked) <= sizes.SAMPLED
    assert sizes.estimate(sources, lambda source: None) is None and sizes.estimate([], count) is None
    assert sizes.estimate(sources[:20], lambda source: 7) == 140


def test_the_estimate_stands_beside_the_free_space(tmp_path, free, capsys):
    layouts.write_folder(tmp_path, [f"{n}.npy" for n in range(4)], frames=10)  # 10 + 11 + 12 + 13 frames
    free(5_000_000_000)
    dataset = folder_of(tmp_path)
    dataset.prepare(progress=True)
    said = " ".join(capsys.readouterr().out.split())
    assert f"decoding 4 files of folder into {dataset.store.folder}: about 35.3 kB; 5.0 GB are free" in said
    folder_of(tmp_path).prepare(progress=True)
    assert "decoding" not in capsys.readouterr().out


def test_what_cannot_fit_is_refused_before_it_is_decoded(tmp_path, free, monkeypatch):
    layouts.write_folder(tmp_path, [f"{n}.npy" for n in range(4)], frames=10)
    free(20_000)
    dataset = folder_of(tmp_path)
    monkeypatch.setattr(dataset, "decode", None)
    with pytest.raises(UserError, match=r"decode to about 35.3 kB \(46 frames\), but .* has 20.0 kB free.*lossless"):
        dataset.prepare(progress=False)
    settings = base.Settings(root=str(tmp_path), image_size=(24, 32), storage="lossless")
    registry.lookup("dataset", "folder")(settings).prepare(progress=False)
    free(34_000)  # the estimate may be a little too high
    folder_of(tmp_path).prepare(progress=False)


@pytest.mark.parametrize("layout", ["zips", "folders"])
def test_archives_are_looked_into(tmp_path, layout):
    layouts.write_kth(tmp_path, layout)
    dataset = registry.lookup("dataset", "kth")(base.Settings(root=str(tmp_path), image_size=(16, 16)))
    persons = (1, 2, 16, 17, 18, 20, 21, 25)
    assert sizes.estimate(dataset.sources(), dataset.frames_in) == sum(30 + person for person in persons)


@pytest.mark.parametrize(
    "name, write, size",
    [
        ("cityscapes", layouts.write_cityscapes, (8, 16)),
        ("bair", lambda root: layouts.write_bair(root, "records"), (64, 64)),
        ("mazes", lambda root: layouts.write_tfds(root, "gqn_mazes"), (16, 16)),
        ("kitti_caltech", layouts.write_kitti_caltech, (8, 10)),
    ],
)
def test_data_sets_with_formats_of_their_own_count_them(tmp_path, name, write, size):
    write(tmp_path)
    dataset = registry.lookup("dataset", name)(base.Settings(root=str(tmp_path), image_size=size, channels=3))
    dataset.prepare(progress=False)
    frames = sum(int(np.sum(dataset.clip_lengths(split))) for split in dataset.splits)
    assert sizes.estimate(dataset.sources(), dataset.frames_in) == frames


def test_damaged_records_and_sequences_are_left_to_decoding(tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(b"\x05" + bytes(30))
    (tmp_path / "a.seq").write_bytes(bytes(100))
    assert tfrecords.frames_in(tmp_path / "a.tfrecord", tfrecords.count_encoded) is None
    assert kitti_caltech.seq_length(tmp_path / "a.seq") is None
