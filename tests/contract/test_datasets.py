"""Every registered data set keeps the contract. A new one needs an entry in CASES: how to lay out its files."""

import inspect
import threading
import typing

import numpy as np
import pytest
import tensorflow as tf
import yaml

from tests import layouts
from tfvp import config as configuration
from tfvp import registry
from tfvp.datasets import base
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.pipeline import batching, overview

FOLDER = ("a.mp4", "b.avi", "sub/c.gif", "d.npy", "e.npz", "images", "f.avi", "g.avi", "h.npy", "i.mp4")


def kth(layout):
    return lambda root: layouts.write_kth(root, layout)


# {data set: {label: (function that writes raw files into a folder, or None; options; clips per split)}}
CASES = {
    "moving_mnist": {
        "drawn": (None, {}, (10_000, 2_000, 10_000)),
        "three digits": (None, {"clip_length": 35, "num_digits": 3}, (10_000, 2_000, 10_000)),
        "notebook's sets": (None, {"sets": "notebook"}, (7_200, 800, 2_000)),
        "published test set": (layouts.write_mnist_test_seq, {}, (10_000, 2_000, 6)),
        "user's digits": (layouts.write_mnist, {}, (10_000, 2_000, 10_000)),
    },
    "stochastic_mnist": {
        "stochastic": (None, {}, (60_000, 2_000, 10_000)),
        "deterministic": (None, {"deterministic": True, "num_digits": 1}, (60_000, 2_000, 10_000)),
    },
    "mmnist_long": {
        "drawn": (None, {}, (20_000, 500, 1_000)),
        "avi": (layouts.write_mmnist_long, {}, (3, 1, 2)),
        "mp4": (lambda root: layouts.write_mmnist_long(root, ".mp4", name="moving_mnist_2digit"), {}, (3, 1, 2)),
    },
    "kth": {
        "zips": (kth("zips"), {}, (3, 3, 2)),
        "class folders": (kth("folders"), {"resize": "area"}, (3, 3, 2)),
        "readme": (kth("readme"), {"validation_persons": [2]}, (5, 1, 2)),
    },
    "mazes": {
        "folders": (layouts.write_train_test, {}, (5, 1, 2)),
        "records": (lambda root: layouts.write_tfds(root, "gqn_mazes"), {}, (22, 2, 3)),
    },
    "minerl": {
        "avi": (lambda root: layouts.write_train_test(root, "MineRL", ".avi"), {}, (5, 1, 2)),
        "records": (lambda root: layouts.write_tfds(root, "minerl_navigate"), {}, (22, 2, 3)),
    },
    "bair": {
        "records": (lambda root: layouts.write_bair(root, "records"), {}, (22, 2, 3)),
        "pngs": (lambda root: layouts.write_bair(root, "pngs"), {}, (22, 2, 3)),
    },
    "taxibj": {"npz": (layouts.write_taxibj, {}, (49, 3, 3))},
    "human36m": {"lists": (layouts.write_human36m, {"clip_length": 10}, (6, 2, 4))},
    "sevir": {"hdf5": (layouts.write_sevir, {}, (4, 2, 2))},
    "kitti": {
        "frames": (layouts.write_kitti, {}, (4, 2, 2)),
        "labels": (layouts.write_kitti, {"labels": "disk"}, (4, 2, 2)),
    },
    "cityscapes": {
        "frames": (layouts.write_cityscapes, {}, (1, 2, 1)),
        "labels": (layouts.write_cityscapes, {"labels": "disk"}, (1, 2, 1)),
    },
    "kitti_caltech": {"seq and frames": (layouts.write_kitti_caltech, {}, (2, 2, 3))},
    "moving_fashion_mnist": {"idx": (layouts.write_mnist, {}, (10_000, 2_000, 10_000))},
    "mnist_cifar": {"binary": (layouts.write_cifar, {}, (10_000, 2_000, 10_000))},
    "pose": {
        "frames": (layouts.write_pose, {}, (2, 4, 2)),
        "labels": (layouts.write_pose, {"labels": "disk"}, (2, 4, 2)),
    },
    "shapes": {
        "frames": (None, {}, (20_000, 500, 1_000)),
        "labels": (None, {"labels": "true", "num_shapes": 2}, (20_000, 500, 1_000)),
    },
    "textures": {"layers": (None, {}, (20_000, 500, 1_000))},
    "folder": {
        "all kinds": (lambda root: layouts.write_folder(root, FOLDER), {}, (7, 2, 1)),
        "kmeans": (lambda root: layouts.write_folder(root, FOLDER), {"labels": "kmeans", "classes": 3}, (7, 2, 1)),
    },
}
# What a data set insists on.
FIXED = {
    "taxibj": {"image_size": (32, 32), "channels": 2},
    "mnist_cifar": {"channels": 3},
    "shapes": {"channels": 3},
    "textures": {"channels": 3},
    "pose": {"channels": 3},
}
LABELS = [(name, label) for name, cases in CASES.items() for label in cases]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(name, label, **settings) -> a prepared data set; the raw files of each case are written once."""
    roots, datasets = {}, {}

    def make(name, label, **settings):
        write, options, _ = CASES[name][label]
        settings = {**FIXED.get(name, {}), **settings}
        if (name, label) not in roots:
            roots[name, label] = tmp_path_factory.mktemp(name)
            if write:
                write(roots[name, label])
        key = (name, label, tuple(settings.items()))
        if key not in datasets:
            root = str(roots[name, label]) if write else ""
            dataset = registry.lookup("dataset", name)(base.Settings(root=root, **settings), **options)
            dataset.prepare(progress=False)
            datasets[key] = dataset
        return datasets[key]

    return make


def brightness(dataset, frames):
    """The brightest value, in [0, 255]."""
    return float(frames.max()) * (1 if dataset.video_dtype == np.uint8 else 255)


def read_one(dataset, split, clip, start=0, length=None, stride=1):
    length = length or int(min(dataset.clip_lengths(split)[clip], 25))
    return dataset.read(split, np.array([clip]), np.array([start]), length, stride)["video"][0]


def test_every_data_set_has_a_case():
    assert set(registry.names("dataset")) == set(CASES), "add the new data set to CASES"


@pytest.mark.parametrize("name", CASES)
def test_declarations(name):
    cls = registry.lookup("dataset", name)
    assert issubclass(cls, base.VideoDataset) and cls.__doc__ and inspect.getmodule(cls).__doc__
    info = cls.info
    for text in (info.description, info.download, info.layout, info.licence):
        assert text and isinstance(text, str) and "\n" not in text
    assert info.fps is None or info.fps > 0
    assert info.context > 0 and info.horizon > 0 and "video" in cls.provides
    documented = "".join(parent.__doc__ or "" for parent in cls.__mro__)
    for key, option in registry.options("dataset", name).items():
        default = list(option.default) if isinstance(option.default, tuple) else option.default
        plain = yaml.safe_load(yaml.safe_dump(default))
        assert configuration.checked(plain, option.annotation, key) == plain
        assert f"{key}: " in documented or f"{key} " in documented, f"{key} is not documented"
        assert option.annotation is not typing.Any


@pytest.mark.parametrize("name, label", LABELS)
def test_counts_shapes_and_types(made, name, label):
    dataset = made(name, label)
    expected = CASES[name][label][2]
    assert dataset.splits == ("train", "validation", "test") and dataset.frame_shape == (
        *dataset.settings.image_size,
        dataset.settings.channels,
    )
    assert tuple(len(dataset.clip_lengths(split)) for split in dataset.splits) == expected
    for split in dataset.splits:
        lengths = dataset.clip_lengths(split)
        assert lengths.dtype == np.int64 and lengths.min() >= 2
        found = dataset.read(split, np.array([0, len(lengths) - 1]), np.array([0, 1]), 3)
        spec = dataset.element_spec(3)
        assert set(found) == set(spec) and "video" in spec and set(spec) <= set(dataset.provides)
        for key, value in found.items():
            assert value.dtype == spec[key].dtype.as_numpy_dtype and value.shape == (2, *spec[key].shape)
        assert found["video"].dtype == dataset.video_dtype and brightness(dataset, found["video"]) > 10


@pytest.mark.parametrize("name, label", LABELS)
@pytest.mark.parametrize("settings", [{"image_size": (32, 32), "channels": 3}, {"image_size": (16, 16)}])
def test_sizes_and_channels(made, name, label, settings):
    if name in FIXED or settings.get("channels", 1) not in registry.lookup("dataset", name).channels:
        pytest.skip("fixed by the data set")
    dataset = made(name, label, **settings)
    video = read_one(dataset, "test", 0)
    assert video.shape[1:] == dataset.frame_shape == (*settings["image_size"], settings.get("channels", 1))
    if dataset.settings.channels == 3:
        assert np.ptp(video.astype(int), axis=-1).max() <= 4, "grey material became coloured"
    full = read_one(made(name, label), "test", 0)
    assert abs(float(video.mean()) - float(full.mean())) < 2.5


@pytest.mark.parametrize("name, label", LABELS)
def test_clips_have_names_of_their_own(made, name, label):
    dataset = made(name, label)
    for split in dataset.splits:
        clips = np.arange(min(30, len(dataset.clip_lengths(split))))
        names, sources = dataset.clip_names(split, clips), dataset.clip_sources(split, clips)
        assert len(set(names)) == len(names) == len(sources) == len(clips), (split, names)
        assert all(source in name for name, source in zip(names, sources)), (names, sources)
        assert not any(dataset.settings.root in name for name in names if dataset.settings.root)


@pytest.mark.parametrize("name, label", LABELS)
def test_windows_are_parts_of_the_clip(made, name, label):
    dataset = made(name, label)
    for split in dataset.splits:
        lengths = dataset.clip_lengths(split)
        last = len(lengths) - 1
        clips = np.array([last, 0, last])
        starts = np.minimum([4, 2, 0], lengths[clips] - 5)
        found = dataset.read(split, clips, starts, 3, stride=2)["video"]
        for window, clip, start in zip(found, clips, starts):
            np.testing.assert_array_equal(window, read_one(dataset, split, clip)[start : start + 5 : 2])
        final = read_one(dataset, split, 0, int(lengths[0]) - 2, 2)
        assert final.shape[0] == 2


@pytest.mark.parametrize("name, label", LABELS)
def test_reading_again_gives_the_same(made, name, label):
    write, options, _ = CASES[name][label]
    dataset = made(name, label)
    other = registry.lookup("dataset", name)(dataset.settings, **options)
    other.prepare(progress=False)
    for split in dataset.splits:
        np.testing.assert_array_equal(dataset.clip_lengths(split), other.clip_lengths(split))
        np.testing.assert_array_equal(read_one(dataset, split, 0), read_one(other, split, 0))


@pytest.mark.parametrize("name, label", LABELS)
def test_no_frame_is_in_two_splits(made, name, label):
    dataset = made(name, label)
    frames = {}
    for split in dataset.splits:
        clips = np.arange(min(len(dataset.clip_lengths(split)), 40))
        for clip in clips:
            video = read_one(dataset, split, clip)
            frames.setdefault(split, set()).update(
                frame.tobytes() for frame in video if brightness(dataset, frame) > 10
            )
    assert all(len(found) > 1 for found in frames.values())
    assert not frames["train"] & frames["test"]
    assert not frames["train"] & frames["validation"]
    assert not frames["validation"] & frames["test"]


@pytest.mark.parametrize("name, label", LABELS)
def test_threads_read_the_same(made, name, label):
    dataset = made(name, label)
    clips = np.arange(len(dataset.clip_lengths("train")))[:8]
    expected = dataset.read("train", clips, clips * 0 + 1, 6)["video"]
    wrong = []

    def work():
        for _ in range(5):
            if not np.array_equal(dataset.read("train", clips, clips * 0 + 1, 6)["video"], expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def files_with_times(root):
    """Everything below a folder, but what says when decoded frames were last used, with the times of last changes."""
    return sorted((p, p.stat().st_mtime_ns) for p in base.pathlib.Path(root).rglob("*") if p.name != ".used")


@pytest.mark.parametrize("name, label", LABELS)
def test_preparing_again_changes_nothing(made, name, label):
    dataset = made(name, label)
    if not dataset.settings.root:
        return
    listing = files_with_times(dataset.settings.root)
    dataset.prepare(progress=False)
    dataset.check(progress=False)
    assert files_with_times(dataset.settings.root) == listing


@pytest.mark.parametrize("name, label", LABELS)
def test_through_the_pipeline(made, name, label):
    dataset = made(name, label)
    batches = batching.training_batches(dataset, batch_size=2, length=6, steps_per_epoch=2, seed=1, flip=True)
    assert batches.element_spec["video"] == tf.TensorSpec([2, 6, *dataset.frame_shape], tf.float32)
    for batch in batches.take(3):
        video = batch["video"].numpy()
        assert video.min() >= 0.0 and 0.05 < video.max() <= 1.0
    for split in dataset.splits:
        batches, count = batching.evaluation_batches(dataset, split, batch_size=2, length=8, num_examples=3)
        found = [batch for batch in batches]
        assert count == min(3, len(dataset.clip_lengths(split))) and len(found) == -(-count // 2)
        first = read_one(dataset, split, int(found[0]["id"][0]))[:8]
        scale = 255 if dataset.video_dtype == np.uint8 else 1
        np.testing.assert_allclose(found[0]["video"][0].numpy() * scale, first, atol=1e-4)
    single = next(iter(dataset.load("test", 5)))
    np.testing.assert_array_equal(single["video"], read_one(dataset, "test", 0)[:5])


@pytest.mark.parametrize("name, label", LABELS)
def test_what_the_overview_shows(made, name, label):
    dataset = made(name, label)
    text = overview.describe(dataset) + overview.table(dataset) + "\n".join(dataset.notes())
    for count in CASES[name][label][2]:
        assert f"{count:,}" in text
    sheet = overview.contact_sheet(dataset)
    assert sheet.dtype == np.uint8 and sheet.ndim == 3 and sheet.shape[2] == 3
    assert dataset.notes() and all("\n" not in note for note in dataset.notes())


@pytest.mark.parametrize("name", CASES)
def test_from_a_configuration(name):
    channels = registry.lookup("dataset", name).channels[-1]
    config = configuration.from_dict(
        {"data": {"name": name, "image_size": 32, "channels": channels}, "train": {"seed": 5}}
    )
    dataset = build_dataset(config)
    assert dataset.name == name and dataset.frame_shape == (32, 32, channels) and dataset.settings.seed == 5


@pytest.mark.parametrize("settings", [{"channels": 2}, {"image_size": (0, 8)}])
def test_impossible_settings(settings):
    with pytest.raises(base.UserError, match="data."):
        registry.lookup("dataset", "moving_mnist")(base.Settings(**settings))


@pytest.mark.parametrize("name", ["moving_mnist", "stochastic_mnist"])
def test_longer_clips_begin_as_shorter_ones(name):
    cls = registry.lookup("dataset", name)
    short, long = (cls(base.Settings(), clip_length=length) for length in (12, 40))
    numbers = np.arange(8)
    first = [d.read("test", numbers, np.zeros_like(numbers), 12)["video"] for d in (short, long)]
    np.testing.assert_array_equal(*first)
    with pytest.raises(UserError, match="clip_length"):
        short.usable_clips("test", 40)
