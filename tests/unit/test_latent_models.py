"""What the seed, the age of a stream and the options of HTSR, CW-VAE and SVG change, and what they must not."""

import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfvp import config, registry
from tfvp.errors import UserError
from tfvp.layers import noise
from tfvp.models.htsr import HTSR
from tfvp.models.svg import SVG
from tfvp.prediction.futures import Futures
from tfvp.serving.portable import PortableModel
from tfvp.serving.signatures import ServedModel
from tfvp.training import checks, loop

SMALL = {"levels": 2, "factor": 2, "stoch": 4, "deter": 8, "hidden": 8, "enc_embed": 8, "width": 4}
SAMPLED = {"svg": "lp", "htsr": "cwvae", "convlstm_openstl": ""}  # noise, noise per level, masks


def compiled(name, seed):
    cls = registry.lookup("model", name)
    options = {**cls.small_variants[SAMPLED[name]], **({"sampling_rate": 0.5} if "openstl" in name else {})}
    settings = config.from_dict({"model": {"name": name, **options}, "train": {"seed": seed}})
    keras.utils.set_random_seed(0)
    model = cls(cls.small_image_shape, **options)
    spec = {"video": tf.TensorSpec([2, 10, *cls.small_image_shape]), "id": tf.TensorSpec([2], tf.int64)}
    model.build_on(spec)
    loop.compile_model(settings, model, 1)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLED)
def test_the_seed_of_training_reaches_noise_and_masks(name):
    models = [compiled(name, seed) for seed in (1, 1, 2)]
    video = tf.random.stateless_uniform([2, 10, *models[0].image_shape], [1, 2])
    batch = {"video": video, "id": tf.range(2, dtype=tf.int64)}
    for variables in zip(*(model.trainable_variables for model in models), strict=True):
        value = variables[0] + 0.1 * tf.random.stateless_normal(variables[0].shape, [3, 4])
        for variable in variables:
            variable.assign(value)
    first, _, other = (np.asarray(model.loss_terms(batch, training=False)["loss"]) for model in models)
    np.testing.assert_array_equal(first, other)  # runs with different seeds are validated on the same noise
    first, same, other = (np.asarray(model.loss_terms(batch, training=True)["loss"]) for model in models)
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-5


def test_events_may_have_a_number_per_example():
    seeds = tf.constant([[1, 2], [3, 4]], tf.int64)
    numbers = tf.constant([[5, 6, 7], [0, 1, 2]])
    drawn = noise.normal_at(seeds, numbers, (3,))
    for b in range(2):
        np.testing.assert_allclose(drawn[b], noise.normal_at(seeds[b : b + 1], numbers[b], (3,))[0], rtol=1e-6)
    np.testing.assert_allclose(drawn[:1], noise.normal_at(seeds[:1], numbers[:1], (3,)), rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"posterior": "nvae", "spatial_groups": 2, "conv_cells": "nvae"}])
def test_means_draw_nothing(options, monkeypatch):
    shape = (64, 64, 1) if not options else (32, 32, 1)
    model = HTSR(shape, **SMALL, **options, mean_only=True)
    for variable in model.trainable_variables:  # heads at zero would hide what the noise does
        variable.assign(variable + 0.1 * tf.random.stateless_normal(variable.shape, [1, 2]))
    twin = HTSR(shape, **SMALL, **options, latent_temperature=0.0, spatial_temperature=0.0)
    for ours, theirs in zip(twin.variables, model.variables, strict=True):
        ours.assign(theirs)
    video = tf.random.stateless_uniform([2, 4, *shape], [3, 4])
    state = model.observe(video)
    expected, _ = twin.imagine(state, 5)

    def refuse(*_):
        raise AssertionError("a sample was drawn")

    monkeypatch.setattr(noise, "normals", refuse)
    assert not model.stochastic
    np.testing.assert_allclose(model.imagine(model.observe(video), 5)[0], expected, atol=1e-6)
    terms = [
        model.loss_terms({"video": video, "id": ids}, training=True)["loss"] for ids in (tf.range(2), 5 + tf.range(2))
    ]
    np.testing.assert_array_equal(*terms)
    np.testing.assert_array_equal(model.reconstruct(video), model.reconstruct(video, seed=tf.ones([2, 2], tf.int64)))


def test_refreshed_skips_begin_with_the_last_observed_frame():
    """The released code takes the maps of x_{i-1} for every predicted frame x_i, the first one included."""
    small = {"width": 2, "code_size": 4, "latents": 2, "rnn_size": 4, "context": 3, "last_frame_skip": True}
    model = SVG((32, 32, 1), skip_frame="reference", **small)
    video = tf.random.stateless_uniform([1, 3, 32, 32, 1], [1, 2])
    terms = model.skip_terms(model.encode(video, "running")[1])
    state = model.observe(video)
    np.testing.assert_allclose(state["skip_terms"]["map0"], terms[0][:, -1], atol=1e-6)
    assert np.abs(terms[0][:, -1] - terms[0][:, -2]).max() > 1e-5


@pytest.mark.parametrize("name", registry.names("model"))
def test_reasons_name_options(name):
    cls = registry.lookup("model", name)
    named = re.findall(r"[a-z_]+(?:\.[a-z_]+)*", cls.context_multiple_reason)
    for word in named:
        section, _, option = word.partition(".")
        assert section == "model" and option in registry.options("model", name), word
    assert named or cls.context_multiple == 1


def test_no_clip_is_predicted_alone_with_statistics_of_the_batch():
    model = SVG((32, 32, 1), **SVG.small_variants["lp"], bn_mode="batch")
    video = tf.random.stateless_uniform([2, 3, 32, 32, 1], [1, 2])
    refused = {
        "a batch of 1": lambda: next(model.rollout(video[:1], 2)),
        "a single clip": lambda: Futures(model),
        "a request of one clip": lambda: ServedModel(model),
        "--batch 1": lambda: PortableModel(model, 1, 3, 2),
    }
    for what, predict in refused.items():
        with pytest.raises(UserError, match=f"^{what} is too few: svg predicts 2 clips .* model.bn_mode=running"):
            predict()
    assert SVG((32, 32, 1), **SVG.small_variants["lp"]).fewest_clips == 1


def test_no_clip_trains_alone_where_codes_are_normalized_over_clips():
    settings = {"batch_size": 4, "accumulate": 2}
    model = SVG((32, 32, 1), **SVG.small_variants["lp"])
    checks.check_micro_batches(config.from_dict({"train": settings}).train, model)
    alone = config.from_dict({"train": {**settings, "accumulate": 4}}).train
    with pytest.raises(UserError, match="train.accumulate=4 makes micro-batches of 1: svg learns from 2 clips"):
        checks.check_micro_batches(alone, model)


def test_residual_cells_with_spatial_latents_are_those_that_are_asked_for():
    models = {
        cells: HTSR((32, 32, 1), **SMALL, posterior="nvae", spatial_groups=2, conv_cells=cells)
        for cells in ("none", "legacy", "nvae")
    }
    for cells, model in models.items():
        modes = [cell.mode for cell in (model.encoder.cell, *model.decoder.cells) if cell is not None]
        assert modes == ([] if cells == "none" else [cells] * 5)
    frames, divergences = models["none"].decoder(tf.ones([2, SMALL["stoch"] + SMALL["deter"]]), None)
    assert frames.shape == (2, 32, 32, 1) and divergences == []
