"""SimVP and IAM4VP predict in blocks: one batched pass, XLA, stochastic depth. Sizes that ConvLSTMs refuse."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfvp import registry
from tfvp.errors import UserError
from tfvp.layers.iam4vp import BottleBlock
from tfvp.models import iam4vp
from tfvp.models.iam4vp import IAM4VP
from tfvp.models.simvp import SimVP

pytestmark = pytest.mark.usefixtures("plain_graphs")

SHAPE = (16, 16, 1)


def built(variant):
    """A small IAM4VP whose weights are far from their initial values, which would hide its branches."""
    model = IAM4VP(SHAPE, **IAM4VP.small_variants[variant])
    for i, variable in enumerate(model.trainable_variables):
        variable.assign(variable + 0.1 * tf.random.stateless_normal(variable.shape, [i, 2]))
    return model


def clip(size, frames=8):
    return tf.random.stateless_uniform([size, frames, *SHAPE], [3, 4])


def gradients(loss_fn, variables):
    with tf.GradientTape() as tape:
        loss = loss_fn()
    return [loss, *(g for g in tape.gradient(loss, variables) if g is not None)]


def close(ours, theirs, tolerance=1e-4):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(np.abs(b).max()) + 1e-6)


@pytest.mark.parametrize("variant", ["", "uneven"])
def test_one_batched_pass_has_the_loop_s_loss_and_gradients(variant):
    model, video = built(variant), clip(2)

    def in_a_loop():
        start, end = model.context, model.context + model.horizon
        predicted, _ = model._run(model.observe(video[:, :start]), model.horizon)
        return tf.reduce_mean(tf.square(predicted - video[:, start:end]))

    def batched():
        return tf.reduce_mean(model.loss_terms({"video": video}, training=True)["loss"])

    close(gradients(batched, model.trainable_variables), gradients(in_a_loop, model.trainable_variables))
    np.testing.assert_allclose(batched(), tf.reduce_mean(model.loss_terms({"video": video}, training=False)["loss"]))


def test_updates_once_per_clip_compile():
    """Those per frame are compiled for the tests of every model."""
    model = IAM4VP((8, 8, 1), context=2, filters=4, depth=2, horizon=2, blocks=1, updates="per_clip")
    video = clip(2, 5)[:, :, :8, :8]

    def step_and_rollout():
        for statistic in model.non_trainable_variables:  # the step moves those of batch norm
            statistic.assign(tf.zeros_like(statistic) if "mean" in statistic.name else tf.ones_like(statistic))
        terms = gradients(
            lambda: tf.reduce_mean(model.loss_terms({"video": video}, training=True)["loss"]), model.trainable_variables
        )
        return [*terms, model.imagine(model.observe(video[:, :2]), 3)[0]]

    close(tf.function(step_and_rollout, jit_compile=True)(), step_and_rollout(), 1e-3)


def test_blurring_does_not_wrap_around():
    video = np.zeros((1, 1, 16, 16, 1), np.float32)
    video[:, :, :, -1] = 1.0
    blurred = np.asarray(iam4vp._blurred(tf.constant(video), tf.constant([2.0])))
    assert (blurred[:, :, :, :3] == 0).all() and (blurred[:, :, :, -1] > 0.2).all()
    np.testing.assert_allclose(iam4vp._blurred(tf.ones_like(video), tf.constant([1.0])), np.ones_like(video), rtol=1e-6)


def test_stochastic_depth_skips_branches_by_the_seed_the_step_and_the_example():
    model = SimVP(SHAPE, **{**SimVP.small_variants[""], "blocks": 3, "drop_path": [0.4, 0.2]})
    model.build_on({"video": tf.TensorSpec([2, 6, *SHAPE], tf.float32)})
    batch = {"video": clip(2), "id": tf.constant([7, 8], tf.int64)}
    many = {**batch, "id": tf.range(4000, dtype=tf.int64)}
    factors = model.branch_factors(model.example_seeds(many, True)).numpy()
    kept, keep = factors > 0, np.array([0.6, 0.7, 0.8])
    np.testing.assert_allclose(factors[kept], np.broadcast_to(1 / keep[:, None], factors.shape)[kept], rtol=1e-6)
    np.testing.assert_allclose(kept.mean(axis=0), np.stack([keep, keep], 1), atol=0.03)
    assert np.abs(np.corrcoef(kept.reshape(4000, 6).T) - np.eye(6)).max() < 0.06

    def drawn(seed, batch=batch):
        model.compile(optimizer=keras.optimizers.SGD(0.0), seed=seed, jit_compile=False)
        return model.branch_factors(model.example_seeds(batch, True)).numpy()

    np.testing.assert_array_equal(drawn(3, {"id": batch["id"][1:]}), drawn(3)[1:])
    assert any((drawn(seed) != drawn(seed + 1)).any() for seed in range(4))
    before, losses = drawn(3), model.loss_terms(batch, True)["loss"]
    np.testing.assert_array_equal(losses, model.loss_terms(batch, True)["loss"])
    model.optimizer.iterations.assign(1)
    assert (model.branch_factors(model.example_seeds(many, True)).numpy()[:2] != before).any()

    block, x = model.translator[1], tf.random.stateless_normal([2, 4, 4, 8], [1, 2])
    np.testing.assert_array_equal(block(x, tf.zeros([2, 2])), x)
    np.testing.assert_allclose(block(x, tf.ones([2, 2])), block(x), rtol=1e-6)
    np.testing.assert_array_equal(block(x, tf.constant([[0.0, 0.0], [2.0, 2.0]]))[0], x[0])


def test_stochastic_depth_is_two_probabilities():
    for wrong in ([0.1], [0.1, 1.0], [-0.1, 0.1]):
        with pytest.raises(UserError, match="model.drop_path="):
            SimVP(SHAPE, **{**SimVP.small_variants[""], "drop_path": wrong})


def test_the_middle_pair_of_an_odd_number_of_channels_sees_both_parts(monkeypatch):
    block = BottleBlock(3, 3, hidden=4)
    block.build(None)
    monkeypatch.setattr(block, "branch", lambda mixed, time: mixed)
    parts = [tf.random.stateless_normal([2, 8, 8, 3], [n, 1]) for n in range(2)]
    found = block(block.terms(parts[0], 0), parts[1], None) - block.bias
    found -= tf.add_n([block.residual[n](part) for n, part in enumerate(parts)])
    convolved = tf.concat([block.depthwise[n](part) for n, part in enumerate(parts)], axis=-1)
    np.testing.assert_allclose(found, tf.reduce_sum(tf.reshape(convolved, [2, 8, 8, 3, 2]), axis=-1), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("convlstm_openstl", {"context": 0}, "model.context=0 must be at least 1"),
        ("convlstm_forecaster", {"context": 0}, "model.context=0 must be at least 1"),
        ("convlstm_openstl", {"hidden": []}, "model.hidden is empty"),
        ("convlstm_keras", {"hidden": [], "kernels": []}, "model.hidden is empty"),
        ("convlstm_keras", {"hidden": [4]}, "model.kernels has 3 entries and model.hidden 1"),
    ],
)
def test_networks_without_layers_or_observed_frames_are_refused(name, options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}"):
        registry.lookup("model", name)(SHAPE, **options)
