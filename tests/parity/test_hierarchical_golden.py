"""Hierarchical video prediction against values computed with the reference, and its published sizes."""

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tests.parity.layouts import assign, coder_variables, generator_variables, recurrent_variables
from tfvp import compat
from tfvp.layers import label_maps, vid2vid
from tfvp.layers.label_coder import LabelDecoder, LabelEncoder
from tfvp.models.structure import StructureGenerator

pytestmark = pytest.mark.usefixtures("plain_graphs")

MODULES = ("encoder", "decoder", "predictor", "posterior", "prior")


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, -3)


def channels_last(x):
    return np.moveaxis(x, -3, -1)


def block_labels(seed, number, shape, classes=19):
    """Label maps [B, H, W] whose blocks of 8x8 pixels have one class each."""
    batch, height, width = shape
    cells = np.random.RandomState(seed * 1000 + 900 + number).randint(0, classes, (batch, height // 8, width // 8))
    return cells.repeat(8, axis=1).repeat(8, axis=2)


@pytest.mark.parametrize("kind", ["64", "128x256"])
def test_label_encoders_and_decoders(kind):
    case = golden.case("hierarchical", f"structure_autoencoder_{kind}")
    batch, classes, height, width = case.shape("log_probs")
    sizes = {"code_size": case.shape("code")[1], "width": case.shape("skip0")[1]}
    encoder, decoder = LabelEncoder(kind, **sizes), LabelDecoder(kind, classes, **sizes)
    encoder.build((None, None, None, None, classes))
    decoder.build(None)
    assign(coder_variables(encoder), case.modules["encoder"])
    assign(coder_variables(decoder), case.modules["decoder"])
    one_hot = tf.one_hot(block_labels(case.seed, 0, (batch, height, width), classes), classes)[:, None]
    codes, skips = encoder(one_hot)
    case.check("code", channels_first(codes[:, 0]))
    for i, skip in enumerate(skips):
        case.check(f"skip{i}", channels_first(skip[:, 0]))
    drawn = case.draw("normal", 1, case.shape("code"))
    log_probs = tf.nn.log_softmax(decoder(tf.nn.relu(channels_last(drawn))[:, None], decoder.skip_terms(skips)))
    case.check("log_probs", channels_first(log_probs[:, 0]))


def loaded(case, output, **options):
    """The model of a case whose output `output` is log-probabilities of a batch of frames."""
    _, classes, height, width = case.shape(output)
    latents, rnn_size = case.modules["posterior"]["mu_net.0.weight"].shape[:2]
    model = StructureGenerator(
        (height, width, 4),
        classes=classes,
        code_size=case.modules["posterior"]["embed.weight"].shape[1],
        latents=latents,
        rnn_size=rnn_size,
        width=next(iter(case.modules["encoder"].values())).shape[0],
        context=case.hyper["n_past"],
        **options,
    )
    for name in MODULES:
        network = getattr(model, name)
        variables = coder_variables(network) if "coder" in name else recurrent_variables(network)
        assign(variables, case.modules[name])
    return model


def frames_of(case, model, count):
    shape = (case.hyper["B"], *model.image_shape[:2])
    labels = np.stack([block_labels(case.seed, 10 + t, shape, model.classes) for t in range(count)], axis=1)
    return label_maps.pack(tf.zeros([*labels.shape, 3]), labels)


def noise_of(case, model, number, steps):
    """The draws of steps 1 ... steps - 1: float32 [B, steps - 1, *latent_shape]."""
    height, width, latents = model.latent_shape
    shape = (case.hyper["B"], latents, height, width)
    return np.stack([channels_last(case.draw("normal", number + i, shape)) for i in range(1, steps)], axis=1)


def test_structure_loss_and_gradients():
    case = golden.case("hierarchical", "structure_loss")
    batch, total = case.hyper["B"], case.hyper["n_past"] + case.hyper["n_future"]
    model = loaded(case, "step1.log_probs", beta=case.hyper["beta"])
    video, draws = frames_of(case, model, total), tf.constant(noise_of(case, model, 40, total))
    with tf.GradientTape(persistent=True) as tape:
        terms, decoded, (error, divergence) = model.elbo(video, draws, "train")
        loss = tf.reduce_mean(terms["loss"])
    for i in range(1, total):
        case.check(f"step{i}.log_probs", channels_first(tf.nn.log_softmax(decoded[:, i - 1])))
    codes, _ = model.encode(video, "train")
    posterior, _ = model.posterior(codes[:, 1:], model.posterior.zero_state(batch))
    prior, _ = model.prior(codes[:, :-1], model.prior.zero_state(batch))
    for i in range(1, total):
        case.check(f"step{i}.mu", channels_first(posterior["mean"][:, i - 1]))
        case.check(f"step{i}.prior_logvar", channels_first(prior["logvar"][:, i - 1]))
    case.check("nll", tf.reduce_mean(error, axis=0), rtol=1e-4)
    case.check("kl", tf.reduce_mean(divergence, axis=0), rtol=1e-4)
    case.check_scalar("loss", loss)
    for name in MODULES:
        norm = tf.linalg.global_norm(tape.gradient(loss, getattr(model, name).trainable_variables))
        case.check_scalar(f"gradnorm.{name}", norm, rtol=1e-3)


def test_structure_rollout(monkeypatch):
    case = golden.case("hierarchical", "structure_rollout")
    past, total = case.hyper["n_past"], case.hyper["n_eval"]
    model = loaded(case, f"log_probs{past}")
    noise = noise_of(case, model, 60, total)
    table = tf.constant(np.concatenate([np.zeros_like(noise[:, :1]), noise], axis=1))
    monkeypatch.setattr(model, "_draw", lambda seeds, stream, frames: tf.gather(table, frames, axis=1), raising=False)
    seen, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda *arguments: seen.append(decode(*arguments)) or seen[-1])
    state = model.observe(frames_of(case, model, past))
    carried = {k: v for k, v in state.items() if k not in ("seed", "frame", "posterior")}
    for i in range(past, total):
        frame, carried = model.predict_next(carried, table[:, i])
        case.check(f"log_probs{i}", channels_first(tf.nn.log_softmax(seen[-1][:, 0])))
        step = model.image_shape[0] // case.shape(f"labels{i}")[1]
        labels = label_maps.labels_of(frame)[:, ::step, ::step].numpy()
        second, best = np.moveaxis(np.sort(seen[-1][:, 0, ::step, ::step], axis=-1)[..., -2:], -1, 0)
        # Where two classes tie, rounding decides which of them is the greater.
        case.check(f"labels{i}", np.where(best - second < 1e-4, case.outputs[f"labels{i}"], labels), atol=0.1)


def size(layer):
    return sum(int(np.prod(v.shape)) for v in layer.trainable_variables)


@pytest.mark.parametrize(
    ("kind", "classes", "expected"),
    [
        ("64", 19, (2_039_744, 2_223_699)),
        ("256", 19, (15_313_856, 18_446_675)),
        ("128x256", 19, (5_580_224, 6_943_827)),
        ("64", 25, (2_043_200, 2_227_161)),
        ("128", 25, (8_237_888, 9_011_417)),
    ],
)
def test_published_sizes_of_label_coders(kind, classes, expected):
    encoder, decoder = LabelEncoder(kind), LabelDecoder(kind, classes)
    encoder.build((None, None, None, None, classes))
    decoder.build(None)
    assert (size(encoder), size(decoder)) == expected


@pytest.mark.parametrize(
    ("side", "classes", "total"), [((64, 64), 19, 25_801_619), ((128, 256), 19, 34_062_227), ((64, 64), 25, 25_808_537)]
)
def test_published_sizes_of_structure_generators(side, classes, total):
    model = StructureGenerator((*side, 4), classes=classes)
    assert size(model) == total
    assert size(model.predictor) == 10_326_400
    assert size(model.posterior) == size(model.prior) == 5_605_888
    bound = max(float(np.abs(tf.convert_to_tensor(v)).max()) for v in model.prior.cells[0].trainable_variables)
    assert 0.0624 < bound <= 0.0625


def test_the_loss_of_a_fresh_model_is_that_of_guessing():
    model = StructureGenerator((64, 64, 4), width=8, code_size=16, latents=4, rnn_size=8)
    labels = np.stack([block_labels(1, t, (1, 64, 64)) for t in range(20)], axis=1)
    video = label_maps.pack(tf.zeros([*labels.shape, 3]), labels)
    terms, _, _ = model.elbo(video, tf.zeros([1, 19, *model.latent_shape]), "train")
    assert float(terms["nll"][0]) / 20 == pytest.approx(19 / 20 * np.log(19), rel=0.01)


def test_divergence_is_a_sum_over_the_latent_s_grid():
    small, large = (StructureGenerator((8 * n, 64, 4), width=2, code_size=4, latents=3, rnn_size=4) for n in (8, 16))
    for model in (small, large):
        for network in model.gaussians:
            for variable in network.trainable_variables:
                variable.assign(tf.zeros_like(variable))
        model.posterior.heads[0].bias.assign([1.0, 0.0, 0.0])  # a shift of one deviation: half a nat everywhere
    for model, cells in ((small, 64), (large, 128)):
        video = tf.zeros([1, 3, *model.image_shape])
        terms, _, _ = model.elbo(video, tf.zeros([1, 2, *model.latent_shape]), "train")
        assert float(terms["kl"][0]) == pytest.approx(2 * 0.5 * cells, rel=1e-5)


@pytest.mark.parametrize("refresh", [False, True])
def test_training_freezes_the_feature_maps_of_the_last_observed_frame(refresh, monkeypatch):
    model = StructureGenerator(
        (16, 16, 4), classes=3, width=2, code_size=4, latents=2, rnn_size=4, context=2, refresh_skips=refresh
    )
    for layer in model.decoder.convs:
        layer.bias.assign(np.full(layer.filters, 0.1))
    labels = np.random.RandomState(0).randint(0, 3, (1, 5, 16, 16))
    video = label_maps.pack(tf.zeros([1, 5, 16, 16, 3]), labels)
    seen, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda codes, terms, mode: seen.append(terms) or decode(codes, terms, mode))
    model.elbo(video, tf.zeros([1, 4, *model.latent_shape]), "train")
    terms = model.skip_terms(model.encode(video, "train")[1])
    expected = list(range(4)) if refresh else [0, 1, 1, 1]
    assert len(seen[0]) == len(terms) == 3
    for feature_map, term in zip(seen[0], terms):
        np.testing.assert_allclose(feature_map, tf.gather(term, expected, axis=1), atol=1e-6)


def test_image_generator():
    case = golden.case("hierarchical", "image_generator")
    hyper, parameters = case.hyper, case.modules["generator"]
    batch, colours, height, width = case.shape("final")
    frames, classes = hyper["tG"], next(iter(parameters.values())).shape[1] // hyper["tG"]
    generator = vid2vid.FrameGenerator(hyper["ngf"], hyper["n_blocks"], foreground=True)
    generator.build((classes * frames, colours * (frames - 1)))
    parts = (
        generator.foreground,
        generator.from_labels,
        generator.from_frames,
        generator.image,
        generator.motion,
        generator.flow,
        generator.weight,
    )
    assign([v for part in parts for v in generator_variables(part)], parameters)
    labels = [block_labels(case.seed, 10 + t, (batch, height, width), classes) for t in range(frames)]
    stack = tf.concat([tf.one_hot(label, classes) for label in labels], axis=-1)
    previous = channels_last(2 * case.draw("uniform", 20, (batch, colours * (frames - 1), height, width)) - 1)
    mask = tf.cast(labels[-1] == hyper["fg_label"], tf.float32)[..., None]
    outputs = generator(stack, tf.constant(previous), mask)
    for name in ("raw", "flow", "weight"):
        case.check(name, channels_first(outputs[name]))
    # The longer the flow (here up to 60 pixels), the more it is rounded, and in the noise that it samples neighbours
    # differ by up to 2: five times the tolerance at 60 pixels.
    longest = float(tf.reduce_max(tf.abs(outputs["flow"])))
    case.check("final", channels_first(outputs["final"]), factor=max(1.0, longest / 12))


@pytest.mark.parametrize("name", ["image", "temporal"])
def test_discriminators(name):
    case = golden.case("hierarchical", f"{name}_discriminator")
    hyper, parameters = case.hyper, case.modules["discriminator"]
    channels = next(iter(parameters.values())).shape[1]
    discriminator = vid2vid.PatchDiscriminator(hyper["ndf"], hyper["n_layers"], hyper["num_D"])
    discriminator.build((None, None, None, channels))
    assign([v for layer in discriminator.convs for v in generator_variables(layer)], parameters)
    # The finest scale's first convolution has kernel 4, stride 2 and padding 2: n pixels become n / 2 + 1.
    batch, _, height, width = case.shape("scale0.feature0")
    frames = channels_last(case.draw("normal", 50, (batch, channels, 2 * (height - 1), 2 * (width - 1))))
    for scale, features in enumerate(discriminator(tf.constant(frames)[None])):
        for i, feature in enumerate(features):
            case.check(f"scale{scale}.feature{i}", channels_first(feature[0]))


@pytest.mark.parametrize("warp", [compat.warp, compat.bilinear_warp], ids=["stack", "own"])
def test_warp(warp):
    case = golden.case("hierarchical", "warp")
    batch, _, height, width = case.shape("warped")
    image = channels_last(case.draw("uniform", 30, case.shape("warped")))
    flow = 3 * channels_last(case.draw("normal", 31, (batch, 2, height, width)))
    case.check("warped", channels_first(warp(tf.constant(image), tf.constant(flow))))


def test_both_warps_agree_in_values_and_gradients():
    image = tf.random.stateless_uniform([2, 9, 11, 3], [1, 2])
    flow = 4 * tf.random.stateless_normal([2, 9, 11, 2], [3, 4])
    results = []
    for warp in (compat.warp, compat.bilinear_warp):
        with tf.GradientTape() as tape:
            tape.watch([image, flow])
            warped = warp(image, flow)
            loss = tf.reduce_sum(tf.square(warped))
        results.append([warped, *tape.gradient(loss, [image, flow])])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_flow_points_to_where_a_pixel_was():
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    picture = tf.constant(np.sin(rows / 3) * np.cos(columns / 4), tf.float32)[None, ..., None]
    moved = tf.roll(picture, 2, axis=2)  # two pixels to the right
    flow = tf.constant([-2.0, 0.0]) * tf.ones([1, 32, 32, 2])
    np.testing.assert_allclose(compat.warp(picture, flow)[:, :, 2:], moved[:, :, 2:], atol=1e-6)
    np.testing.assert_allclose(compat.warp(picture, tf.zeros([1, 32, 32, 2])), picture, atol=1e-6)


@pytest.mark.parametrize(("frames", "total"), [(6, 137_924_361), (3, 137_152_905)])
def test_published_sizes_of_image_generators(frames, total):
    generator = vid2vid.FrameGenerator(foreground=True)
    generator.build((19 * frames, 3 * (frames - 1)))
    assert size(generator) == total


@pytest.mark.parametrize(("channels", "total"), [(22, 2_785_985), (13, 2_776_769)])
def test_published_sizes_of_discriminators(channels, total):
    discriminator = vid2vid.PatchDiscriminator()
    discriminator.build((None, None, None, channels))
    assert size(discriminator) == total
    sides = [feature.shape[2] for feature in discriminator(tf.zeros([1, 1, 64, 64, channels]))[0]]
    assert sides == [33, 17, 9, 10, 11]
