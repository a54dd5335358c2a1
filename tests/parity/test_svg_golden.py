"""SVG against values computed with the reference, and its published sizes."""

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfvp.importers.svg import assign
from tfvp.layers.svg_coder import FrameDecoder, FrameEncoder
from tfvp.models.svg import SVG, dense_recurrent

MODULES = ("encoder", "decoder", "predictor", "posterior", "prior")


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, -3)


def channels_last(x):
    return tf.constant(np.moveaxis(x, -3, -1))


def load(case, networks):
    """Gives {module name: layer} the parameters of a case, in the order of its manifest."""
    for name, layer in networks.items():
        named = {(p["name"]): p for p in case.manifest["parameters"] if p["module"] == name}
        values = {n: golden._parameter(case.manifest["seed"], p) for n, p in named.items()}
        assign(layer, values)


@pytest.mark.parametrize(("kind", "side"), [("dcgan", 64), ("dcgan", 128), ("vgg", 64), ("vgg", 128)])
def test_encoders_and_decoders(kind, side):
    case = golden.case("svg", f"{kind}{side}")
    batch, channels = case.manifest["inputs"]["x"]["shape"][:2]
    encoder, decoder = FrameEncoder(kind, side), FrameDecoder(kind, side, channels)
    encoder.build((None, None, side, side, channels))
    decoder.build(None)
    load(case, {"encoder": encoder, "decoder": decoder})
    x = channels_last(golden.draw(1, "uniform", 0, (batch, channels, side, side)))[:, None]
    vector = tf.tanh(golden.draw(1, "normal", 1, (batch, 128)))[:, None]
    for name, mode in (("train", "batch"), ("eval", "running")):
        if f"{name}.code.sub" not in case.outputs:
            continue
        codes, skips = encoder(x, mode=mode)
        # Statistics of three values whose mean is up to 79 times their deviation: rounding grows as much.
        case.check(f"{name}.code", codes[:, 0], factor=4.0 if batch < 4 and name == "train" else 1.0)
        for i, skip in enumerate(skips):
            case.check(f"{name}.skip{i}", channels_first(skip[:, 0]))
        case.check(f"{name}.frame", channels_first(decoder(vector, decoder.skip_terms(skips), mode=mode)[:, 0]))


def test_recurrent_modules():
    case = golden.case("svg", "recurrent")
    batch = case.manifest["B"]
    predictor = dense_recurrent(256, 2, {"code": (128, "tanh")})
    gaussian = dense_recurrent(256, 1, {"mean": (10, None), "logvar": (10, None)})
    predictor.build((None, None, 138))
    gaussian.build((None, None, 128))
    names = {p["module"] for p in case.manifest["parameters"]}
    load(case, {n: predictor if "predictor" in n else gaussian for n in names})
    inputs = np.stack([golden.draw(1, "normal", 10 + i, (batch, 138)) for i in range(3)], axis=1)
    outputs, _ = predictor(tf.constant(inputs), predictor.zero_state(batch))
    codes = np.tanh(np.stack([golden.draw(1, "normal", 20 + i, (batch, 128)) for i in range(3)], axis=1))
    found, _ = gaussian(tf.constant(codes), gaussian.zero_state(batch))
    for i in range(3):
        case.check(f"predictor.step{i}", outputs["code"][:, i])
        case.check(f"gaussian.step{i}.mu", found["mean"][:, i])
        case.check(f"gaussian.step{i}.logvar", found["logvar"][:, i])
        eps = golden.draw(1, "normal", 30 + i, (batch, 10))
        case.check(f"gaussian.step{i}.z", found["mean"][:, i] + tf.exp(0.5 * found["logvar"][:, i]) * eps)


def loaded(case, prior, **options):
    model = SVG((64, 64, 1), prior=prior, context=case.manifest["hyper"]["n_past"], skip_frame="reference", **options)
    load(case, {name: getattr(model, name) for name in MODULES if getattr(model, name) is not None})
    return model


def frames_of(case, count):
    size = case.manifest["hyper"]["B"]
    return tf.stack([channels_last(golden.draw(1, "uniform", 40 + t, (size, 1, 64, 64))) for t in range(count)], axis=1)


@pytest.mark.parametrize(("prefix", "prior"), [("lp", "learned"), ("fp", "fixed")])
def test_training_loss_and_gradients(prefix, prior):
    case = golden.case("svg", f"{prefix}_loss")
    hyper = case.manifest["hyper"]
    model, total = loaded(case, prior, beta=hyper["beta"]), hyper["n_past"] + hyper["n_future"]
    draws = np.stack([golden.draw(1, "normal", 60 + i, (hyper["B"], 10)) for i in range(1, total)], axis=1)
    with tf.GradientTape(persistent=True) as tape:
        terms, decoded, (error, divergence) = model.elbo(frames_of(case, total), tf.constant(draws), "train")
        loss = tf.reduce_mean(terms["loss"])
    for i in range(1, total):
        case.check(f"frame{i}", channels_first(decoded[:, i - 1]))
    np.testing.assert_allclose(tf.reduce_mean(error, axis=0), case.outputs["mse"], rtol=1e-4)
    np.testing.assert_allclose(tf.reduce_mean(divergence, axis=0), case.outputs["kl"], rtol=1e-4)
    case.check_scalar("loss", loss)
    for name in MODULES:
        if getattr(model, name) is not None:
            norm = tf.linalg.global_norm(tape.gradient(loss, getattr(model, name).trainable_variables))
            assert float(norm) == pytest.approx(float(case.outputs[f"gradnorm.{name}"]), rel=1e-3), name


@pytest.mark.parametrize(("name", "mode"), [("train", "batch"), ("eval", "running")])
@pytest.mark.parametrize(("prefix", "prior"), [("lp", "learned"), ("fp", "fixed")])
def test_generation(prefix, prior, name, mode, monkeypatch):
    case = golden.case("svg", f"{prefix}_generate_{name}")
    hyper = case.manifest["hyper"]
    model = loaded(case, prior, bn_mode=mode, sample_context=prefix == "lp")
    noise = {i: golden.draw(1, "normal", 80 + i, (hyper["B"], 10)) for i in range(1, hyper["n_eval"])}
    table = tf.constant(np.stack([np.zeros_like(noise[1]), *noise.values()], axis=1))
    monkeypatch.setattr(model, "_draw", lambda seeds, stream, frames: tf.gather(table, frames, axis=1), raising=False)
    past = hyper["n_past"]
    state = model.observe(frames_of(case, past))
    video, _ = model.imagine(state, hyper["n_eval"] - past)
    for i in range(past, hyper["n_eval"]):
        case.check(f"generated{i}", channels_first(video[:, i - past]))


ENCODERS = {
    ("dcgan", 64): ((3_805_376, 6_558_529), (3_807_424, 6_562_627)),
    ("dcgan", 128): ((8_001_216, 14_948_673), (8_003_264, 14_952_771)),
    ("vgg", 64): ((8_688_448, 11_821_505), (8_689_600, 11_822_659)),
    ("vgg", 128): ((15_770_944, 21_263_297), (15_772_096, 21_264_451)),
}


def size(layer):
    return sum(int(np.prod(v.shape)) for v in layer.trainable_variables)


@pytest.mark.parametrize(("kind", "side"), ENCODERS)
def test_published_sizes_of_encoders_and_decoders(kind, side):
    for channels, expected in zip((1, 3), ENCODERS[kind, side]):
        encoder, decoder = FrameEncoder(kind, side), FrameDecoder(kind, side, channels)
        encoder.build((None, None, side, side, channels))
        decoder.build(None)
        assert (size(encoder), size(decoder)) == expected


@pytest.mark.parametrize(
    ("options", "channels", "count"),
    [
        ({}, 1, 12_614_057),
        ({"encoder": "vgg", "latents": 64}, 3, 22_831_747),
        ({"encoder": "vgg", "latents": 24, "prior": "fixed"}, 1, 22_206_385),
    ],
    ids=["smmnist", "bair", "kth"],
)
def test_published_sizes(options, channels, count):
    assert size(SVG((64, 64, channels), **options)) == count


@pytest.mark.parametrize("past", [2, 5, 10])
@pytest.mark.parametrize(("skip_frame", "lag"), [("last", 1), ("reference", 2)])
def test_frozen_maps_are_those_of_the_right_frame(past, skip_frame, lag, monkeypatch):
    model = SVG((64, 64, 1), width=1, code_size=4, latents=2, rnn_size=4, context=past, skip_frame=skip_frame)
    video = tf.random.stateless_uniform([1, past + 3, 64, 64, 1], [1, 2])
    terms = model.skip_terms(model.encoder(video, mode="running")[1])
    for cut in range(1, past):
        state = model.observe(video[:, cut:past], model.observe(video[:, :cut]))
        np.testing.assert_allclose(state["skip_terms"]["map0"], terms[0][:, past - lag], atol=1e-6)
    seen, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda codes, given, mode: seen.append(given) or decode(codes, given, mode))
    model.elbo(video, tf.zeros([1, past + 2, 2]), "running")
    expected = [min(t, past - lag) for t in range(past + 2)]
    assert len(seen[0]) == len(terms) == 4
    for found, term in zip(seen[0], terms):
        np.testing.assert_allclose(found, tf.gather(term, expected, axis=1), atol=1e-6)
    assert np.abs(terms[0][:, 0] - terms[0][:, 1]).max() > 1e-4, "frames that do not differ test nothing"


def test_biases_start_as_published():
    model = SVG((64, 64, 1))
    lstm = model.predictor.cells[0]
    for weight in (lstm.kernel, lstm.recurrent_kernel, lstm.bias, lstm.recurrent_bias):
        value = tf.convert_to_tensor(weight).numpy()
        assert np.abs(value).max() <= 1 / 16 and value.std() == pytest.approx(1 / 16 / 3**0.5, rel=0.05)
    kernel = tf.convert_to_tensor(model.encoder.blocks[1][0].conv.kernel).numpy()
    assert kernel.std() == pytest.approx(0.02, rel=0.02)
