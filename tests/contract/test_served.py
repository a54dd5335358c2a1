"""The export of a model of each file: batches, streams, samples, and pixels as bytes or files."""

import gc

import numpy as np
import pytest
import tensorflow as tf

from tests.contract.test_models import CASES, GRAPHS, OF_EACH_FILE, Case, close, on_both_stacks
from tfvp.serving import export

# Deterministic; with noise; updated at every frame; with label maps.
ON_BOTH_STACKS = ("convlstm_openstl", "svg-lp", "iam4vp", "hierarchical")

pytestmark = pytest.mark.usefixtures("plain_graphs")


@pytest.fixture(scope="module", params=on_both_stacks(ON_BOTH_STACKS, OF_EACH_FILE), ids=str)
def case(request):
    made = Case(*CASES[request.param])
    yield made
    vars(made).pop("model", None)
    gc.collect()


@pytest.fixture(scope="module")
def served(case, tmp_path_factory):
    """The signatures of the model's export, loaded again."""
    path = tmp_path_factory.mktemp("served") / "1"
    export.save(case.model, path)
    yield tf.saved_model.load(str(path)).signatures
    gc.collect()


def states(outputs):
    return {key: value for key, value in outputs.items() if key.startswith("state")}


def test_a_served_example_does_not_depend_on_its_batch(case, served):
    context, horizon, seed = case.video[:3, : case.context], tf.constant([2, 5, 3]), tf.constant([3, 0, -7], tf.int64)
    seeds = {"seed": seed} if case.model.stochastic else {}
    together = served["serving_default"](context=context, horizon=horizon, **seeds)
    assert together["video"].shape == (3, 5, *case.shape) and together["frames"].numpy().tolist() == [2, 5, 3]
    assert not np.any(together["video"][0, 2:]) and not np.any(together["video"][2, 3:])
    for n in range(3):
        one = {key: value[n : n + 1] for key, value in seeds.items()}
        alone = served["serving_default"](context=context[n : n + 1], horizon=horizon[n : n + 1], **one)["video"]
        close(together["video"][n : n + 1, : alone.shape[1]], alone, 2e-5)
    # The futures with the numbers 0 and 1.
    samples = 2 if seeds else 1
    expected = next(case.model.rollout(context[1:2], 5, samples=samples, ids=[0]))
    close(together["video"][1:2], expected[:, 0], GRAPHS)
    if seeds:
        drawn = served["samples"](context=context, horizon=horizon, samples=tf.constant([1, 2, 1]), **seeds)["video"]
        close(drawn[:, 0], together["video"], GRAPHS)
        close(drawn[1:2], expected, GRAPHS)
        assert drawn.shape == (3, 2, 5, *case.shape) and not np.any(drawn.numpy()[[0, 2], 1])


def test_a_served_stream_continues(case, served):
    fewest, multiple = case.model.fewest_context, case.model.context_multiple
    video, seed = case.video[:3, : fewest + multiple], tf.constant([3, 0, 7], tf.int64)
    seeds = {"seed": seed} if case.model.stochastic else {}
    whole = served["observe"](context=video, **seeds)
    state = served["observe"](context=video[:, :fewest], **seeds)
    parts = served["observe_more"](context=video[:, fewest:], **state)
    for key in whole:
        close(whole[key], parts[key], 2e-5)
    if multiple > 1:
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"multiple of {multiple} frames \(model\..*\[1\]"):
            served["observe_more"](context=video[:, :1], **state)
    first = served["imagine"](horizon=tf.constant([1, 4, 2]), **whole, **seeds)
    second = served["imagine"](horizon=tf.constant([3, 1, 2]), **states(first), **seeds)
    expected = served["imagine"](horizon=tf.constant([5, 5, 5]), **whole, **seeds)["video"]
    for n, (a, b) in enumerate([(1, 3), (4, 1), (2, 2)]):
        assert not np.any(first["video"][n, a:])
        close(tf.concat([first["video"][n, :a], second["video"][n, :b]], axis=0), expected[n, : a + b], GRAPHS)


def test_served_pixels_are_bytes_or_files(case, served):
    pixels = tf.cast(tf.round(case.video[:2, : case.context] * 255), tf.uint8)
    inputs = {
        "horizon": tf.constant([2, 1]),
        **({"seed": tf.constant([1, 2], tf.int64)} if case.model.stochastic else {}),
    }
    video = served["serving_uint8"](context=pixels, **inputs)["video"]
    assert video.dtype == tf.uint8 and video.shape == (2, 2, *case.shape)
    files = served["serving_encoded"](context=tf.io.encode_png(pixels), **inputs)["video_bytes"].numpy()
    for n, t in [(0, 0), (0, 1), (1, 0)]:
        np.testing.assert_array_equal(tf.io.decode_image(files[n, t], case.shape[-1]), video[n, t])
    assert files[1, 1] == b""
