"""One preprocessing: what data sets read is what single videos become, to the byte."""

import dataclasses
import json

import av
import numpy as np
import pytest

from tests import layouts
from tfvp import config as configuration
from tfvp import registry, video_decoding, video_io
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.preprocessing import Preprocessing, preprocess


def textured(frames=12, height=48, width=84):
    """uint8 [frames, height, width, 3] of moving texture, so that no two ways to resize give the same."""
    rng = np.random.default_rng(0)
    page = rng.integers(0, 256, (height + frames, width + frames, 3), dtype=np.uint8)
    return np.stack([page[t : t + height, t : t + width] for t in range(frames)])


def disc(height=64, width=112, size=49):
    """uint8 [4, height, width, 1]: a disc of `size` pixels in the middle."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 <= (size / 2) ** 2
    return np.repeat(inside[None, ..., None] * np.uint8(255), 4, axis=0)


def extent(frame):
    """(rows, columns) that something bright covers in [H, W, C]."""
    bright = frame[..., 0] > 127
    return int(bright.any(axis=1).sum()), int(bright.any(axis=0).sum())


def write_videos(root):
    """Seven videos of every kind; their paths, by name."""
    clips = {"a.mp4": 25, "b.avi": 12.5, "c.gif": 10, "d.npy": 0, "e.mp4": 30, "f.npy": 0}
    for number, (name, fps) in enumerate(clips.items()):
        video_io.write_video(root / name, np.roll(textured(), number, axis=1), fps or 8)
    for t, frame in enumerate(textured()):
        video_io.write_video(root / "images" / f"{t}.png", frame[None])


def settings(name, root, **options):
    return configuration.from_dict({"data": {"name": name, "root": str(root), **options}})


def compare(config):
    """Every clip of every split against its file; the number of clips."""
    dataset, description, count = build_dataset(config), Preprocessing.from_config(config), 0
    dataset, stride = getattr(dataset, "_clips", dataset), config.data.frame_stride
    dataset.prepare(progress=False)
    paths = {source.name: source.path for source in dataset.sources()}
    for split in dataset.splits:
        for clip, name in enumerate(dataset.store.clip_names(split)):
            expected = preprocess(description, paths[name.split("#")[0]])
            length = min(len(expected), (int(dataset.clip_lengths(split)[clip]) - 1) // stride + 1)
            found = dataset.read(split, np.array([clip]), np.array([0]), length, stride)["video"][0]
            np.testing.assert_array_equal(found, expected[:length], err_msg=name)
            count += 1
    return count


@pytest.mark.parametrize("resize", ["crop", "area", "squash"])
def test_a_folder_reads_what_a_single_video_becomes(tmp_path, resize):
    write_videos(tmp_path)
    options = {"resize": resize, "image_size": [24, 32], "channels": 3}
    assert compare(settings("folder", tmp_path, **options)) == 7
    options = {**options, "channels": 1, "fps": 7.0, "frame_stride": 2}
    assert compare(settings("folder", tmp_path, **options)) == 7


@pytest.mark.parametrize("resize", ["squash", "area"])
def test_kth_reads_what_a_single_video_becomes(tmp_path, resize):
    for person in (1, 17, 21):
        path = tmp_path / "boxing" / f"person{person:02d}_boxing_d1_uncomp.avi"
        video_io.write_video(path, np.roll(textured(), person, axis=1), 25, "ffv1")
    assert compare(settings("kth", tmp_path, image_size=32, resize=resize, frame_stride=3)) == 3


@pytest.mark.parametrize(
    "name, write, count",
    [
        ("bair", lambda root: layouts.write_bair(root, "pngs", train=2, test=1, frames=4), 3),
        ("mazes", lambda root: layouts.write_train_test(root, train=3, test=1), 4),
        ("mmnist_long", layouts.write_mmnist_long, 6),
        ("kitti", lambda root: layouts.write_kitti(root, gap=-1), 4),
    ],
)
def test_published_files_are_read_like_single_videos(tmp_path, name, write, count):
    write(tmp_path)
    for mask in tmp_path.rglob("color_mask_*"):  # KITTI's label maps, which are images, too
        mask.unlink()
    assert compare(settings(name, tmp_path, image_size=[24, 32])) == count


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_a_configuration_describes_what_its_data_set_does(name):
    channels = {"taxibj": 2}.get(name, 3 if 3 in registry.lookup("dataset", name).channels else 1)
    config = settings(name, "", image_size=32, channels=channels, frame_stride=2)
    dataset, description = build_dataset(config), Preprocessing.from_config(config)
    stride = 2 * dataset.preprocessing.frame_stride
    assert description == dataclasses.replace(dataset.preprocessing, frame_stride=stride)
    if "resize" in dataset.options:
        other = next(mode for mode in ("area", "squash") if mode != dataset.options["resize"])
        config = settings(name, "", image_size=32, channels=channels, resize=other)
        assert Preprocessing.from_config(config).resize == build_dataset(config).preprocessing.resize == other


def test_human36m_keeps_every_fifth_frame(tmp_path):
    layouts.write_human36m(tmp_path)
    config = settings("human36m", tmp_path, image_size=16, channels=3, step=5, frame_stride=2)
    assert Preprocessing.from_config(config).frame_stride == 10
    dataset = build_dataset(config)
    dataset.prepare(progress=False)
    source = next(s for s in dataset.sources() if s.split == "test")
    images = sorted(source.path.parent.glob(f"{source.path.name.rsplit('_', 1)[0]}_*.jpg"))[:8]
    expected = preprocess(Preprocessing((16, 16), 3, "squash"), np.stack([video_io.read_image(p) for p in images]))
    np.testing.assert_array_equal(dataset.read("test", np.array([0]), np.array([0]), 8)["video"][0], expected)


def test_a_disc_stays_a_disc_where_training_crops(tmp_path):
    video_io.write_video(tmp_path / "disc.avi", disc(), 8, "ffv1")
    config = settings("folder", tmp_path, image_size=64)
    for video in (tmp_path / "disc.avi", disc(), disc()[..., 0], disc() / 255.0):
        assert extent(preprocess(Preprocessing.from_config(config), video)[0]) == (49, 49)
    squeezed = Preprocessing.from_config(settings("moving_mnist", "", image_size=64))
    assert extent(preprocess(squeezed, disc())[0]) == (49, 28)


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".npy", ""])
@pytest.mark.parametrize("stride", [1, 3])
def test_windows_of_a_video(tmp_path, suffix, stride):
    clip = layouts.marked_clip(3, 20, 48, 64)
    path = tmp_path / f"clip{suffix}"
    if suffix:
        video_io.write_video(path, clip, 25)
    else:
        for t, frame in enumerate(clip):
            video_io.write_video(path / f"{t}.png", frame[None])
    description = Preprocessing((24, 32), 1, "area", frame_stride=stride)

    def numbers(*window):
        return layouts.marks(preprocess(description, path, *window))[1].tolist()

    assert numbers() == list(range(0, 20, stride))
    assert numbers(5, 4) == list(range(5, 20, stride))[:4]
    assert numbers(None, 4) == list(range(19, -1, -stride))[:4][::-1]
    assert numbers(None, 50) == numbers(None) == list(range(19, -1, -stride))[::-1]
    assert numbers(18) == [18, 19][::stride]
    assert preprocess(description, path, 20, 3).shape == (0, 24, 32, 1)


def test_only_what_is_needed_is_decoded(tmp_path, monkeypatch):
    for t, frame in enumerate(layouts.marked_clip(0, 20)):
        video_io.write_video(tmp_path / f"{t}.png", frame[None])
    read, original = [], video_io._image
    monkeypatch.setattr(video_io, "_image", lambda path: read.append(path.stem) or original(path))
    description = Preprocessing((24, 32), 1, frame_stride=2)
    preprocess(description, tmp_path, 3, 4)
    assert read == ["3", "5", "7", "9"]
    read.clear()
    preprocess(description, tmp_path, None, 2)
    assert read == ["17", "19"]
    # The damaged end of a file is never met where the window lies before it.
    video_io.write_video(tmp_path / "clip.avi", textured(40), 25, "mjpeg")
    content = (tmp_path / "clip.avi").read_bytes()
    (tmp_path / "clip.avi").write_bytes(layouts.truncated(content, 0.6))
    assert preprocess(description, tmp_path / "clip.avi", 2, 4).shape == (4, 24, 32, 1)
    with pytest.raises(UserError, match="truncated"):
        preprocess(description, tmp_path / "clip.avi", None, 4)


CODINGS = {
    "a.mp4": ("libx264", {"bf": "3", "g": "20"}),
    "b.mp4": ("libx264", {"bf": "3", "g": "20", "x264-params": "open-gop=1:b-pyramid=normal"}),
    "c.mov": ("mpeg4", {"bf": "2", "g": "15"}),
    "d.mkv": ("libx264", {"g": "30"}),
    "e.avi": ("mpeg4", {"g": "12"}),
    "f.avi": ("mjpeg", {}),
    "g.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=25"}),
}


@pytest.mark.parametrize("name", CODINGS)
def test_the_end_of_a_file_is_what_it_is_in_the_whole(tmp_path, monkeypatch, name):
    codec, options = CODINGS[name]
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 84, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame in textured(150):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    whole = video_io.read_video(tmp_path / name, (24, 32), 1)
    asked, original = [], video_decoding.whole
    monkeypatch.setattr(video_decoding, "whole", lambda *place: asked.append(place) or original(*place))
    for count, stride in ((1, 1), (5, 3), (40, 1)):
        found = preprocess(Preprocessing((24, 32), 1, frame_stride=stride), tmp_path / name, None, count)
        np.testing.assert_array_equal(found, whole[::-1][::stride][:count][::-1])
    # Where groups of pictures are open, or frames are refreshed bit by bit, the file is read from its beginning.
    assert bool(asked) == (name in ("b.mp4", "g.mp4"))
    before = len(asked)
    preprocess(Preprocessing((24, 32), 1), tmp_path / name, None, 140)
    preprocess(Preprocessing((24, 32), 1, fps=10.0), tmp_path / name, None, 4)
    assert len(asked) == before + 2
    # A file without its end is still an error.
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(layouts.truncated(content, 0.8))
    with pytest.raises(UserError, match="truncated"):
        preprocess(Preprocessing((24, 32), 1), tmp_path / name, None, 5)


def test_the_description_survives_json():
    config = settings("folder", "", image_size=[48, 80], channels=3, resize="area", fps=12.5, frame_stride=2)
    description = Preprocessing.from_config(config)
    written = description.to_dict()
    assert written == {
        "image_size": [48, 80],
        "channels": 3,
        "resize": "area",
        "fps": 12.5,
        "frame_stride": 2,
        "range": [0.0, 1.0],
    }
    assert Preprocessing.from_dict(json.loads(json.dumps(written))) == description
    for wrong, sentence in (
        ({"resize": "bigger"}, "'bigger' is none of"),
        ({"frame_stride": 0}, "must be positive"),
        ({"fps": -1.0}, "fps=-1.0"),
        ({"image_size": 3}, "cannot be read"),
        ({"colour": 1}, "has colour, which this version does not know"),
    ):
        with pytest.raises(UserError, match=sentence):
            Preprocessing.from_dict({**written, **wrong})
    with pytest.raises(UserError, match="cannot be read"):
        Preprocessing.from_dict({"channels": 1})


def test_frames_that_no_video_has_are_refused():
    with pytest.raises(UserError, match="frames of 2 channels"):
        preprocess(Preprocessing.from_config(settings("taxibj", "", image_size=32, channels=2)), disc())
    with pytest.raises(UserError, match=r"the array holds an array of shape \[3, 4\]"):
        preprocess(Preprocessing((8, 8), 1), np.zeros((3, 4), np.uint8))
