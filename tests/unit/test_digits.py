"""Digits: which are used, how they are drawn, and how they move."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import layouts
from tfvp import registry
from tfvp.datasets import base, digits, stochastic_mnist
from tfvp.errors import UserError
from tfvp.pipeline import draws

# Of the first 20 frames of clips 0 to 31, drawn from the embedded digits.
FIXED_SETS = {
    ("moving_mnist", "validation"): "ff7b8ea548f209e1",
    ("moving_mnist", "test"): "d709aeed1d47193c",
    ("stochastic_mnist", "validation"): "11ac65893939f349",
    ("stochastic_mnist", "test"): "cf87e9fc28bc59ce",
    ("mmnist_long", "validation"): "0c00a8ec34f16a68",
    ("mmnist_long", "test"): "1497f9eea2ea15a0",
}


def build(name, options=None, **settings):
    return registry.lookup("dataset", name)(base.Settings(**settings), **(options or {}))


def clips(dataset, split, numbers, length=20, start=0):
    numbers = np.asarray(numbers)
    return dataset.read(split, numbers, np.full(len(numbers), start), length)["video"]


def test_the_embedded_digits():
    with np.load(digits.EMBEDDED, allow_pickle=False) as archive:
        for part, each in (("train", 200), ("test", 50)):
            images, labels, index = (archive[f"{part}_{kind}"] for kind in ("images", "labels", "index"))
            assert images.shape == (10 * each, 28, 28) and images.dtype == np.uint8
            assert np.bincount(labels).tolist() == [each] * 10
            assert labels[:20].tolist() == list(range(10)) * 2
            assert len(set(index.tolist())) == len(index)
            assert images[:, :2].mean() < 1 < 20 < images[:, 10:18, 10:18].mean()
    assert digits.EMBEDDED.stat().st_size < 500_000
    assert "CC BY-SA 3.0" in (digits.EMBEDDED.parent / "README.md").read_text()


def test_splits_show_different_digits():
    found = digits.load_digits("", "embedded")
    sets = [{image.tobytes() for image in found.of(split)} for split in ("train", "validation", "test")]
    assert [len(s) for s in sets] == [1800, 200, 500]
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]


@pytest.mark.parametrize("kind", ["idx", "gz", "npz"])
def test_the_users_mnist_is_found(tmp_path, kind):
    layouts.write_mnist(tmp_path, kind)
    for choice in ("auto", "mnist"):
        found = digits.load_digits(str(tmp_path), choice)
        assert found.train[:, 0, 0].tolist() == list(range(50, 90))
        assert found.test[:, 5, 5].tolist() == list(range(200, 220))
        assert str(tmp_path) in found.source
    assert "ship with tfvp" in digits.load_digits(str(tmp_path), "embedded").source
    assert "ship with tfvp" in digits.load_digits(str(tmp_path / "elsewhere"), "auto").source


@pytest.mark.parametrize("kind", ["idx", "gz", "npz"])
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.7])
def test_damaged_mnist_is_named(tmp_path, kind, fraction):
    layouts.write_mnist(tmp_path, kind)
    path = sorted(tmp_path.iterdir())[-1]
    path.write_bytes(layouts.truncated(path.read_bytes(), fraction))
    with pytest.raises(UserError, match="damaged.*IDX files"):
        digits.load_digits(str(tmp_path), "auto")


def test_other_images_are_refused(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros((60, 32, 32), np.uint8), x_test=np.zeros((60, 32, 32), np.uint8))
    with pytest.raises(UserError, match=r"\[60, 32, 32\]"):
        digits.load_digits(str(tmp_path), "auto")


def test_a_failed_download_says_what_to_do(monkeypatch):
    from tensorflow import keras

    def offline():
        raise OSError("no network")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    with pytest.raises(UserError, match="no network.*data.digits=embedded"):
        digits.load_digits("", "mnist")


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_drawing(add, kind):
    rng = np.random.default_rng(0)
    patches = rng.uniform(0, 1, (3, 2, 5, 5)).astype(np.float32)
    patches = (patches * 255).astype(np.uint8) if kind is np.uint8 else patches
    rows, columns = rng.integers(0, 8, (3, 4, 2)), rng.integers(0, 11, (3, 4, 2))
    rows[0, :, 1], columns[0, :, 1] = rows[0, :, 0], columns[0, :, 0]
    expected = np.zeros((3, 4, 12, 15))
    for n, t, d in np.ndindex(3, 4, 2):
        place = expected[n, t, rows[n, t, d] : rows[n, t, d] + 5, columns[n, t, d] : columns[n, t, d] + 5]
        white = 255 if kind is np.uint8 else 1
        place[:] = np.minimum(place + patches[n, d], white) if add else np.maximum(place, patches[n, d])
    found = digits.draw(patches, rows, columns, (12, 15), add)
    assert found.dtype == kind
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(x=st.floats(0, 1), y=st.floats(0, 1), vx=st.floats(-0.3, 0.3), vy=st.floats(-0.3, 0.3))
def test_straight_paths_follow_the_rule(x, y, vx, vy):
    found = digits.straight_paths(np.array([x, y]), np.array([vx, vy]), 40)
    for axis, (position, speed) in enumerate(((x, vx), (y, vy))):
        for t in range(40):
            position += speed
            if position <= 0:
                position, speed = 0.0, -speed
            elif position >= 1:
                position, speed = 1.0, -speed
            assert found[t, axis] == position


def test_moving_mnist_moves_a_tenth_of_the_free_range():
    dataset = build("moving_mnist")
    corners = dataset.paths(draws.Draws(draws.keys("x", np.arange(500)[:, None], np.arange(2))), 20)
    assert corners.shape == (20, 500, 2, 2) and corners.min() == 0 and corners.max() == 36
    steps = np.hypot(*np.moveaxis(np.diff(corners, axis=0), -1, 0))
    assert 3.2 < np.median(steps) < 4.0 and steps.max() < 3.6 + 1.5
    angles = np.arctan2(*np.moveaxis(np.diff(corners, axis=0)[0], -1, 0))
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() > 180


def test_long_clips_keep_their_speed():
    dataset = build("mmnist_long")
    corners = dataset._clips.paths(draws.Draws(draws.keys("x", np.arange(400)[:, None], np.arange(2))), 100)
    moved = np.diff(corners, axis=0)
    inside = ((corners[1:] > 6) & (corners[1:] < 30)).all(-1) & ((corners[:-1] > 6) & (corners[:-1] < 30)).all(-1)
    steps = np.hypot(moved[..., 0], moved[..., 1])[inside]
    assert steps.min() >= 2 - 1.5 and steps.max() <= 6 + 1.5
    total = np.array([steps_of.mean() for steps_of in np.array_split(np.sort(steps), 10)])
    assert total[0] < 2.8 and total[-1] > 5.2 and 3.5 < steps.mean() < 4.3


def test_stochastic_bounces():
    corners = stochastic_mnist.bouncing_paths(draws.Draws(draws.keys("x", np.arange(3000))), 60)
    assert corners.min() == 0 and corners.max() == 31
    assert np.bincount(corners[0].ravel(), minlength=32).min() > 100, "starts are not uniform"
    speeds = np.diff(corners, axis=0)
    assert set(np.unique(speeds)) == set(range(-4, 5))
    # Away from the top wall: 1 to 4, each as often, unless the side wall drew again.
    at_top = (corners[1:-1, :, 0] == 0) & (speeds[:-1, :, 0] < 0) & (np.abs(corners[1:-1, :, 1] - 15) < 12)
    after = speeds[1:, :, 0][at_top]
    counts = np.bincount(after[after >= 0], minlength=5)
    assert (after < 0).mean() < 0.01 and counts[1:].min() > 0.2 * counts[1:].sum()
    along = speeds[1:, :, 1][at_top]
    assert np.histogram(along, np.arange(-4, 6))[0].min() > 0.07 * len(along)


def test_deterministic_bounces_keep_their_speed():
    corners = stochastic_mnist.bouncing_paths(draws.Draws(draws.keys("x", np.arange(300))), 60, deterministic=True)
    speeds = np.abs(np.diff(corners, axis=0))
    most = speeds.max(axis=0)
    at_wall = (corners == 0) | (corners == 31)
    free = ~at_wall[1:] & ~at_wall[:-1]
    assert (speeds == most)[free].all()


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shrinking_is_the_rounded_mean(factor):
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    size = 16 // factor
    expected = np.floor(frames.reshape(2, 3, size, factor, size, factor).mean((3, 5)) + 0.5)
    np.testing.assert_array_equal(digits.shrink(frames, factor), expected)


def test_sizes_that_divide_64_are_shrunk():
    full, half = build("moving_mnist"), build("moving_mnist", image_size=(32, 32))
    expected = clips(full, "test", range(3)).reshape(3, 20, 32, 2, 32, 2, 1).mean((3, 5))
    assert np.abs(clips(half, "test", range(3)) - expected).max() <= 0.5


@pytest.mark.parametrize("name", ["moving_mnist", "stochastic_mnist", "mmnist_long"])
@pytest.mark.parametrize("size", [(128, 128), (48, 80), (20, 20)])
def test_other_sizes_have_digits_in_proportion(name, size):
    dataset = build(name, image_size=size)
    video = clips(dataset, "test", range(8))
    assert video.shape == (8, 20, *size, 1)
    reference = clips(build(name), "test", range(8))
    ink = (video > 127).mean() * size[0] * size[1] / min(size) ** 2
    assert 0.6 < ink / (reference > 127).mean() < 1.5


def test_one_and_three_digits():
    areas = [(clips(build("moving_mnist", {"num_digits": n}), "test", range(64), 3) > 60).mean() for n in (1, 2, 3)]
    assert 1.6 < areas[1] / areas[0] < 2.1 and areas[2] > 1.2 * areas[1]
    with pytest.raises(UserError, match="num_digits=0"):
        build("moving_mnist", {"num_digits": 0})


@pytest.mark.parametrize("name, split", FIXED_SETS)
def test_validation_and_test_sets_never_change(name, split):
    for seed in (1, 7):
        video = clips(build(name, seed=seed), split, range(32))
        assert hashlib.sha256(video.tobytes()).hexdigest()[:16] == FIXED_SETS[name, split]


@pytest.mark.parametrize("name", ["moving_mnist", "stochastic_mnist", "mmnist_long"])
def test_the_seed_changes_training_only(name):
    first, other = build(name, seed=1), build(name, seed=2)
    assert not np.array_equal(clips(first, "train", range(4)), clips(other, "train", range(4)))
    np.testing.assert_array_equal(clips(first, "test", range(4)), clips(other, "test", range(4)))


def test_the_published_test_set(tmp_path):
    layouts.write_mnist_test_seq(tmp_path)
    dataset = build("moving_mnist", root=str(tmp_path))
    assert dataset.clip_lengths("test").tolist() == [20] * 6
    numbers, frames = layouts.marks(dataset.read("test", np.array([4, 1]), np.array([3, 0]), 5, 2)["video"])
    assert numbers.tolist() == [[4] * 5, [1] * 5] and frames.tolist() == [[3, 5, 7, 9, 11], [0, 2, 4, 6, 8]]
    assert any("mnist_test_seq.npy in" in note for note in dataset.notes())
    small = build("moving_mnist", root=str(tmp_path), image_size=(32, 32), channels=3)
    assert clips(small, "test", [0]).shape == (1, 20, 32, 32, 3)
    assert len(dataset.clip_lengths("validation")) == 2000
    with pytest.raises(UserError, match="64, 32 or 16"):
        build("moving_mnist", root=str(tmp_path), image_size=(48, 48))
    larger = build("moving_mnist", root=str(tmp_path), image_size=(72, 72), margin=8)
    assert clips(larger, "train", [0]).shape == (1, 20, 72, 72, 1)
    with pytest.raises(UserError, match="set data.crop_margin to 0"):
        build("moving_mnist", {"sets": "notebook"}, root=str(tmp_path), image_size=(72, 72), margin=8)


@pytest.mark.parametrize("name", ["moving_mnist", "stochastic_mnist", "mnist_cifar", "moving_fashion_mnist"])
def test_a_root_that_is_a_file_is_refused(tmp_path, name):
    (tmp_path / "mnist_test_seq.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"mnist_test_seq\.npy is a file; name the folder that holds it"):
        build(name, root=str(tmp_path / "mnist_test_seq.npy"), channels=3).prepare()


@pytest.mark.parametrize("name", ["moving_mnist", "stochastic_mnist", "mmnist_long", "moving_fashion_mnist"])
def test_a_root_that_does_not_exist_is_refused(tmp_path, name):
    """A typing error is no wish for the digits that ship with tfvp; a folder without digits may be one."""
    with pytest.raises(UserError, match=r"data\.root=.*mnits does not exist; name the folder of the data set's files"):
        build(name, root=str(tmp_path / "mnits")).prepare()
    if name != "moving_fashion_mnist":
        build(name, root=str(tmp_path)).prepare()


def test_the_notebooks_sets_are_parts_of_the_test_set(tmp_path):
    everything, sets = build("moving_mnist"), build("moving_mnist", {"sets": "notebook"})
    assert not sets.endless and everything.endless
    assert [len(sets.clip_lengths(s)) for s in ("train", "validation", "test")] == [7200, 800, 2000]
    for split, first in (("train", 0), ("validation", 7200), ("test", 8000)):
        np.testing.assert_array_equal(clips(sets, split, [0, 3]), clips(everything, "test", [first, first + 3]))
    layouts.write_mnist_test_seq(tmp_path)
    published = build("moving_mnist", {"sets": "notebook"}, root=str(tmp_path))
    assert [len(published.clip_lengths(s)) for s in ("train", "validation", "test")] == [4, 0, 2]
    numbers, _ = layouts.marks(published.read("test", np.array([0, 1]), np.array([0, 0]), 3)["video"])
    assert numbers.tolist() == [[4] * 3, [5] * 3]


def test_a_damaged_test_set(tmp_path):
    layouts.write_mnist_test_seq(tmp_path)
    path = tmp_path / "mnist_test_seq.npy"
    path.write_bytes(layouts.truncated(path.read_bytes(), 0.5))
    with pytest.raises(UserError, match="download it again"):
        build("moving_mnist", root=str(tmp_path))
    np.save(path, np.zeros((20, 5, 32, 32), np.uint8))
    with pytest.raises(UserError, match=r"\[20, 5, 32, 32\]"):
        build("moving_mnist", root=str(tmp_path))


def test_the_choice_is_printed_once(capsys):
    base._printed.clear()
    for _ in range(2):
        build("moving_mnist").prepare()
    assert capsys.readouterr().out.count("ship with tfvp") == 1


def test_draws_are_uniform_and_independent():
    keys = draws.keys("test", 3, np.arange(20_000))
    assert len(np.unique(keys)) == 20_000
    random = draws.Draws(keys)
    first, second = random.uniform(), random.uniform(2.0, 4.0)
    for values, low in ((first, 0), (second / 2 - 1, 0)):
        assert values.min() >= low and values.max() < 1
        assert np.histogram(values, 20, (0, 1))[0].min() > 880
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03 and abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03
    whole = random.integers(-4, 5)
    assert np.histogram(whole, np.arange(-4, 6))[0].min() > 2000
    order = draws.order(1000, "a", 1)
    assert sorted(order) == list(range(1000)) and (order != draws.order(1000, "a", 2)).mean() > 0.9
