"""`VideoModel.minimize`: clipping, micro-batches, skipped updates, averages, replicas."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.unit.test_optimizers import settings
from tfvp import compat
from tfvp.models.base import VideoModel
from tfvp.training import optimizers, strategies

pytestmark = pytest.mark.usefixtures("plain_graphs")

SHAPE = (4, 4, 1)


class Scale(VideoModel):
    """Predicts w * frame; batch norm's statistics stand for everything that a forward pass changes."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.w = self.add_weight(name="w", shape=(), initializer=keras.initializers.Constant(0.5))
        self.norm = keras.layers.BatchNormalization(scale=False, center=False, synchronized=True)
        self.norm.build((None, *image_shape))

    def loss_terms(self, batch, training):
        video = batch["video"]
        self.norm(video[:, 0], training=training)
        error = self.w * video[:, :-1] - video[:, 1:]
        return {"loss": tf.reduce_mean(tf.square(error), axis=[1, 2, 3, 4])}


def batch_of(size, bad=()):
    video = np.random.default_rng(0).uniform(size=(size, 3, *SHAPE)).astype(np.float32)
    video[list(bad)] = np.nan
    return {"video": tf.constant(video), "id": tf.range(size, dtype=tf.int64)}


def make(devices=1, optimizer=None, ema=0.0, strategy=None, **options):
    strategy = strategy or strategies.make_strategy(devices)
    with strategy.scope():
        model = Scale(SHAPE)
        model.build_on({"video": tf.TensorSpec([2, 3, *SHAPE]), "id": tf.TensorSpec([2], tf.int64)})
        average = optimizers.WeightAverage(model, ema) if ema else None
        model.compile(
            optimizer=optimizer() if optimizer else keras.optimizers.SGD(0.1),
            average=average,
            jit_compile=False,
            **options,
        )
    return model, average


def fit(model, batches):
    data = tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature={k: tf.TensorSpec(v.shape, v.dtype) for k, v in batches[0].items()}
    )
    history = model.fit(data.repeat(), epochs=1, steps_per_epoch=len(batches), verbose=0)
    return {k: v[-1] for k, v in history.history.items()}


def weight(model):
    return float(tf.convert_to_tensor(model.w))


def gradient(w, video):
    error = w * video[:, :-1] - video[:, 1:]
    return float(np.mean(2 * error * video[:, :-1]))


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_update_is_the_gradient_of_the_mean_over_all_examples(devices, accumulate):
    batch = batch_of(8)
    model, _ = make(devices, accumulate=accumulate)
    logs = fit(model, [batch])
    expected = gradient(0.5, batch["video"].numpy())
    assert weight(model) == pytest.approx(0.5 - 0.1 * expected, rel=1e-5)
    assert logs["grad_norm"] == pytest.approx(abs(expected), rel=1e-5)
    assert int(model.step) == 1


@pytest.mark.parametrize("devices", [1, 2])
def test_the_norm_is_clipped_after_the_mean_over_replicas(devices):
    model, _ = make(devices, lambda: keras.optimizers.SGD(1.0), clip_norm=1e-3)
    fit(model, [batch_of(8)])
    assert abs(weight(model) - 0.5) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("devices", [1, 2])
def test_updates_that_are_not_finite_are_skipped_and_counted(devices):
    good, bad = batch_of(4), batch_of(4, bad=[3])
    clean, clean_average = make(devices, lambda: keras.optimizers.Adam(0.1), ema=0.9)
    fit(clean, [good, good])
    model, average = make(devices, lambda: keras.optimizers.Adam(0.1), ema=0.9)
    logs = fit(model, [good, bad, good])
    assert logs["skipped"] == pytest.approx(1.0)
    assert np.isfinite(logs["loss"]) and np.isfinite(logs["grad_norm"])
    assert int(model.step) == 2
    for ours, theirs in zip([*model.variables, *average.variables], [*clean.variables, *clean_average.variables]):
        np.testing.assert_allclose(tf.convert_to_tensor(ours), tf.convert_to_tensor(theirs), rtol=1e-6)


def test_the_average_is_of_the_weights_after_each_update():
    model, average = make(ema=0.5)
    batch = batch_of(4)
    fit(model, [batch])
    after_first = weight(model)
    fit(model, [batch])
    # The first update comes after batch 1 > start 0, so both enter with weight one half.
    expected = 0.5 * (0.5 * 0.5 + 0.5 * after_first) + 0.5 * weight(model)
    assert float(tf.convert_to_tensor(average.variables[0])) == pytest.approx(expected, rel=1e-6)


def test_validation_leaves_padding_out():
    model, _ = make()
    batch = batch_of(4)
    expected = float(tf.reduce_mean(model.loss_terms({k: v[:3] for k, v in batch.items()}, False)["loss"]))
    padded = {**batch, "mask": tf.constant([[1.0] * 3] * 3 + [[0.0] * 3])}
    data = tf.data.Dataset.from_tensors(padded)
    assert model.evaluate(data, verbose=0, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adamw"])
def test_a_step_that_does_not_count_changes_nothing(optimizer):
    """Masked in the kernel (adam), or written back (a momentum, a weight decay); no branch either way."""
    made = {
        "adam": one_kernel,
        "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    }
    model, average = make(1, made[optimizer], ema=0.9, clip_norm=1.0)
    step = tf.function(lambda b: model.distribute_strategy.run(model.train_step, args=(b,)))
    step(batch_of(4))
    state = [*model.variables, *average.variables, *compat.optimizer_variables(model.optimizer)]
    before = [np.array(v) for v in state]
    step(batch_of(4, bad=[1]))
    for variable, old in zip(state, before):
        np.testing.assert_array_equal(np.array(variable), old)
    step(batch_of(4))
    assert np.abs(np.array(state[0]) - before[0]).max() > 0
    kinds = {operation.type for operation in step.get_concrete_function(batch_of(4)).graph.get_operations()}
    assert not kinds & {"If", "StatelessIf"}


def one_kernel():
    return optimizers.build_optimizer(settings(learning_rate=0.1), 10, 10)


def test_the_step_of_several_gpus_can_be_compiled(monkeypatch):
    """Strategies of GPUs update variables within a replica, where a merge_call fails."""
    batch, results = batch_of(4), []
    for forced in (False, True):
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        model, average = make(strategy=strategy, optimizer=one_kernel, ema=0.9, clip_norm=1.0)
        if forced:
            monkeypatch.setattr(type(strategy.extended), "_use_merge_call", lambda self: False)
            # XLA compiles NCCL's collectives, which are for GPUs, alone; the mean over one replica is the value.
            monkeypatch.setattr(tf.distribute.ReplicaContext, "all_reduce", lambda self, op, value, options=None: value)

        def step(batch, model=model):
            return model.minimize(
                lambda part: model.loss_terms(part, True), model.trainable_variables, model.optimizer, batch
            )["loss"]

        step = tf.function(step, jit_compile=True) if forced else step
        tf.function(lambda strategy=strategy, step=step: strategy.run(step, args=(batch,)))()
        results.append([np.array(v) for v in [*model.variables, *average.variables]])
    assert results[0][0] != 0.5
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
