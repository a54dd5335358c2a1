"""Losses of the image generator on values that can be worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.golden import ROOT
from tfvp import compat, config
from tfvp.layers import adversarial, label_maps
from tfvp.layers.vid2vid import PatchDiscriminator
from tfvp.models.hierarchical import HierarchicalVideo
from tfvp.training import loop

pytestmark = pytest.mark.usefixtures("plain_graphs")


def test_temporal_triplets_are_the_published_ones():
    frames = lambda old, new, spacing: [  # noqa: E731
        [end - 2 * spacing, end - spacing, end] for end in adversarial.triplet_ends(old, new, spacing)
    ]
    assert frames(0, 10, 1) == [[7, 8, 9], [4, 5, 6], [1, 2, 3]]
    assert frames(0, 10, 3) == [[3, 6, 9], [0, 3, 6]]
    assert frames(0, 6, 3) == []  # the first chunk on Cityscapes has none
    assert frames(6, 10, 3) == [[9, 12, 15], [6, 9, 12], [3, 6, 9], [0, 3, 6]]


def test_triplets_hold_their_frames_and_flows():
    numbers = tf.range(10, dtype=tf.float32)[None, :, None, None, None]
    frames, flows = tf.tile(numbers, [1, 1, 2, 2, 3]), tf.tile(20 * numbers, [1, 1, 2, 2, 2])
    seen = adversarial.triplets(frames, flows, adversarial.triplet_ends(0, 10, 3), 3, 20.0)
    assert seen.shape == (1, 2, 2, 2, 13)
    np.testing.assert_array_equal(seen[0, 0, 0, 0], [3] * 3 + [6] * 3 + [9] * 3 + [6] * 2 + [9] * 2)


def test_masked_pixels_stay_in_the_mean():
    ones, mask = tf.ones([2, 1, 4, 4, 3]), tf.concat([tf.ones([2, 1, 1, 4, 1]), tf.zeros([2, 1, 3, 4, 1])], axis=2)
    np.testing.assert_allclose(adversarial.l1(3 * ones, ones, mask), [0.5, 0.5])
    np.testing.assert_allclose(adversarial.l1(3 * ones, ones), [2.0, 2.0])


def test_adversarial_terms():
    scale = [tf.fill([2, 1, 3, 3, 1], v) for v in (1.0, 2.0, 3.0, 4.0, 0.25)]
    real = [tf.fill([2, 1, 3, 3, 1], v) for v in (1.5, 2.5, 3.5, 4.5, 9.0)]
    np.testing.assert_allclose(adversarial.least_squares([scale], 1.0), [0.5625] * 2)
    np.testing.assert_allclose(adversarial.least_squares([scale, scale], 0.0), [0.125] * 2)
    np.testing.assert_allclose(adversarial.feature_matching([scale], [real]), [2.0] * 2)  # the logits do not count
    np.testing.assert_allclose(adversarial.feature_matching([scale] * 2, [real] * 2), [2.0] * 2)


def test_perceptual_loss_weighs_deep_layers_most(monkeypatch):
    made = []

    def features(x, layers, first=False, convolve=None):
        assert first
        made.append(x)
        return [x * (n + 1) for n in range(5)]

    monkeypatch.setattr(adversarial.vgg, "features", features)
    monkeypatch.setattr(adversarial.vgg, "layers", lambda: None)
    fake, real = tf.ones([2, 3, 4, 4, 3]), tf.zeros([2, 3, 4, 4, 3])
    expected = sum(w * (n + 1) for n, w in enumerate((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)))
    assert adversarial.perceptual(fake, real).numpy() == pytest.approx([expected] * 2)
    assert made[0].shape == (6, 4, 4, 3)


@pytest.fixture(scope="module")
def pair():
    """(a small pair, the inputs of one chunk of three frames)."""
    options = {
        "structure": {"classes": 3, "width": 2, "code_size": 4, "latents": 2, "rnn_size": 4},
        "perceptual": "off",
    }
    options |= {"window": 3, "chunk": 3, "width": 2, "blocks": 2, "discriminator_width": 2, "foreground": [1]}
    model = HierarchicalVideo((16, 16, 4), **options, temporal_scales=1)
    random = np.random.default_rng(0)
    video = random.uniform(size=(2, 5, 16, 16, 4)).astype(np.float32)
    video[..., 3] = random.integers(0, 3, video.shape[:-1]) / 255
    flow = tf.constant(random.normal(size=(2, 5, 16, 16, 2)), tf.float32)
    batch = {"video": tf.constant(video), "flow": flow}
    return model, model.chunk_inputs(batch, model.before_first_chunk(batch), 2)


def test_one_pass_over_a_rollout_has_the_gradients_of_rendering_frame_by_frame(pair, monkeypatch):
    model, inputs = pair
    variables, results = model.generator.trainable_variables, []
    for render in (model.render_for_training, model.render):
        monkeypatch.setattr(model, "render_for_training", render)
        with tf.GradientTape() as tape:
            terms = model.generator_terms(inputs)
            loss = tf.reduce_mean(terms["loss"])
        results.append((terms, tape.gradient(loss, variables)))
    (ours, gradients), (theirs, expected) = results
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5)
    difference = tf.linalg.global_norm([a - b for a, b in zip(gradients, expected)])
    assert float(difference) < 1e-4 * float(tf.linalg.global_norm(expected)) > 0


def test_clips_are_rendered_twice_as_far_after_so_many_batches_or_epochs(pair, monkeypatch):
    model, _ = pair
    model.most_chunks = model.chunks_at(2**62, 2 + 12 * 3)
    from_one = [1, 1, 2, 4, 8, 12, 12]
    cases = (40, 0, 1, 1, from_one), (0, 4, 10, 1, from_one), (40, 0, 1, 5, [5, 5, 10, 12, 12, 12, 12])
    for batches, epochs, steps, first, lengths in cases:
        model.double_every, model.double_every_epochs, model.steps_per_epoch = batches, epochs, steps
        monkeypatch.setattr(model, "first_chunks", first)
        chunks = [model.chunks_at(batch, model.clip_length) for batch in range(200)]
        assert [chunks[batch] for batch in (0, 39, 40, 80, 120, 160, 199)] == lengths
        updates = np.cumsum([0, *chunks])
        assert [int(model.batches_after(n)) for n in updates[::7]] == list(range(0, 201, 7))


def test_rates_of_all_networks_follow_the_batches(pair):
    """A temporal discriminator makes no update in chunks that hold no triplet of its spacing."""
    model = HierarchicalVideo.from_config(pair[0].get_config())
    model.most_chunks = 4
    settings = config.load("demo", ["train.schedule=linear", "train.linear_start=0.0", "train.epochs=1"])
    loop.compile_model(settings, model, 2)
    generator, *discriminators = model.optimizers
    for own in discriminators:
        own.iterations.assign(1)
    for updates, batch in ((0, 0), (1, 0), (4, 0), (5, 1), (8, 1)):
        generator.iterations.assign(updates)
        for own in discriminators:
            expected = settings.train.learning_rate * (1 - batch / 2)
            assert compat.learning_rate(own) == pytest.approx(expected), (updates, own)


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("kitti", {1: 10, 40: 10, 41: 20, 81: 40, 121: 80, 161: 120, 420: 120}),
        ("kitti_256", {1: 6, 5: 6, 6: 12, 11: 24, 16: 48, 21: 96, 25: 96, 26: 126, 600: 126}),
        ("cityscapes", {1: 6, 5: 6, 6: 12, 10: 12, 11: 24, 20: 24}),
    ],
)
def test_published_lengths_of_clips(pair, name, lengths):
    settings = config.load(ROOT / "configs" / "hierarchical" / f"{name}_image.yml")
    model, options, steps = pair[0], settings.model, 7
    for key in ("window", "chunk", "first_chunks", "double_every", "double_every_epochs"):
        setattr(model, key, options[key])
    model.steps_per_epoch = steps
    found = {e: model.chunk * model.chunks_at((e - 1) * steps, settings.train.seq_len) for e in lengths}
    assert found == lengths


@pytest.mark.current_stack
def test_the_step_of_a_chunk_compiles_with_xla_and_updates_alike(pair):
    options = {**pair[0].get_config(), "blocks": 1, "temporal_scales": 0, "chunk": 2, "window": 2, "foreground": []}
    flow = tf.random.stateless_normal([1, 3, 16, 16, 2], [1, 2])
    labels = tf.random.stateless_uniform([1, 3, 16, 16], [5, 6], 0, 3, tf.int32)
    video = label_maps.pack(tf.random.stateless_uniform([1, 3, 16, 16, 3], [3, 4]), labels)
    batch, updated = {"video": video, "flow": flow, "id": tf.zeros([1], tf.int64)}, []
    for xla in (False, True):
        keras.utils.set_random_seed(0)
        model = HierarchicalVideo((16, 16, 4), **{k: v for k, v in options.items() if k != "image_shape"})
        model.build_on({key: tf.TensorSpec(value.shape, value.dtype) for key, value in batch.items()})
        model.compile(keras.optimizers.SGD(1e-3), jit_compile=xla)
        before = [np.asarray(v) for v in model.trainable_variables]
        model.make_train_function()(iter([batch]))
        updated.append([np.asarray(v) - b for v, b in zip(model.trainable_variables, before)])
    largest = max(np.abs(change).max() for change in updated[0])
    assert largest > 0
    for ours, theirs in zip(*updated):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * largest)


@pytest.mark.parametrize(("width", "scales", "first"), [(128, 1, [128]), (64, 2, [64, 64]), (16, 2, [32, 16])])
def test_discriminators_begin_as_wide_as_is_asked_for(width, scales, first):
    convs = PatchDiscriminator(width, scales=scales).convs
    assert [conv.filters for conv in convs[:: len(convs) // scales]] == first
