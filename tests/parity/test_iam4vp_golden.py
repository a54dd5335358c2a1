"""IAM4VP against values computed with the reference, and its published sizes."""

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfvp import config
from tfvp.errors import UserError
from tfvp.importers import iam4vp as importer
from tfvp.layers import simvp
from tfvp.models.iam4vp import IAM4VP
from tfvp.training import optimizers

pytestmark = pytest.mark.usefixtures("plain_graphs")

SHAPE = (64, 64, 1)


def loaded(case):
    hyper = case.hyper
    model = IAM4VP(
        case.inputs["frames"].shape[2:],
        context=hyper["T_in"],
        horizon=hyper["T_out"],
        filters=hyper["hid_S"],
        depth=hyper["N_S"],
        blocks=hyper["blocks_executed"],
        legacy_dead_block=True,
    )
    importer.assign(model, case.parameters)
    return model


@pytest.mark.parametrize("name", ["forward_rollout_NT6", "forward_rollout_NT8"])
def test_passes_and_rollout(name, monkeypatch):
    case = golden.case("iam4vp", name)
    model = loaded(case)
    frames, horizon = tf.constant(case.inputs["frames"]), model.horizon
    batch = frames.shape[0]
    latents, skips = model.encoder(tf.reshape(frames, [-1, *model.image_shape]))
    case.check("encoder_latent", latents)
    case.check("encoder_skip", skips)
    predicted, encoded_context = [], model.encode(frames)
    seen = {}

    def keep_output(name, layer):
        call = layer.call

        def recorded(*arguments, **options):
            seen[name] = call(*arguments, **options)
            return seen[name]

        monkeypatch.setattr(layer, "call", recorded)

    for part, layer in (
        ("block0", model.bottle),
        ("block1", model.blocks[0]),
        ("last", model.blocks[-1]),
        ("dec", model.merge),
        ("attn", model.refine),
    ):
        keep_output(part, layer)
    for number in range(horizon):
        queue = tf.zeros([batch, horizon, *model.mask_token.shape[1:]])
        if predicted:
            encoded = model.encode_queued(tf.stack(predicted, axis=1))
            queue = tf.concat([encoded, queue[:, number:]], axis=1)
        slots = tf.repeat(tf.range(horizon)[None] < number, batch, axis=0)
        prediction = model.render(encoded_context, model.queue_of(queue, slots), tf.fill([batch], number))
        if number in case.numbers(r"t(\d+)/prediction"):
            case.check(f"t{number}/prediction", prediction)
            case.check(f"t{number}/time_embedding", model.time_embedding(tf.fill([batch], number)))
            for part in ("block0", "block1", "dec", "attn"):
                case.check(f"t{number}/{part}", seen[part])
            case.check(f"t{number}/predictor_out", simvp.unfolded(seen["last"], model.context))
            if number:
                case.check(f"t{number}/lp_latent_of_last_queued", encoded[:, -1])
        predicted.append(prediction)
    monkeypatch.undo()
    video = np.concatenate(list(model.rollout(frames, horizon)), axis=2)[:, 0]
    for number in range(horizon):
        case.check(f"rollout/frame{number}", predicted[number])
        case.check(f"rollout/frame{number}", video[:, number])


GROUPS = {
    "encoder": "enc.",
    "lp": "lp.",
    "predictor": "hid.",
    "decoder": "dec.",
    "time_mlp": "time_mlp.",
    "attn": "attn.",
    "readout": "readout.",
    "mask_token": "mask_token",
}


@pytest.mark.parametrize("name", ["loss_gradients_NT6", "loss_gradients_NT8"])
def test_losses_and_gradients(name):
    case = golden.case("iam4vp", name)
    model = loaded(case)
    frames = case.inputs["frames"]
    for number in case.numbers(r"target_frame_t(\d+)"):
        future = np.zeros((len(frames), model.horizon, *model.image_shape), np.float32)
        future[:, number] = case.inputs[f"target_frame_t{number}"]
        batch = {"video": tf.concat([frames, future], axis=1)}
        if number:
            queued = np.zeros_like(future)
            queued[:, :number] = case.inputs[f"queue_for_t{number}"]
            batch["queued"] = tf.constant(queued)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.frame_terms(batch, number)["loss"])
        case.check_scalar(f"t{number}/loss", loss)
        pairs = importer.variables(model)
        gradients = tape.gradient(loss, {name: variables for name, (variables, _) in pairs.items()})
        reference_layout = {name: to_reference(gradients[name], pairs[name]) for name in pairs}
        missing = [n for n, g in reference_layout.items() if g is None]
        case.check_scalar(f"t{number}/n_params_without_gradient", len(missing))
        for group, prefix in GROUPS.items():
            members = [g for n, g in reference_layout.items() if n.startswith(prefix) and g is not None]
            norm = np.sqrt(sum(np.sum(np.square(g)) for g in members))
            case.check_scalar(f"t{number}/grad_norm/{group}", norm, rtol=1e-3, atol=1e-9)
        norms = np.array([0.0 if g is None else np.linalg.norm(g) for g in reference_layout.values()])
        case.check(f"t{number}/grad_norm_per_parameter", norms)
        for name in ("enc.enc.0.conv.conv.weight", "dec.readout.bias", "hid.st_block.0.gamma"):
            case.check(f"t{number}/grad/{name}", reference_layout[name])


def to_reference(gradient, pair):
    """Gradients of our variables, in the layout of the reference's parameter; None where all are None."""
    variables, order = pair
    if all(g is None for g in gradient):
        return None
    return order.backward(
        [np.zeros(v.shape, np.float32) if g is None else g.numpy() for v, g in zip(variables, gradient)]
    )


def test_time_embedding():
    case = golden.case("iam4vp", "time_embedding_mlp")
    heads = case.numbers(r"block(\d+)_time_head")
    hyper, tau = case.hyper, case.inputs["tau"]
    model = IAM4VP(
        (hyper["height"], hyper["width"], hyper["channels"]),
        context=hyper["T_in"],
        horizon=hyper["T_out"],
        filters=hyper["hid_S"],
        blocks=max(heads) + 1,
    )
    importer.assign(model, case.parameters, partial=True)
    half = case.shape("sinusoid")[1] // 2
    angles = tau.astype(np.float32)[:, None] * np.exp(-np.arange(half) * np.log(1e4) / (half - 1)).astype(np.float32)
    case.check("sinusoid", tf.concat([tf.sin(angles), tf.cos(angles)], 1), atol=1e-4)
    time = model.time_embedding(tf.constant(tau // hyper["time_scale"], tf.int32))
    case.check("mlp", time)
    for number in heads:
        block = model.blocks[number - 1] if number else model.bottle
        case.check(f"block{number}_time_head", block.time_head(simvp.exact_gelu(time)))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 31_569_409),
        ({"legacy_dead_block": True}, 35_351_809),
        ({"blocks": 6, "legacy_dead_block": True}, 27_787_009),
        ({"blocks": 3, "legacy_dead_block": True}, 16_439_809),
    ],
)
def test_published_sizes(options, count):
    assert sum(int(np.prod(v.shape)) for v in IAM4VP(SHAPE, **options).trainable_variables) == count


def test_slots_are_ordered_and_masked():
    model = IAM4VP((16, 16, 1), **IAM4VP.small_variants[""])
    for v in model.trainable_variables:
        v.assign(v + 0.1 * tf.random.stateless_normal(v.shape, [1, 2]))
    video = tf.random.stateless_uniform([2, 3, 16, 16, 1], [3, 4])
    latents = tf.random.stateless_normal([2, 3, 8, 8, 4], [5, 6])
    encoded_context = model.encode(video)

    def predicted(latents, count):
        slots = tf.repeat(tf.range(3)[None] < count, 2, axis=0)
        return model.render(encoded_context, model.queue_of(latents, slots), tf.fill([2], count)).numpy()

    beyond = tf.concat([latents[:, :1], latents[:, 1:] + 1.0], axis=1)
    np.testing.assert_array_equal(predicted(latents, 1), predicted(beyond, 1))
    assert np.abs(predicted(latents, 2) - predicted(latents[:, ::-1], 2)).max() > 1e-6
    with tf.GradientTape() as tape:
        slots = tf.repeat(tf.range(3)[None] < 2, 2, axis=0)
        loss = tf.reduce_sum(model.render(encoded_context, model.queue_of(latents, slots), tf.fill([2], 2)) ** 2)
    norms = tf.norm(tf.reshape(tape.gradient(loss, model.mask_token), [3, -1]), axis=1).numpy()
    assert (norms[:2] == 0).all() and norms[2] > 0


def test_without_its_branch_the_predictor_is_the_residual_convolution():
    model = IAM4VP((16, 16, 1), **IAM4VP.small_variants[""])
    for block in (model.bottle, *model.blocks):
        block.gamma.assign(tf.zeros_like(block.gamma))
    observed, queue = (tf.random.stateless_normal([1, 8, 8, 12], [i, 0]) for i in (1, 2))
    x = model.bottle(model.bottle.terms(observed, 0), queue, tf.zeros([1, 64]))
    for block in model.blocks:
        x = block(x, tf.zeros([1, 64]))
    expected = model.bottle.residual[0](observed) + model.bottle.residual[1](queue)
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_published_schedule():
    """One cycle from its peak on, over 1,000 batches of 10 updates each."""
    settings = config.load(golden.ROOT / "configs" / "iam4vp" / "mmnist.yml").train
    schedule = optimizers._learning_rate(settings, 1000, 100, 10)
    low, high = settings.cycle_momentum
    momentum = optimizers.OneCycle(low, 1000, settings.cycle_warmup, high, high, 10)
    for batch, rate, beta in ((0, 9.9999753e-4, 0.85000025), (500, 4.984313e-4, 0.9001571), (999, 4e-9, 0.95)):
        for update in (0, 9):
            step = tf.constant(10 * batch + update)
            assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)
            assert float(momentum(step)) == pytest.approx(beta, rel=1e-5)


def test_several_steps_in_one_call_are_refused():
    model = IAM4VP((16, 16, 1), **IAM4VP.small_variants[""])
    with pytest.raises(UserError, match="model.updates=per_clip"):
        model.compile(optimizer="sgd", steps_per_execution=2)


def test_short_clips_are_refused():
    model = IAM4VP((16, 16, 1), **IAM4VP.small_variants[""])
    with pytest.raises(UserError, match="context [+] model.horizon = 6 frames, not 5"):
        model.loss_terms({"video": tf.zeros([1, 5, 16, 16, 1])}, True)


def test_published_size_of_simvp():
    from tfvp.models.simvp import SimVP

    count = sum(int(np.prod(v.shape)) for v in SimVP(SHAPE).trainable_variables)
    assert count == 46_769_665 and round(count / 1e6, 1) == 46.8  # OpenSTL's table: 46.8 M
