"""Validation on several devices and workers: everyone's share of the clips, and one device's numbers."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.test_pipeline import Counting, parsed
from tfvp import config
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.layers import noise
from tfvp.models.base import VideoModel
from tfvp.training import strategies, validation

SETTINGS = {
    "data": {"name": "moving_mnist", "image_size": 32},
    "train": {"seq_len": 6, "validation_examples": 5, "validation_seq_len": 8, "gif_examples": 3},
    "eval": {"open_loop_ctx": 3, "batch_size": 4, "chunk": 3},
}

OBSERVED_ON = set()  # devices, noted as graphs are traced


class Faded(VideoModel):
    """Frames that fade into noise."""

    stochastic = True

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.fade = self.add_weight(name="fade", shape=(), initializer="ones")

    def loss_terms(self, batch, training):
        drawn = noise.normal(self.example_seeds(batch, training), self.image_shape)
        errors = tf.square(batch["video"] - 0.1 * drawn[:, None])
        return {"loss": tf.reduce_mean(errors, [1, 2, 3, 4]), "first": tf.reduce_mean(errors[:, 0], [1, 2, 3])}

    def observe(self, context, state=None, seed=None):
        OBSERVED_ON.add(tf.zeros([]).device[-5:])
        return {"last": context[:, -1], "seed": seed, "age": tf.zeros_like(seed[:, 0])}

    def imagine(self, state, horizon, seed=None):
        ages = state["age"][:, None] + tf.range(horizon, dtype=tf.int64)
        drawn = noise.normal_at(state["seed"], ages, self.image_shape)
        return self.fade * state["last"][:, None] + 0.1 * drawn, {**state, "age": state["age"] + horizon}

    def reconstruct(self, video, seed=None):
        return self.fade * video


def on(devices, cls=Faded):
    """(what a validation on so many devices returns, the model, the validation)."""
    settings = config.from_dict(SETTINGS, name="case")
    dataset = build_dataset(settings)
    dataset.prepare()
    with strategies.make_strategy(devices).scope():
        model = cls(dataset.frame_shape)
        model.build_on({"video": tf.TensorSpec([1, 6, 32, 32, 1]), "id": tf.TensorSpec([1], tf.int64)})
    made = validation.make_validation(settings, model, dataset)
    OBSERVED_ON.clear()
    return made.run(), model, made


@pytest.fixture(scope="module")
def alone():
    return on(1)


def test_two_devices_validate_as_one(alone):
    ((logs, drawn), _, _), ((shared, pictures), _, made) = alone, on(2)
    assert OBSERVED_ON == {"CPU:0", "CPU:1"} and [clips.numbers.shape for clips in made.sets.values()] == [(1, 6)] * 2
    assert list(logs) == list(shared) and {"val_loss", "val_first", "val_psnr", "train_ssim"} < set(logs)
    for name, value in logs.items():
        assert value == pytest.approx(shared[name], rel=1e-6), name
    assert list(drawn) == list(pictures) == ["open_loop", "reconstruction"]
    for tag, (truth, predicted, observed) in drawn.items():
        assert predicted.shape[:3] == {"open_loop": (3, 1, 5), "reconstruction": (3, 1, 6)}[tag]
        for one, two in zip((truth, predicted, observed), pictures[tag]):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(made.draw()["open_loop"][1], drawn["open_loop"][1])


class ByBatch(Faded):
    """Predictions depend on the batch."""

    registered_name, fewest_clips, fewest_clips_reason = "by_batch", 2, "for a test"

    def imagine(self, state, horizon, seed=None):
        video, state = super().imagine(state, horizon)
        return video + tf.reduce_mean(state["last"]), state


def test_batches_stay_whole_where_predictions_depend_on_them():
    (logs, _), _, _ = on(1, ByBatch)
    (shared, _), _, made = on(2, ByBatch)
    assert logs == shared and made.sets["val"].numbers.shape == (2, 4)


@pytest.mark.parametrize(
    ("section", "option", "what"),
    [
        ("eval", "batch_size", "eval.batch_size=1"),
        ("train", "validation_examples", "a validation on 1 of the validation clips"),
    ],
)
def test_no_clip_is_validated_alone_where_predictions_depend_on_the_batch(section, option, what, monkeypatch):
    monkeypatch.setitem(SETTINGS[section], option, 1)
    with pytest.raises(UserError, match=f"^{what} is too few: .* predicts 2 clips or more at once for a test"):
        on(1, ByBatch)


class Together:
    """Takes the place of `strategies.Gather`: adds up what the workers before it had."""

    def __init__(self, worker, tables):
        self.worker = worker
        self.tables = tables

    def rows(self, parts, numbers, count):
        whole = strategies.Gather(None, strategies.Worker()).rows(parts, numbers, count)
        sofar = self.tables.setdefault(len(whole), [])
        sofar.append(whole)
        return {name: sum(table[name] for table in sofar) for name in whole}


def test_the_shares_of_workers_make_up_one_workers_numbers(alone, monkeypatch):
    (logs, _), model, _ = alone
    one_device = functools.partial(validation.Replicas, worker=strategies.Worker())
    monkeypatch.setattr(validation, "Replicas", lambda strategy, worker, shared: one_device(strategy, shared=shared))
    settings = config.from_dict(SETTINGS, name="case")
    dataset = build_dataset(settings)
    dataset.prepare()
    tables = {}
    for rank in range(3):
        together = Together(strategies.Worker(rank, 3), tables)
        made = validation.make_validation(settings, model, dataset, together)
        result, pictures = made.run()
        assert made.sets["val"].numbers.shape == (1, 2)
    for name, value in logs.items():
        assert value == pytest.approx(result[name], rel=1e-6), name
    assert not pictures, "the first worker draws"


@pytest.mark.parametrize(("count", "size", "workers"), [(5, 4, 2), (64, 64, 4), (1, 4, 4), (7, 3, 3), (3, 12, 1)])
def test_every_clip_is_one_workers(count, size, workers):
    parts = [validation.part_of_batches(count, size, strategies.Worker(rank, workers)) for rank in range(workers)]
    real = sorted(itertools.chain(*(numbers[real].tolist() for numbers, real in parts)))
    assert real == list(range(count))
    assert {numbers.shape for numbers, _ in parts} == {(-(-count // size), size // workers)}
    assert all(row.tolist() == sorted(row, reverse=True) for _, real in parts for row in real), "padding comes last"


def test_what_is_validated_is_a_sample_and_is_listed():
    """Clips of files are not validated by the order of their names, and the list is what is read."""
    settings = config.from_dict(
        {**SETTINGS, "data": {"name": "folder", "image_size": [1, 6], "root": "."}}, name="case"
    )
    data = Counting({"train": [40] * 300, "validation": [8] * 2000 + [400]})
    listed = validation.list_windows(settings, data)
    assert [len(listed[name]) for name in ("val", "train")] == [5, 5]
    assert max(int(clip.split(":")[-1]) for clip, _ in listed["val"]) > 1000
    model = Faded(data.frame_shape)
    made = validation.make_validation(settings, model, data)
    for name, split in validation.SPLITS.items():
        read = [parsed(batch) for batch in made.sets[name].batches]
        first = [[f"drawn:{split}:{c[0]}", int(f[0])] for _, clips, frames, _ in read for c, f in zip(clips, frames)]
        assert first[:5] == listed[name]
