"""The generated data set of textured layers: natural statistics, parallax, the same scene at any size."""

import numpy as np
import pytest
import tensorflow as tf

from tfvp import config, registry
from tfvp.datasets import base, textures
from tfvp.errors import UserError
from tfvp.models import named_weights
from tfvp.models.build import make_model
from tfvp.pipeline.optical_flow import reference_flow

CLIPS = np.arange(6)


def read(size=(32, 32), length=6, **options):
    data = registry.lookup("dataset", "textures")(base.Settings(image_size=size, channels=3), **options)
    return data.read("test", CLIPS, np.zeros_like(CLIPS), length)["video"]


@pytest.fixture(scope="module")
def small():
    return read()


def test_another_size_shows_the_same_scene(small):
    tiny = read((16, 16), 2).astype(np.float32)
    shrunk = small[:, :2].reshape(6, 2, 16, 2, 16, 2, 3).mean((3, 5))
    assert np.abs(shrunk - tiny).mean() < 0.45 * np.abs(shrunk - tiny[::-1]).mean()
    wide = read((32, 48), 2)
    np.testing.assert_array_equal(wide[:, :, :, 8:40], small[:, :2])


def test_spectrum_and_edges_are_those_of_natural_images(small):
    """Power falls as frequency^-2, give or take what differs between photographs, and derivatives are rarely large."""
    grey = small[:, 0].mean(-1)
    window = np.hanning(32)[:, None] * np.hanning(32)
    power = np.mean([np.abs(np.fft.fft2((g - g.mean()) * window)) ** 2 for g in grey], 0)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32)))
    rings = [(r, power[(radius > 0.8 * r) & (radius < 1.25 * r)].mean()) for r in (0.06, 0.1, 0.15, 0.22)]
    slope = np.polyfit(*np.log(rings).T, 1)[0]
    assert -3.2 < slope < -1.5, slope
    change = np.diff(grey, axis=1)
    assert np.mean((change - change.mean()) ** 4) / change.var() ** 2 > 6.0  # a Gaussian has 3


def test_nearer_layers_pass_faster_and_hide_farther_ones(small):
    far = read(layers=1)
    covered = (far != small).any(-1)
    assert 0.2 < covered.mean() < 0.8
    flow = np.linalg.norm(reference_flow(far)[:, 1:], axis=-1)
    both = np.linalg.norm(reference_flow(small)[:, 1:], axis=-1)
    assert np.mean(both[covered[:, 1:]]) > 1.2 * np.mean(flow[covered[:, 1:]])


def test_layers_are_mixed_in_whole_numbers():
    """Half of a texel's way is half of each colour, and a half opaque layer shows half of what is behind."""
    packed = np.array([[0, 200], [100, 40]], np.uint64) * np.uint64(0x0001000100010001)
    sheet = np.pad(packed, (0, 1), "wrap")
    seen = textures._sampled(
        sheet, np.zeros(1, np.float32), np.zeros(1, np.float32), np.ones(1), np.zeros(1), np.full((1, 2), 0.5)
    )
    assert (seen.view(np.uint16) == 85).all()
    layer = np.array([[100, 90, 80, 128]], np.uint16).view(np.uint64)[:, 0]
    behind = np.array([[200, 100, 0, 255]], np.uint16).view(np.uint64)[:, 0]
    np.testing.assert_allclose(textures._over(behind, layer, 1.0).view(np.uint16)[:3], [200, 140, 80], atol=1)


def test_impossible_options():
    with pytest.raises(UserError, match="data.layers=4 must be at most 3"):
        read(layers=4)


def test_a_model_of_textures_is_a_start_for_one_s_own_video():
    """`train.initial_weights` of configs/folder.yml takes a run of configs/convlstm/textures.yml."""
    shapes = []
    for name in ("convlstm/textures", "folder"):
        settings = config.load(name)
        with tf.Graph().as_default():  # in which variables take no memory
            model = make_model(settings, settings.frame_shape)
            shapes.append({key: tuple(value.shape) for key, value in named_weights.named(model).items()})
    assert shapes[0] == shapes[1] and len(shapes[0]) == 5
