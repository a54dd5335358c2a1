"""Folders of images as videos: their order, their depths, their colours, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from tests import layouts
from tests.unit.test_video_io import moving_square
from tfvp import video_io
from tfvp.errors import UserError
from tfvp.preprocessing import Preprocessing


def write(folder, *images, suffix=".png"):
    """Arrays, [h, w] or [h, w, 3], as images 0, 1, ... of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}{suffix}")
    return folder


def test_images_are_read_in_natural_order(tmp_path):
    for i in (10, 9, 1, 100, 2):
        Image.fromarray(np.full((4, 6), i, np.uint8)).save(tmp_path / f"frame{i}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    video = video_io.read_video(tmp_path)
    assert video.shape == (5, 4, 6, 1) and video[:, 0, 0, 0].tolist() == [1, 2, 9, 10, 100]


def test_names_may_hold_digits_that_are_no_numbers(tmp_path):
    for i, name in enumerate(("①10.png", "①9.png", "x²1.png")):
        Image.fromarray(np.full((4, 6), i, np.uint8)).save(tmp_path / name)
    assert sorted(video_io.read_video(tmp_path)[:, 0, 0, 0].tolist()) == [0, 1, 2]
    assert video_io.list_images(tmp_path).index("①9.png") < video_io.list_images(tmp_path).index("①10.png")


def test_sixteen_bit_images_keep_their_upper_byte(tmp_path):
    Image.fromarray((np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(video_io.read_video(tmp_path)[0, ..., 0], (np.arange(12) * 5000 >> 8).reshape(3, 4))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_a_fade_of_sixteen_bits_goes_down_to_black(tmp_path, suffix):
    values = (60000, 30000, 3000, 300, 250, 200, 0)
    folder = write(tmp_path, *(np.full((4, 6), value, np.uint16) for value in values), suffix=suffix)
    assert video_io.read_video(folder)[:, 0, 0, 0].tolist() == [234, 117, 11, 1, 0, 0, 0]


def test_numbers_in_images_mean_what_they_mean_in_arrays(tmp_path):
    floats = [np.full((4, 6), value, np.float32) for value in (0.0, 0.5, 1.0)]
    assert video_io.read_video(write(tmp_path / "f", *floats, suffix=".tif"))[:, 0, 0, 0].tolist() == [0, 128, 255]
    integers = [np.full((4, 6), value, np.int32) for value in (0, 200)]
    assert video_io.read_video(write(tmp_path / "i", *integers, suffix=".tif"))[:, 0, 0, 0].tolist() == [0, 200]
    for name, values in (("g", np.full((4, 6), 100.0, np.float32)), ("j", np.full((4, 6), 70000, np.int32))):
        with pytest.raises(
            UserError, match=r"0\.tif holds (float|int)32 outside .*; store uint8, or floats in \[0, 1\]"
        ):
            video_io.read_video(write(tmp_path / name, values, suffix=".tif"))


def test_frames_without_colour_may_be_saved_as_grey(tmp_path):
    grey, colour = np.full((8, 8), 40, np.uint8), np.full((8, 8, 3), (200, 100, 0), np.uint8)
    folder = write(tmp_path / "both", *[grey] * 3, colour, grey)
    for channels in (None, 3):
        video = video_io.read_video(folder, (4, 4), channels)
        assert video.shape == (5, 4, 4, 3) and video[:, 0, 0].tolist() == [[40] * 3] * 3 + [[200, 100, 0], [40] * 3]
    assert video_io.read_video(folder, channels=1)[:, 0, 0, 0].tolist() == [40, 40, 40, 118, 40]
    pieces = list(video_io.iterate_video(folder, chunk=2))
    assert [piece.shape[-1] for piece in pieces] == [3, 3, 3]
    assert video_io.read_video(write(tmp_path / "grey", grey, grey)).shape == (2, 8, 8, 1)
    frames = Preprocessing((4, 4), 3).convert([grey[..., None], colour])
    assert frames[:, 0, 0].tolist() == [[40] * 3, [200, 100, 0]]


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png"])
def test_files_of_several_images_are_refused(tmp_path, suffix):
    images = [Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)) for i in range(5)]
    images[0].save(tmp_path / f"stack{suffix}", save_all=True, append_images=images[1:])
    with pytest.raises(UserError, match=rf"stack\{suffix} holds 5 images, but a frame is one; save each as a file"):
        video_io.read_video(tmp_path)


def test_a_photo_may_hold_others_of_the_same_view(tmp_path):
    images = [Image.fromarray(np.full((8, 8, 3), 90 * i, np.uint8)) for i in range(2)]
    images[0].save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=images[1:])
    assert video_io.read_video(tmp_path).shape == (1, 8, 8, 3)


def test_a_damaged_image_is_named(tmp_path):
    for i in range(3):
        video_io.write_video(tmp_path / f"{i}.png", moving_square(1))
    (tmp_path / "1.png").write_bytes(layouts.truncated((tmp_path / "1.png").read_bytes(), 0.5))
    with pytest.raises(UserError, match=r"1\.png"):
        video_io.read_video(tmp_path)


def test_images_of_different_sizes_need_a_size(tmp_path):
    video_io.write_video(tmp_path / "0.png", moving_square(1))
    video_io.write_video(tmp_path / "1.png", moving_square(1, 20, 30))
    with pytest.raises(UserError, match="different sizes"):
        video_io.read_video(tmp_path)
    assert video_io.read_video(tmp_path, (16, 16)).shape == (2, 16, 16, 3)


def test_a_size_may_change_between_two_pieces(tmp_path):
    folder = write(tmp_path, *[np.zeros((4, 6), np.uint8)] * 4, np.zeros((5, 6), np.uint8))
    with pytest.raises(UserError, match="different sizes"):
        list(video_io.iterate_video(folder, chunk=4))
