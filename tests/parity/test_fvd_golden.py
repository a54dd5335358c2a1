"""I3D's logits and the Frechet distance against recorded values."""

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfvp import weights
from tfvp.metrics import fvd, i3d


def needs_weights():
    if not weights.available("i3d"):
        pytest.skip("weights i3d are not installed")


def test_logits_and_distances():
    needs_weights()
    case = golden.case("metrics", "i3d_logits_fvd")
    logits = tf.function(i3d.logits)
    clips = {"clip_blocks": case.inputs["clip_blocks"], "clip_smooth": np.floor(255 * case.inputs["clip_smooth"])}
    for name, clip in clips.items():
        video = tf.constant(clip / 255.0, tf.float32)
        case.check(f"{name}/resized_input", i3d.resized(video))
        case.check(f"{name}/logits", logits(video))
    _, _, *image_shape = clips["clip_blocks"].shape
    lengths = case.numbers(r"black_(\d+)/logits")
    for frames in lengths:
        of_colour = {}
        for colour, value in (("black", 0.0), ("white", 1.0)):
            key = f"{colour}_{frames}/logits"
            of_colour[colour] = logits(tf.fill([case.shape(key)[0], frames, *image_shape], value))
            case.check(key, of_colour[colour])
        difference = of_colour["black"][0].numpy() - of_colour["white"][0].numpy()
        case.check_scalar(f"fvd_black_vs_white_{frames}", np.sum(np.square(difference, dtype=np.float64)))


def moments(x):
    return x.mean(axis=0), np.cov(x, rowvar=False)


def test_distances_of_seeded_sets():
    case = golden.case("metrics", "frechet_distance")
    names = [key.removesuffix("/x") for key in case.inputs if key.endswith("/x")]
    for name in names:
        distance = fvd.frechet_distance(
            moments(case.inputs[f"{name}/x"]), moments(1.5 * case.inputs[f"{name}/y"] + 0.3)
        )
        case.check_scalar(f"{name}/symmetric_eig", distance, rtol=1e-4 if "deficient" in name else 1e-6)
    spread = np.diag(np.arange(1, 17) / 8)
    distance = fvd.frechet_distance((np.zeros(16), spread), (np.full(16, 0.5), spread[::-1, ::-1]))
    case.check_scalar("analytic_diagonal", distance, rtol=1e-9)


def test_one_number_for_the_set_however_it_is_batched():
    case = golden.case("metrics", "frechet_distance")
    x, y = case.inputs["d16/x"], 1.5 * case.inputs["d16/y"] + 0.3
    count = min(len(x), len(y))
    x, y = x[:count], y[:count]

    class Raw(fvd.FVD):
        size = x.shape[1]

        def features(self, video):
            return video[:, 0, 0, 0]

    raw = Raw(10)
    as_video = lambda rows: np.repeat(rows[:, None, None, None], 10, axis=1)  # noqa: E731
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    scaled = lambda v: (v - low) / (high - low)  # noqa: E731 - the metric clips videos to [0, 1]
    half = count // 2
    for start, end in ((0, half), (half, half + 7), (half + 7, count)):
        raw.update_state(as_video(scaled(x[start:end])), as_video(scaled(y[start:end])))
    distance = (high - low) ** 2 * raw.summary()["mean"]
    assert distance == pytest.approx(fvd.frechet_distance(moments(x), moments(y)), rel=1e-4)


def test_kernel_distance_is_unbiased_and_matches_its_definition():
    random = np.random.default_rng(5)
    x, y = random.normal(size=(7, 4)), random.normal(size=(5, 4)) + 1.0
    k = lambda a, b: (a @ b / 4 + 1) ** 3  # noqa: E731
    expected = (
        np.mean([k(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
        + np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
        - 2 * np.mean([k(a, b) for a in x for b in y])
    )
    assert fvd.kernel_distance(x, y) == pytest.approx(expected)
    same = [fvd.kernel_distance(*random.normal(size=(2, 30, 4))) for _ in range(400)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 20  # zero on average, unlike the Frechet distance


def test_kvd_keeps_features_by_batch(monkeypatch):
    needs_weights()
    monkeypatch.setattr(i3d, "logits", lambda video: tf.tile(tf.reduce_mean(video, axis=[2, 3, 4])[:, :10], [1, 40]))
    true, pred = np.random.default_rng(6).uniform(size=(2, 70, 10, 4, 4, 1)).astype(np.float32)
    mask = np.ones((70, 10), np.float32)
    mask[68:] = 0.0
    metric = fvd.KVD(10)
    for part in (slice(0, 30), slice(30, 70)):
        metric.update_state(true[part], pred[part], mask[part])
    features = [np.tile(v[:68].mean(axis=(2, 3, 4), dtype=np.float64), 40) for v in (true, pred)]
    assert metric.summary()["mean"] == pytest.approx(fvd.kernel_distance(*features), rel=1e-3, abs=1e-9)
    assert metric.summary()["clips"] == 68
    metric.reset_state()
    assert metric.summary()["mean"] is None
