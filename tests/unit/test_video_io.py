"""Reading and writing videos: every format, every resize mode, every kind of damage."""

import io
import pathlib
import struct
import subprocess
import sys

import av
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests import layouts
from tfvp import video_arrays, video_decoding, video_io
from tfvp.errors import UserError
from tfvp.frames import to_uint8
from tfvp.pipeline import sizes


def moving_square(frames=30, height=48, width=64, noise=0):
    """uint8 [frames, height, width, 3]."""
    rng = np.random.default_rng(0)
    video = rng.integers(0, noise + 1, (frames, height, width, 3), dtype=np.uint8)
    for t in range(frames):
        video[t, 10:30, t % 40 : t % 40 + 20] = [200, 100, 4 * t]
    return video


def area_weights(size, result):
    """[result, size]: the share of each pixel in each target pixel's area."""
    edges = np.arange(result + 1) * size / result
    low = np.maximum(edges[:-1, None], np.arange(size))
    high = np.minimum(edges[1:, None], np.arange(size) + 1)
    return np.clip(high - low, 0, None) * result / size


def exact_means(video, height, width):
    columns = area_weights(video.shape[2], width) @ video.astype(np.float64)
    return np.moveaxis(area_weights(video.shape[1], height) @ np.moveaxis(columns, 1, 2), 2, 1)


def test_lossless_formats_keep_every_value(tmp_path):
    video = moving_square(noise=5)
    for name, codec in (("a.avi", "rawvideo"), ("b.avi", "ffv1"), ("c.npy", None)):
        video_io.write_video(tmp_path / name, video, 25, codec)
        np.testing.assert_array_equal(video_io.read_video(tmp_path / name), video)
    np.savez(tmp_path / "d.npz", video=video, other=np.zeros(3))
    np.testing.assert_array_equal(video_io.read_video(tmp_path / "d.npz"), video)


@pytest.mark.parametrize(
    "name, codec, error",
    [
        ("a.mp4", None, 3),
        ("a.mov", "mpeg4", 3),
        ("a.mkv", "libx264", 3),
        ("a.avi", "mpeg4", 3),
        ("a.avi", "mjpeg", 5),
        ("a.gif", None, 3),
    ],
)
def test_lossy_formats_come_near(tmp_path, name, codec, error):
    video = moving_square()
    if name.endswith((".mov", ".mkv")):
        encode(tmp_path / name, video, codec)
    else:
        video_io.write_video(tmp_path / name, video, 25, codec)
    read = video_io.read_video(tmp_path / name)
    assert read.shape == video.shape and read.dtype == np.uint8
    assert np.abs(read.astype(int) - video).mean() < error


def encode(path, video, codec, tag=None, options=None):
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        if tag:
            stream.codec_context.codec_tag = tag
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("tag", ["DIVX", "XVID"])
def test_reads_avi_of_the_old_encoders(tmp_path, tag):
    video = moving_square()
    encode(tmp_path / "old.avi", video, "mpeg4", tag)
    assert tag.encode() in (tmp_path / "old.avi").read_bytes()
    assert np.abs(video_io.read_video(tmp_path / "old.avi").astype(int) - video).mean() < 5


@pytest.mark.parametrize("fps", [29.8347, 30000 / 1001, 0.01, 1000.0])
@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_any_rate_can_be_written(tmp_path, name, fps):
    video_io.write_video(tmp_path / name, moving_square(3), fps)
    with av.open(str(tmp_path / name)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(fps, rel=1e-6)
    assert len(video_io.read_video(tmp_path / name)) == 3


def test_names_with_a_colon_are_names_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video_io.write_video("10:30.avi", layouts.marked_clip(0, 60), 25, "ffv1")
    expected = video_io.read_video(tmp_path / "10:30.avi")
    for path in (pathlib.Path("10:30.avi"), pathlib.Path("./10:30.avi")):
        np.testing.assert_array_equal(video_io.read_video(path), expected)
        assert sizes.frames_in(path) == 60
        assert video_decoding.tail(path, 5) is not None
        parts = video_io.divide(path, 12)
        assert len(parts) > 1
        pieces = [piece for part in parts for piece in video_io.iterate_video(path, part=part)]
        np.testing.assert_array_equal(np.concatenate(pieces), expected)


def test_grey_gif_is_exact(tmp_path):
    video = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 1), dtype=np.uint8)
    video_io.write_video(tmp_path / "grey.gif", video, 10)
    np.testing.assert_array_equal(video_io.read_video(tmp_path / "grey.gif", channels=1), video)


def test_odd_sizes_are_padded_for_mp4_only(tmp_path):
    video = moving_square(5, 33, 35)
    video_io.write_video(tmp_path / "odd.mp4", video)
    video_io.write_video(tmp_path / "odd.gif", video)
    assert video_io.read_video(tmp_path / "odd.mp4").shape[1:3] == (34, 36)
    assert video_io.read_video(tmp_path / "odd.gif").shape[1:3] == (33, 35)


def test_pieces_add_up_to_the_whole(tmp_path):
    video = moving_square(30)
    video_io.write_video(tmp_path / "a.avi", video, 25, "ffv1")
    for chunk in (1, 7, 30, 64):
        pieces = list(video_io.iterate_video(tmp_path / "a.avi", chunk=chunk))
        assert max(map(len, pieces)) <= chunk
        np.testing.assert_array_equal(np.concatenate(pieces), video)


def test_reads_an_open_file_in_place_of_the_path(tmp_path):
    video = moving_square(noise=3)
    for name in ("a.avi", "a.npy", "a.gif"):
        video_io.write_video(tmp_path / name, video, 25, "ffv1" if name == "a.avi" else None)
        content = io.BytesIO((tmp_path / name).read_bytes())
        expected = video_io.read_video(tmp_path / name)
        np.testing.assert_array_equal(video_io.read_video("inside.zip/" + name, file=content), expected)


def test_grey_is_rec_601_luma(tmp_path):
    video = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", video)
    expected = [np.asarray(Image.fromarray(frame).convert("L"))[..., None] for frame in video]
    grey = video_io.read_video(tmp_path / "a.npy", channels=1)
    np.testing.assert_array_equal(grey, expected)
    np.testing.assert_allclose(grey[..., 0], video @ [0.299, 0.587, 0.114], atol=0.51)
    np.save(tmp_path / "g.npy", grey)
    np.testing.assert_array_equal(video_io.read_video(tmp_path / "g.npy", channels=3), np.repeat(grey, 3, axis=-1))
    np.testing.assert_array_equal(video_io.luma(np.repeat(grey, 3, axis=-1)), grey)


@pytest.mark.parametrize("name", ["a.npy", "a.avi"])
@pytest.mark.parametrize("size", [(64, 64), (30, 80), (120, 160)])
def test_area_is_the_mean_of_the_area(tmp_path, name, size):
    video = np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8)
    video_io.write_video(tmp_path / name, video, 25, "rawvideo" if name == "a.avi" else None)
    exact = exact_means(video, *size)
    difference = video_io.read_video(tmp_path / name, size, resize="area") - exact
    assert np.abs(difference).max() < 1.0 and abs(difference.mean()) < 0.02


def test_area_of_coded_video_is_not_darkened(tmp_path):
    video = moving_square(5, 120, 160)
    encode(tmp_path / "a.avi", video, "mpeg4")
    native = video_io.read_video(tmp_path / "a.avi")
    exact = exact_means(native, 64, 64)
    assert abs((video_io.read_video(tmp_path / "a.avi", (64, 64), resize="area") - exact).mean()) < 0.3


def test_squash_is_what_ffmpeg_makes_of_a_frame(tmp_path):
    grey = np.repeat(moving_square(8, 120, 160, noise=30)[..., :1], 3, axis=-1)
    encode(tmp_path / "a.avi", grey, "ffv1")
    with av.open(str(tmp_path / "a.avi")) as container:
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(template=container.streams.video[0]),
            graph.add("scale", "64:64:flags=bicubic"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        expected = []
        for frame in container.decode(video=0):
            graph.push(frame)
            expected.append(graph.pull().to_ndarray())
    np.testing.assert_array_equal(video_io.read_video(tmp_path / "a.avi", (64, 64), resize="squash"), expected)


def test_crop_takes_the_middle(tmp_path):
    video = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    for name in ("a.npy", "a.avi"):
        video_io.write_video(tmp_path / name, video, 25, "rawvideo" if name == "a.avi" else None)
        np.testing.assert_array_equal(video_io.read_video(tmp_path / name, (40, 40), resize="crop"), video[:, :, 10:50])
        np.testing.assert_array_equal(video_io.read_video(tmp_path / name, (20, 60), resize="crop"), video[:, 10:30])
    small = video_io.read_video(tmp_path / "a.npy", (20, 20), resize="crop")
    np.testing.assert_allclose(small, video[:, :, 10:50].reshape(2, 20, 2, 20, 2, 3).mean((2, 4)), atol=1.0)


def test_rates_are_resampled_by_holding_frames(tmp_path):
    video_io.write_video(tmp_path / "a.avi", layouts.marked_clip(0, 30), 30, "ffv1")

    def frames(fps):
        return layouts.marks(video_io.read_video(tmp_path / "a.avi", fps=fps))[1].tolist()

    assert frames(0) == frames(30) == list(range(30))
    assert frames(10) == list(range(0, 30, 3))
    assert frames(60) == [t // 2 for t in range(60)]
    assert frames(20) == [t * 3 // 2 for t in range(20)]


def test_gif_durations_count(tmp_path):
    images = [Image.fromarray(np.full((4, 4), 50 * i, np.uint8)) for i in range(3)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 300, 100])
    assert video_io.read_video(tmp_path / "a.gif", channels=1, fps=10)[:, 0, 0, 0].tolist() == [0, 50, 50, 50, 100]


@pytest.mark.parametrize("degrees, matrix", [(90, (0, 1, 0, -1, 0)), (180, (-1, 0, 0, 0, -1)), (270, (0, -1, 0, 1, 0))])
def test_turned_films_are_turned_upright(tmp_path, degrees, matrix):
    video = moving_square(4)
    video_io.write_video(tmp_path / "a.mp4", video, 25)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # version and flags, times, track, duration, layer, volume
    content[place : place + 36] = struct.pack(">9i", *(n << 16 for n in matrix), 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content)
    upright = np.rot90(video, -degrees // 90, axes=(1, 2))
    read = video_io.read_video(tmp_path / "a.mp4")
    assert read.shape == upright.shape and np.abs(read.astype(int) - upright).mean() < 3
    assert video_io.read_video(tmp_path / "a.mp4", (20, 10)).shape == (4, 20, 10, 3)


DAMAGED = [
    ("a.avi", "mpeg4", 0.6),
    ("a.avi", "mpeg4", 0.8),
    ("a.avi", "mpeg4", 0.02),
    ("a.avi", "mjpeg", 0.9),
    ("a.avi", "rawvideo", 0.95),
    ("a.avi", "ffv1", 0.5),
    ("a.mp4", "libx264", 0.95),
    ("faststart.mp4", "libx264", 0.95),
    ("faststart.mp4", "libx264", 0.6),
    ("a.mov", "mpeg4", 0.7),
    ("a.mkv", "libx264", 0.9),
    ("a.mkv", "libx264", 0.5),
    ("a.gif", None, 0.7),
    ("a.gif", None, 0.99),
    ("a.npy", None, 0.9),
    ("a.npz", None, 0.9),
    ("a.npy", None, 0.001),
]


@pytest.mark.parametrize("name, codec, fraction", DAMAGED)
def test_truncated_files_are_named(tmp_path, name, codec, fraction):
    path, video = tmp_path / name, moving_square(60, noise=20)
    if name.startswith("faststart"):
        encode(path, video, codec, options={"movflags": "faststart"})
    elif name.endswith((".mov", ".mkv")):
        encode(path, video, codec)
    elif name.endswith(".npz"):
        np.savez_compressed(path, video=video)
    else:
        video_io.write_video(path, video, 25, codec)
    assert len(video_io.read_video(path)) == 60
    path.write_bytes(layouts.truncated(path.read_bytes(), fraction))
    with pytest.raises(UserError) as caught:
        video_io.read_video(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(5))
def test_holes_are_not_concealed(tmp_path, seed):
    encode(tmp_path / "a.avi", moving_square(60, noise=40), "mpeg4")
    content = bytearray((tmp_path / "a.avi").read_bytes())
    place = np.random.default_rng(seed).integers(len(content) // 3, len(content) // 2)
    content[place : place + 1500] = bytes(1500)
    (tmp_path / "a.avi").write_bytes(content)
    with pytest.raises(UserError, match="a.avi"):
        video_io.read_video(tmp_path / "a.avi")


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.gif", "a.npy", "a.npz", "a.mkv"])
@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_files_that_are_no_videos_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        video_io.read_video(tmp_path / name)


def test_missing_and_empty(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        video_io.read_video(tmp_path / "nowhere.mp4")
    with pytest.raises(UserError, match="no frames"):
        video_io.read_video(tmp_path)
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 4, 1), np.uint8))
    with pytest.raises(UserError, match="no frames"):
        video_io.read_video(tmp_path / "none.npy")


@pytest.mark.parametrize(
    "array, message",
    [
        (np.array([{}], object), "[Oo]bject"),
        (np.zeros((4, 4)), "shape"),
        (np.zeros((2, 4, 4, 5), np.uint8), "shape"),
        (np.full((2, 4, 4), 3.0), "outside"),
        (np.full((2, 4, 4), np.nan), "outside"),
        (np.full((2, 4, 4), 300), "outside"),
    ],
)
def test_arrays_that_are_no_videos(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        video_io.read_video(tmp_path / "a.npy")


def test_arrays_of_other_types(tmp_path):
    for array in (np.ones((2, 4, 4), bool), np.ones((2, 4, 4, 1), np.float32), np.full((2, 4, 4), 255)):
        np.save(tmp_path / "a.npy", array)
        video = video_io.read_video(tmp_path / "a.npy")
        assert video.shape == (2, 4, 4, 1) and video.dtype == np.uint8 and (video == 255).all()
    assert video_io.array_shape(tmp_path / "a.npy") == (2, 4, 4, 1)


def test_a_suffix_in_capitals_is_one(tmp_path):
    for name in ("a.NPY", "a.PNG"):
        video_io.write_video(tmp_path / name, moving_square(2))
    assert np.load(tmp_path / "a.NPY").shape == (2, 48, 64, 3) and len(list(tmp_path.iterdir())) == 2


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="suffix"):
        video_io.write_video(tmp_path / "a.xyz", moving_square(2))
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space"):
        video_io.write_video(tmp_path / "a.npy", moving_square(2))
    assert not list(tmp_path.iterdir())


def test_floats_are_written_as_rounded_bytes(tmp_path):
    video_io.write_video(tmp_path / "a.npy", np.array([[[-1.0, 0.5], [1.0, 2.0]]]))
    assert np.load(tmp_path / "a.npy").ravel().tolist() == [0, 128, 255, 255]


def test_strips_and_grids(tmp_path):
    video = moving_square(6, 10, 12)
    assert video_io.strip(video).shape == (10, 72, 3)
    np.testing.assert_array_equal(video_io.strip(video, every=2)[:, 12:24], video[2])
    assert video_io.strip(video, every=3, gap=2).shape == (10, 26, 3)
    page = video_io.grid(np.stack([video] * 5), columns=3, gap=1)
    assert page.shape == (6, 21, 38, 3) and (page[:, 10] == 255).all()
    np.testing.assert_array_equal(page[:, 11:21, 13:25], video)
    video_io.write_video(tmp_path / "strip.png", video)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "strip.png")), video_io.strip(video))


def test_a_real_clip(tmp_path):
    path = layouts.shared_data("kth") / "person01_boxing_d1_uncomp.avi"
    video = video_io.read_video(path, (64, 64), 1)
    assert video.shape == (360, 64, 64, 1) and 60 < video.mean() < 200
    (tmp_path / "cut.avi").write_bytes(layouts.truncated(path.read_bytes(), 0.7))
    with pytest.raises(UserError, match="truncated"):
        video_io.read_video(tmp_path / "cut.avi")


def test_videos_are_read_without_tensorflow():
    code = "import sys, tfvp.frames, tfvp.video_io, tfvp.weights; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=pathlib.Path(__file__).parents[2], check=True, timeout=120)


def test_tensors_become_bytes_as_arrays_do():
    values = np.array([[-1.0, 0.0, 0.5 / 255, 1.5 / 255, 2.5 / 255, 0.5, 1.0, 3.0]], np.float32)
    expected = np.array([[0, 0, 0, 2, 2, 128, 255, 255]], np.uint8)
    for video in (values, tf.constant(values), expected):
        np.testing.assert_array_equal(to_uint8(video), expected)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_the_header_of_an_array_is_read_whatever_its_version(tmp_path, version):
    path = tmp_path / "clip.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.zeros([7, 4, 6], np.uint8), version)
    assert video_io.array_shape(path) == (7, 4, 6, 1)
    with path.open("rb") as file:
        assert video_arrays.header(file) == ((7, 4, 6), False, np.uint8)
