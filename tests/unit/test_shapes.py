"""The generated data set with label maps, reference flow, and frames that carry labels."""

import numpy as np
import pytest
import tensorflow as tf

from tfvp import compat, registry
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.frames import as_rgb, palette
from tfvp.layers import label_maps
from tfvp.pipeline import batching
from tfvp.pipeline.optical_flow import reference_flow

LABELLED = ("labels", "flow", "flow3")


def shapes(size=(64, 64), **options):
    return registry.lookup("dataset", "shapes")(base.Settings(image_size=size, channels=3), **options)


def test_label_maps_fit_the_frames():
    read = shapes(labels="true").read("test", np.arange(4), np.zeros(4, np.int64), 30)
    video, labels = read["video"].astype(np.float32), read["labels"]
    assert set(np.unique(labels)) <= set(range(5)) and len(np.unique(labels)) >= 4
    for clip in range(4):
        means = [video[clip][labels[clip] == k].mean(0) for k in np.unique(labels[clip])]
        spread = [video[clip][labels[clip] == k].std(0).max() for k in np.unique(labels[clip])]
        gaps = [np.abs(a - b).max() for i, a in enumerate(means) for b in means[:i]]
        assert min(gaps) > 40 and max(spread) < 50
    assert np.mean(labels[:, 0] != labels[:, -1]) > 0.05  # they move
    plain = shapes().read("test", np.arange(4), np.zeros(4, np.int64), 30)
    np.testing.assert_array_equal(plain["video"], read["video"])


@pytest.mark.parametrize("spacing", [1, 3])
def test_flow_brings_the_earlier_frame_back(spacing):
    video = shapes().read("test", np.arange(3), np.zeros(3, np.int64), 8)["video"]
    flow = reference_flow(video, spacing)
    assert flow.dtype == np.float32 and flow.shape == (3, 8, 64, 64, 2) and not flow[:, :spacing].any()
    frames = video.astype(np.float32) / 255
    now, before = (np.reshape(x, (-1, 64, 64, 3)) for x in (frames[:, spacing:], frames[:, :-spacing]))
    warped = compat.warp(tf.constant(before), tf.constant(flow[:, spacing:].reshape(-1, 64, 64, 2)))
    assert np.abs(warped - now).mean() < 0.5 * np.abs(before - now).mean()


def test_flow_of_a_known_motion():
    rows, columns = np.meshgrid(np.arange(80), np.arange(80), indexing="ij")
    texture = 128 + 60 * np.sin(rows / 3.1) * np.cos(columns / 2.7) + 40 * np.sin((rows + 2 * columns) / 5)
    video = np.stack([texture[8 - 2 * t : 72 - 2 * t, 8 - t : 72 - t] for t in range(2)])[None, ..., None]
    flow = reference_flow(video.astype(np.uint8))[0, 1, 12:-12, 12:-12]
    np.testing.assert_allclose(flow.reshape(-1, 2).mean(0), [-1, -2], atol=0.3)
    still = np.repeat(video[:, :1], 2, axis=1).astype(np.uint8)
    assert np.abs(reference_flow(still)).max() < 0.05


def test_batches_carry_labels_and_flow():
    data = shapes((32, 32), labels="true", clip_length=12)
    settings = {"batch_size": 4, "length": 8, "steps_per_epoch": 2, "seed": 3, "needs": LABELLED}
    plain = next(iter(batching.training_batches(data, **settings)))
    assert plain["video"].shape == (4, 8, 32, 32, 4) and "labels" not in plain
    assert plain["flow"].shape == plain["flow3"].shape == (4, 8, 32, 32, 2)
    labels = label_maps.labels_of(plain["video"])
    assert set(np.unique(labels)) <= set(range(5))
    flipped = next(iter(batching.training_batches(data, **settings, flip=True)))
    mirrored = [b for b in range(4) if not np.array_equal(flipped["video"][b], plain["video"][b])]
    assert 0 < len(mirrored) < 4
    for b in mirrored:
        np.testing.assert_array_equal(flipped["video"][b], plain["video"][b][:, :, ::-1])
        np.testing.assert_array_equal(flipped["flow"][b], plain["flow"][b][:, :, ::-1] * np.float32([-1, 1]))
    with pytest.raises(UserError, match="data.labels=none provides none"):
        batching.training_batches(shapes(), **settings)


def test_packed_frames_survive_bytes():
    labels = np.arange(256).reshape(1, 16, 16)
    frames = label_maps.pack(np.random.default_rng(0).uniform(size=(1, 16, 16, 3)), labels)
    stored = np.round(frames.numpy() * 255).astype(np.uint8)
    for found in (frames, stored.astype(np.float32) / 255):
        np.testing.assert_array_equal(label_maps.labels_of(tf.constant(found)), labels)
    assert label_maps.labels_of(frames, 19).numpy().max() == 18
    shown = as_rgb(stored)
    assert shown.shape == (1, 32, 16, 3) and len(np.unique(palette(), axis=0)) == 256
    np.testing.assert_array_equal(shown[0, 16:], palette()[labels[0]])


def test_classes_keep_the_colour_of_their_last_frame():
    labels = np.zeros((1, 3, 2, 2), np.int32)
    labels[0, 0, 0, 0], labels[0, 1, 0, 0] = 1, 1
    rgb = np.zeros((1, 3, 2, 2, 3), np.float32)
    rgb[0, 0, 0, 0], rgb[0, 1, 0, 0], rgb[0, 2] = 0.2, 0.6, 0.1
    video = label_maps.pack(rgb, labels)
    whole = label_maps.class_colours(video, 3)
    np.testing.assert_allclose(whole[0], [[0.1] * 3, [0.6] * 3, [0.5] * 3], atol=1e-6)
    parts = label_maps.class_colours(video[:, 2:], 3, label_maps.class_colours(video[:, :2], 3))
    np.testing.assert_allclose(parts, whole)


def test_random_crops_move_whole_windows():
    data = shapes((32, 32), labels="true", clip_length=12)
    settings = {"batch_size": 6, "length": 5, "steps_per_epoch": 2, "seed": 3, "needs": LABELLED}
    plain = next(iter(batching.training_batches(data, **settings)))
    cropped = next(iter(batching.training_batches(data, **settings, crop_padding=4)))
    again = next(iter(batching.training_batches(data, **settings, crop_padding=4)))
    seen = set()
    for b in range(6):
        padded = np.pad(plain["video"][b], [(0, 0), (4, 4), (4, 4), (0, 0)], "reflect")
        flow = np.pad(plain["flow"][b], [(0, 0), (4, 4), (4, 4), (0, 0)], "reflect")
        for rows, columns, component in (
            (slice(4), slice(None), 1),
            (slice(-4, None), slice(None), 1),
            (slice(None), slice(4), 0),
            (slice(None), slice(-4, None), 0),
        ):
            flow[:, rows, columns, component] *= -1
        found = [
            (y, x)
            for y in range(9)
            for x in range(9)
            if np.array_equal(padded[:, y : y + 32, x : x + 32], cropped["video"][b])
            and np.array_equal(flow[:, y : y + 32, x : x + 32], cropped["flow"][b])
        ]
        assert len(found) == 1
        seen.update(found)
        np.testing.assert_array_equal(cropped["video"][b], again["video"][b])
    assert len(seen) > 3
    smaller = next(iter(batching.training_batches(data, **settings, crop_margin=6)))
    rows, columns = set(), []
    for b in range(6):
        assert smaller["video"][b].shape == (5, 26, 26, 4) and smaller["flow3"][b].shape == (5, 26, 26, 2)
        places = [
            (y, x)
            for y in range(7)
            for x in range(7)
            if np.array_equal(plain["video"][b][:, y : y + 26, x : x + 26], smaller["video"][b])
            and np.array_equal(plain["flow"][b][:, y : y + 26, x : x + 26], smaller["flow"][b])
        ]
        assert len(places) == 1
        rows.add(places[0][0])
        columns.append(places[0][1])
    assert len(rows) > 2 and 0 <= min(columns) and max(columns) < 6
    with pytest.raises(UserError, match="crop_margin=32"):
        batching.training_batches(data, **settings, crop_margin=32)
    with pytest.raises(UserError, match="crop_padding=32"):
        batching.training_batches(data, **settings, crop_padding=32)
