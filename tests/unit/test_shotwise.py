"""Shot-wise FVD: which shots are compared, and that predictions like the data are near it."""

import numpy as np
import pytest
import tensorflow as tf

from tfvp import config, registry
from tfvp import run as runs
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.evaluation import shotwise_fvd
from tfvp.metrics.moments import Moments
from tfvp.models import build
from tfvp.training import loop


def features(video):
    """Stands for I3D: a few statistics of the frames, repeated to 400 numbers."""
    flat = tf.reshape(video, [tf.shape(video)[0], -1])
    ends = tf.reduce_mean(video[:, 0] - video[:, -1], axis=[1, 2, 3])
    few = tf.stack([tf.reduce_mean(flat, 1), tf.math.reduce_std(flat, 1), ends, tf.reduce_max(flat, 1)], axis=1)
    return tf.tile(few, [1, 100])


def test_shots_are_windows_of_training_clips():
    dataset = registry.lookup("dataset", "shapes")(base.Settings(image_size=(16, 16), channels=3), clip_length=14)
    dataset.clip_lengths = lambda split: np.array([14, 12, 9, 14])
    found = np.concatenate([shot.numpy() for shot in shotwise_fvd.training_shots(dataset, 12, 100)])
    expected = [dataset.read("train", np.array([c]), np.array([s]), 12) for c, s in ((0, 0), (0, 1), (0, 2), (1, 0))]
    assert len(found) == 3 + 1 + 3
    for shot, truth in zip(found, expected):
        np.testing.assert_allclose(shot, truth["video"][0] / np.float32(255))
    assert len(np.concatenate(list(shotwise_fvd.training_shots(dataset, 12, 5)))) == 5


def test_moments_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=(50, 6))
    moments = Moments(6)
    moments.add(values[:20])
    moments.add(np.concatenate([values[20:], values[:3]]), real=[1.0] * 30 + [0.0] * 3)
    mean, covariance = moments.gaussian()
    np.testing.assert_allclose(mean, values.mean(0))
    np.testing.assert_allclose(covariance, np.cov(values.T), atol=1e-12)


def test_few_videos_are_refused_however_many_were_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(shotwise_fvd.i3d, "graph", lambda: features)
    for split, frames in (("train", 40), ("validation", 20), ("test", 260)):
        (tmp_path / "videos" / split).mkdir(parents=True)
        video = np.random.default_rng(0).integers(0, 256, (frames, 16, 16, 1), np.uint8)
        np.save(tmp_path / "videos" / split / "clip.npy", video)
    settings = {
        "model": {"name": "convlstm_keras", "hidden": [2], "kernels": [3]},
        "data": {"name": "folder", "root": str(tmp_path / "videos"), "image_size": 16, "channels": 1},
        "train": {"seq_len": 6},
    }
    few_shots = "FVD of 25 clips is mostly bias; the training split holds 25 shots of 16 frames"
    few_windows = "FVD of 26 clips is mostly bias; the test split holds 26 windows of 10 frames"
    for context, refusal in ((4, few_shots), (10, few_windows)):
        settings["eval"] = {"open_loop_ctx": context, "eval_seq_len": context + 2}
        run = runs.Run.start(tmp_path / str(context), config.from_dict(settings, "tiny"))
        runs.save_weights(build.build_model(run.config), run.folder("model") / "best.weights.h5")
        with pytest.raises(UserError, match=refusal):
            shotwise_fvd.shotwise_fvd(run, 16, progress=lambda line: None)
        assert not (run.path / "eval").exists()


@pytest.mark.slow
@pytest.mark.current_stack
def test_one_number_per_window(tmp_path, monkeypatch):
    monkeypatch.setattr(shotwise_fvd.i3d, "graph", lambda: features)
    monkeypatch.setattr(shotwise_fvd.provenance, "describe_networks", list)
    settings = {
        "model": {"name": "convlstm_keras", "hidden": [2], "kernels": [3]},
        "data": {"name": "moving_mnist", "image_size": 16},
        "train": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 2, "seq_len": 6, "validation_examples": 2},
        "eval": {"open_loop_ctx": 4, "eval_seq_len": 6},
    }
    run = loop.train(config.from_dict(settings, "tiny"), tmp_path)
    result = shotwise_fvd.shotwise_fvd(run, 35, 16, num_examples=64, shots=64, progress=lambda line: None)
    assert list(result["fvd"]) == ["0", "16"] and all(value > 0 for value in result["fvd"].values())
    assert result["futures"] == 64 and result["shots"] == 64 and (run.path / "eval" / "shotwise_fvd.json").is_file()
    assert len(result["run"]["weights_sha256"]) == 64 and result["networks"] == ["fvd"] and result["data"]["notes"]
    with pytest.raises(UserError, match="mostly bias"):
        shotwise_fvd.shotwise_fvd(run, 32, 16, num_examples=20)
    with pytest.raises(UserError, match="--window=8 must be at least 10"):
        shotwise_fvd.shotwise_fvd(run, 32, 8)
