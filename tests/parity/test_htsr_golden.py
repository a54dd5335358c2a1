"""HTSR and CW-VAE against values computed with the references, and their published sizes."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import golden
from tfvp.errors import UserError
from tfvp.importers import htsr as importer
from tfvp.layers import latent
from tfvp.layers.temporal_cell import TemporalCell
from tfvp.models.htsr import HTSR

pytestmark = pytest.mark.usefixtures("plain_graphs")

SHAPE = (64, 64, 1)
RELEASED = {"posterior": "additive", "context_residual": True, "level_residual": True, "conv_cells": "legacy"}
VARIANTS = {"cwvae": {}, "htsr": RELEASED}
AS_RELEASED = {"output": "tanh", "legacy_offset": True}


# What the manifests call the model's options.
OPTIONS = {
    "levels": "levels",
    "factor": "factor",
    "tmp_abs_factor": "factor",
    "stoch": "stoch",
    "deter": "deter",
    "hidden": "hidden",
    "embed": "hidden",
    "enc_embed": "enc_embed",
    "embed_size": "enc_embed",
    "dec_stddev": "dec_stddev",
    "mean_only": "mean_only",
}


def model_of(system, case, image_shape):
    sizes = {option: case.hyper[name] for name, option in OPTIONS.items() if name in case.hyper}
    return HTSR(image_shape, **VARIANTS[system], **AS_RELEASED, **sizes)


def load(pairs, parameters):
    """Assigns values in the references' order of creation, which manifests and importer share."""
    assert len(pairs) == len(parameters)
    for (_, variable), value in zip(pairs, parameters.values()):
        variable.assign(value)


def injected(case, kind):
    return lambda level, first, ticks: tf.constant(case.inputs[f"eps_{kind}_level{level}"])[:, first : first + ticks]


@pytest.mark.parametrize("system", VARIANTS)
@pytest.mark.parametrize("name", ["encoder_T12_k2_L3", "encoder_T13_k2_L3_padded", "encoder_T36_k6_L3"])
def test_encoder(system, name):
    case = golden.case(system, name)
    video = case.inputs["video"]
    model = model_of(system, case, video.shape[2:])
    pairs = [pair for pair in importer.reference_variables(model) if pair[0].startswith("encoder")]
    load(pairs, case.parameters)
    levels, _ = model.encode(tf.constant(video))
    assert len(levels) == case.hyper["levels"]
    for level, features in enumerate(levels):
        case.check(f"level{level}", features)


@pytest.mark.parametrize("system", VARIANTS)
def test_cell(system):
    case = golden.case(system, "cell_observe3_imagine3")
    inputs = {key: tf.constant(value) for key, value in case.inputs.items()}
    batch, _, embedding_size = inputs["embedding"].shape
    residual, ticks = system == "htsr", case.hyper["observe_ticks"]
    cell = TemporalCell(
        case.hyper["stoch"],
        case.hyper["deter"],
        case.hyper["embed"],
        embedding_size,
        "additive" if residual else "plain",
        residual,
        legacy_offset=True,
    )
    layers = [cell.context_dense] if residual else []
    layers += [cell.prior_h1, cell.gru, cell.prior_h2, cell.prior_mean, cell.prior_stddev]
    layers += [cell.posterior_h1, cell.posterior_h2, cell.posterior_mean, cell.posterior_stddev]
    parts = [
        ("w", getattr(layer, p))
        for layer in layers
        for p in ("kernel", "recurrent_kernel", "bias")
        if hasattr(layer, p)
    ]
    load(parts, case.parameters)
    context, noise = inputs["context"], inputs["eps_prior"]
    observed, state = cell.observe(
        context[:, :ticks], inputs["embedding"][:, :ticks], inputs["eps_post"][:, :ticks], cell.zero_state(batch)
    )
    imagined, _ = cell.imagine(context[:, ticks:], noise[:, ticks:], state)
    for name, ours in (("mean", "prior_mean"), ("stddev", "prior_stddev"), ("h", "h")):
        case.check(f"observe_prior/{name}", observed[ours])
    case.check("observe_prior/z", observed["prior_mean"] + observed["prior_stddev"] * noise[:, :ticks])
    for name in ("mean", "stddev", "z", "h"):
        case.check(f"observe_posterior/{name}", observed[name])
        case.check(f"imagine_prior/{name}", imagined[name])


@pytest.mark.parametrize("system", VARIANTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_decoder(system, channels):
    case = golden.case(system, f"decoder_C{channels}")
    model = model_of(system, case, case.shape("video")[2:])
    pairs = [pair for pair in importer.reference_variables(model) if pair[0].startswith("decoder")]
    load(pairs, case.parameters)
    states = tf.constant(case.inputs["state"])
    video, _ = model.decode({"z": states[..., : model.stoch], "h": states[..., model.stoch :]})
    case.check("video", video)


@pytest.mark.parametrize("system", VARIANTS)
@pytest.mark.parametrize("frames", [36, 72])
def test_elbo(system, frames):
    case = golden.case(system, f"elbo_T{frames}")
    video = tf.constant(case.inputs["video"])
    model = model_of(system, case, video.shape[2:])
    pairs = importer.reference_variables(model)
    load(pairs, case.parameters)
    with tf.GradientTape() as tape:
        terms, outputs, divergences, decoded = model.elbo(video, injected(case, "post"))
        loss = tf.reduce_mean(terms["loss"])
    case.check_scalar("total_loss_per_frame", loss)
    case.check_scalar("nll_per_frame", tf.reduce_mean(terms["nll"]))
    case.check_scalar("kl_per_frame", tf.reduce_mean(terms["kl"]))
    case.check("decoded_video", decoded)
    for level in range(case.hyper["levels"]):
        case.check(f"kl_level{level}", divergences[level])
        for ours, theirs in (
            ("prior_mean", "prior/mean"),
            ("prior_stddev", "prior/stddev"),
            ("mean", "posterior/mean"),
            ("stddev", "posterior/stddev"),
            ("z", "posterior/z"),
            ("h", "posterior/h"),
        ):
            case.check(f"level{level}/{theirs}", outputs[level][ours])
    gradients = tape.gradient(loss, [variable for _, variable in pairs])
    case.check("grad_norm_per_parameter", np.array([np.linalg.norm(g) for g in gradients]))


@pytest.mark.parametrize("system", VARIANTS)
def test_open_loop(system):
    case = golden.case(system, "open_loop_T72_ctx36")
    video, context = tf.constant(case.inputs["video"]), case.hyper["context"]
    batch, frames = video.shape[:2]
    model = model_of(system, case, video.shape[2:])
    load(importer.reference_variables(model), case.parameters)
    embeddings, _ = model.encode(video[:, :context])
    start = model.zero_state(tf.zeros([batch, 2], tf.int64))
    observed, state = model.run_levels(start, embeddings, context, injected(case, "post"), begin=0)
    case.check("posterior_recon", model.decode(observed[0])[0])
    bottom = observed[0]
    sampled = bottom["prior_mean"] + bottom["prior_stddev"] * injected(case, "prior")(0, 0, context)
    case.check("prior_onestep", model.decode({"z": sampled, "h": bottom["h"]})[0])
    imagined, _ = model.run_levels(state, None, frames - context, injected(case, "prior"), begin=context)
    case.check("prior_multistep", model.decode(imagined[0])[0])


@pytest.mark.parametrize("system", VARIANTS)
def test_published_checkpoints_are_imported(system, tmp_path):
    """A checkpoint in the references' format, written by TensorFlow 1's Saver, with optimizer slots beside."""
    case = golden.case(system, "checkpoint_names_mean_only")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in case.parameters.items():
            tf.compat.v1.get_variable(name, initializer=value)
            tf.compat.v1.get_variable(f"{name}/Adam", initializer=np.zeros_like(value))
        tf.compat.v1.get_variable("global_step", initializer=np.int64(5))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "model"))
    shape, context = case.shape("decoded"), case.hyper["open_loop_ctx"]
    batch, frames, *image_shape = shape
    model = model_of(system, case, image_shape)
    importer.load_checkpoint(model, tmp_path / "model")
    video = tf.constant(case.draw("uniform", 0, shape))
    terms = model.elbo(video, lambda level, first, ticks: tf.zeros([batch, ticks, model.stoch]))[0]
    for name in ("loss", "nll", "kl"):
        case.check_scalar(name, tf.reduce_mean(terms[name]))
    rollout, _ = model.imagine(model.observe(video[:, :context]), frames - context)
    case.check("open_loop.prior_multistep", rollout)
    other = HTSR(image_shape, levels=case.hyper["levels"] - 1, mean_only=True)
    with pytest.raises(UserError, match="does not fit the configuration"):
        importer.load_checkpoint(other, tmp_path / "model")
    with pytest.raises(UserError, match="not a TensorFlow checkpoint"):
        importer.load_checkpoint(model, tmp_path / "nothing")


def test_divergences_equal_those_of_tfp():
    case = golden.case("htsr", "kl_closed_forms")
    mean_p, std_p, shift = (tf.constant(case.inputs[k]) for k in ("mean_p", "std_p", "delta_mean"))
    for name, std_q in (
        ("kl_additive", std_p + case.inputs["additive_std"]),
        ("kl_nvae", std_p * np.exp(case.inputs["delta_log_std"])),
    ):
        ours = latent.kl_diagonal(mean_p + shift, std_q, mean_p, std_p)
        case.check(name, ours)
        tfd = tfp.distributions
        q, p = tfd.MultivariateNormalDiag(mean_p + shift, std_q), tfd.MultivariateNormalDiag(mean_p, std_p)
        np.testing.assert_allclose(ours, tfd.kl_divergence(q, p), rtol=1e-4, atol=1e-4)


def test_balancing_shares_the_gradient_and_keeps_the_value():
    rng = np.random.default_rng(0)
    q = [
        tf.Variable(rng.normal(size=(2, 3)), dtype=tf.float32),
        tf.Variable(rng.uniform(0.5, 1, (2, 3)), dtype=tf.float32),
    ]
    p = [
        tf.Variable(rng.normal(size=(2, 3)), dtype=tf.float32),
        tf.Variable(rng.uniform(0.5, 1, (2, 3)), dtype=tf.float32),
    ]

    def gradients(share, legacy=False):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(latent.balanced_kl(q, p, share, legacy))
        return float(value), tape.gradient(value, [q[0], p[0]])

    value, (to_q, to_p) = gradients(None)
    shared, (less_q, less_p) = gradients(0.8)
    assert shared == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(less_q, 0.8 * to_q, rtol=1e-5)
    np.testing.assert_allclose(less_p, 0.2 * to_p, rtol=1e-5)
    assert gradients(0.8, legacy=True)[1][0] is None


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 12_466_817),
        ({"image_shape": (64, 64, 3)}, 12_470_147),
        ({"image_shape": (64, 64, 3), "stoch": 100, "deter": 800, "hidden": 800}, 34_396_627),
        (RELEASED, 12_650_253),
        ({**RELEASED, "image_shape": (64, 64, 3)}, 12_653_583),
        (
            {
                "posterior": "nvae",
                "context_residual": True,
                "level_residual": True,
                "conv_cells": "nvae",
                "spatial_groups": 3,
            },
            17_521_473,
        ),
    ],
)
def test_parameter_counts(options, count):
    model = HTSR(**{"image_shape": SHAPE, **options})
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == count


@pytest.mark.parametrize("frames", [36, 100, 300, 336, 1000])
def test_ticks(frames):
    model = HTSR(SHAPE, width=2, enc_embed=2, hidden=2, deter=2, stoch=1)
    expected = {36: (36, 6, 1), 100: (100, 17, 3), 300: (300, 50, 9), 336: (336, 56, 10), 1000: (1000, 167, 28)}[frames]
    assert tuple(model._ticks(frames, level) for level in range(3)) == expected
    if frames <= 100:
        levels, _ = model.encode(tf.zeros([1, frames, *SHAPE]))
        assert tuple(level.shape[1] for level in levels) == expected


def test_residual_posteriors_start_as_they_should():
    video = tf.constant(np.random.default_rng(0).uniform(size=(1, 8, *SHAPE)).astype(np.float32))
    small = {"levels": 2, "factor": 2, "enc_embed": 16, "width": 4}
    batch = {"video": video, "id": tf.range(1)}
    for options in ({"posterior": "nvae"}, {"posterior": "nvae", "spatial_groups": 3, "conv_cells": "nvae"}):
        terms = HTSR(SHAPE, **small, **options).loss_terms(batch, training=True)
        assert all(float(abs(terms[name][0])) < 1e-4 for name in terms if name.startswith("kl"))
    _, outputs, divergences, _ = HTSR(SHAPE, **small, posterior="additive").elbo(
        video, lambda level, first, n: tf.zeros([1, n, 20])
    )
    assert all(np.all(o["stddev"] > o["prior_stddev"]) for o in outputs)
    # Its wider posterior alone costs about 0.8 nats per dimension before anything is learned.
    assert float(tf.reduce_mean(divergences[0])) > 0.5 * 20


def test_likelihood_constants():
    """A zero video under a zero mean costs D (ln 2 pi / 2 + ln sigma) nats per frame."""
    for shape, sigma, expected in ((SHAPE, 1.0, 3763.97), ((64, 64, 3), 0.1, -17002.2)):
        model = HTSR(shape, levels=2, factor=2, enc_embed=4, width=4, dec_stddev=sigma, output="tanh")
        model.decoder.output_conv.kernel.assign(tf.zeros_like(model.decoder.output_conv.kernel))
        terms = model.loss_terms({"video": tf.zeros([1, 4, *shape]), "id": tf.range(1)}, training=True)
        assert float(terms["nll"][0]) == pytest.approx(expected, rel=1e-4)


def test_levels_can_be_blinded():
    """With the top level's observations off, its prior alone runs during the context."""
    model = HTSR(SHAPE, levels=2, factor=2, enc_embed=16, width=4)
    first, second = (tf.constant(np.random.default_rng(i).uniform(size=(1, 4, *SHAPE)), tf.float32) for i in (1, 2))
    seen = [model.observe(video)["levels"]["1"]["z"] for video in (first, second)]
    assert np.abs(seen[0] - seen[1]).max() > 1e-6
    model.use_obs = [True, False]
    blind = [model.observe(video)["levels"]["1"]["z"] for video in (first, second)]
    np.testing.assert_array_equal(blind[0], blind[1])


def test_one_flag_away_from_the_baseline():
    """Only the posterior differs: from the same state, prior-only rollouts are the same."""
    plain = HTSR(SHAPE, levels=2, factor=2, enc_embed=16, width=4)
    additive = HTSR(SHAPE, levels=2, factor=2, enc_embed=16, width=4, posterior="additive")
    for ours, theirs in zip(additive.variables, plain.variables, strict=True):
        ours.assign(theirs)
    state = plain.observe(tf.random.stateless_uniform([2, 4, *SHAPE], [1, 2]))
    np.testing.assert_allclose(plain.imagine(state, 5)[0], additive.imagine(state, 5)[0], atol=1e-6)
