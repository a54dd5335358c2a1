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


def textured_clips(case):
    """The clips of the case: uint8 blocks and smooth noise, as the manifest says."""
    return {"clip_blocks": case.inputs["clip_blocks"], "clip_smooth": np.floor(255 * case.inputs["clip_smooth"])}


def test_logits_and_distances():
    """With frames resized on half-pixel centres, as these values were recorded."""
    needs_weights()
    case = golden.case("metrics", "i3d_logits_fvd")
    logits = i3d.graph(True)
    clips = textured_clips(case)
    for name, clip in clips.items():
        video = tf.constant(clip / 255.0, tf.float32)
        case.check(f"{name}/resized_input", i3d.resized(video, half_pixel_centers=True))
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


def test_logits_of_textured_clips_as_the_reference_resizes_them():
    """FVD's reference resizes without half-pixel centres, which black and white videos cannot show."""
    needs_weights()
    case = golden.case("metrics", "i3d_logits_reference_resize")
    former = golden.case("metrics", "i3d_logits_fvd")
    for name, clip in textured_clips(case).items():
        video = tf.constant(clip / 255.0, tf.float32)
        case.check(f"{name}/resized_input", i3d.resized(video))
        logits = fvd.FVD(video.shape[1]).features(video)
        case.check(f"{name}/logits", logits)
        assert np.abs(logits - former.outputs[f"{name}/logits"].reshape(1, -1)).max() > 0.01


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


@pytest.mark.parametrize(("clips", "size"), [(12, 30), (50, 30)])
def test_the_distance_of_sets_is_that_of_their_gaussians(clips, size):
    random = np.random.default_rng(9)
    x, y = random.normal(size=(clips, size)), 1.5 * random.normal(size=(clips + 3, size)) + 0.3
    assert fvd.distance_of_sets(x, y) == pytest.approx(fvd.frechet_distance(moments(x), moments(y)), rel=1e-6)


def test_one_number_for_the_set_however_it_is_batched():
    case = golden.case("metrics", "frechet_distance")
    x, y = case.inputs["d16/x"], 1.5 * case.inputs["d16/y"] + 0.3
    count = min(len(x), len(y))
    x, y = x[:count], y[:count]

    class Raw(fvd.FVD):
        size = x.shape[1]
        channels = ()

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
    x, y = random.normal(size=(7, 4)), random.normal(size=(7, 4)) + 1.0
    k = lambda a, b: (a @ b / 4 + 1) ** 3  # noqa: E731
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    expected = np.mean([k(x[i], x[j]) + k(y[i], y[j]) - 2 * k(x[i], y[j]) for i, j in pairs])
    assert fvd.kernel_distance(x, y) == pytest.approx(expected)
    same = [fvd.kernel_distance(*random.normal(size=(2, 30, 4))) for _ in range(400)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 20  # zero on average, unlike the Frechet distance


def test_predictions_close_to_their_truth_are_not_nearer_than_the_truth():
    random = np.random.default_rng(9)
    sets = [random.normal(size=(30, 8)) for _ in range(100)]
    assert fvd.kernel_distance(sets[0], sets[0]) == fvd.kernel_distance_error(sets[0], sets[0]) == 0.0
    moved = [fvd.kernel_distance(x, 0.8 * (x + 0.5 * random.normal(size=x.shape)) + 0.3) for x in sets]
    assert np.mean(moved) > 3 * np.std(moved) / 10  # and not below 0, where the N products of their own would put it


def few_features(half_pixel_centers=False):
    """Stands for I3D: means of frames, repeated to 400 numbers."""
    return lambda video: tf.tile(tf.reduce_mean(video, axis=[2, 3, 4])[:, :10], [1, 40])


def test_kvd_keeps_features_by_batch(monkeypatch):
    needs_weights()
    monkeypatch.setattr(i3d, "graph", few_features)
    true, pred = np.random.default_rng(6).uniform(size=(2, 70, 10, 4, 4, 1)).astype(np.float32)
    mask = np.ones((70, 10), np.float32)
    mask[68:] = 0.0
    metric = fvd.KVD(10)
    for part in (slice(0, 30), slice(30, 70)):
        metric.update_state(true[part], pred[part], mask[part])
    features = [np.tile(v[:68].mean(axis=(2, 3, 4), dtype=np.float64), 40) for v in (true, pred)]
    summary = metric.summary()
    assert summary["mean"] == pytest.approx(fvd.kernel_distance(*features), rel=1e-3, abs=1e-9)
    assert summary["clips"] == 68 and summary["interval"][0] < summary["mean"] < summary["interval"][1]
    metric.reset_state()
    assert metric.summary()["mean"] is None


def test_the_error_of_kvd_is_the_jackknife_over_clips_and_the_spread_over_sets():
    random = np.random.default_rng(7)

    def draw():
        return random.normal(size=(60, 5)), 1.2 * random.normal(size=(60, 5)) + 0.5

    true, pred = draw()
    without = [fvd.kernel_distance(np.delete(true, i, 0), np.delete(pred, i, 0)) for i in range(60)]
    expected = np.sqrt(59 / 60 * np.sum((without - np.mean(without)) ** 2))
    assert fvd.kernel_distance_error(true, pred) == pytest.approx(expected)
    sets = [draw() for _ in range(200)]
    spread = np.std([fvd.kernel_distance(*pair) for pair in sets])
    assert np.mean([fvd.kernel_distance_error(*pair) for pair in sets]) == pytest.approx(spread, rel=0.3)


def test_fvd_of_few_clips_says_how_much_of_it_is_bias():
    needs_weights()
    random = np.random.default_rng(8)
    spread = np.sqrt(np.arange(1, 81) ** -1.0)
    true, pred = (random.normal(size=(128, 80)) * spread * scale for scale in (1.0, np.sqrt(1.3)))
    pred += 0.5 * spread * random.choice([-1.0, 1.0], 80)
    exact = np.sum(spread**2) * (0.25 + (1 - np.sqrt(1.3)) ** 2)
    metric = fvd.FVD(10)
    metric.update_features(true, pred)
    summary = metric.summary()
    half = fvd.distance_of_sets(true[::2], true[1::2])
    assert summary["floor"]["clips"] == 64 and summary["floor"]["mean"] == pytest.approx(half, rel=0.1)
    assert abs(summary["extrapolated"]["mean"] - exact) < 0.5 * (summary["mean"] - exact)
    assert summary["extrapolated"]["clips"][-1] == 128 and summary["extrapolated"]["values"][-1] == pytest.approx(
        summary["mean"]
    )
    assert f"{summary['floor']['mean']:.1f} apart" in summary["note"] and "400" in summary["note"]
    metric.update_features(np.tile(true, (3, 1)), np.tile(pred, (3, 1)))
    assert "note" not in metric.summary()
