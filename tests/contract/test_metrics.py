"""Every registered metric keeps the contract, without a line of test code of its own."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfvp import registry, weights
from tfvp.metrics import student
from tfvp.metrics.base import SetMetric, VideoMetric

CLIPS, FRAMES, SIDE = 5, 3, 32
NAMES = registry.names("metric")
OF_FRAMES = [name for name in NAMES if issubclass(registry.lookup("metric", name), VideoMetric)]


def videos(seed=0, samples=None, channels=1):
    random = np.random.default_rng(seed)
    true = random.uniform(size=(CLIPS, FRAMES, SIDE, SIDE, channels)).astype(np.float32)
    noise = random.normal(size=(CLIPS, samples or 1, *true.shape[1:])).astype(np.float32)
    pred = (
        true[:, None] + noise * np.linspace(0.02, 0.2, samples or 1, dtype=np.float32)[None, :, None, None, None, None]
    )
    return true, (pred if samples else pred[:, 0])


def make(name, horizon=FRAMES):
    cls = registry.lookup("metric", name)
    for needed in cls.needs_weights:
        if not weights.available(needed):
            pytest.skip(f"weights {needed} are not installed")
    return cls(horizon=horizon)


def seen_by(metric, frames):
    """Frames, or label maps of nine classes for metrics of labels."""
    return np.rint(8 * np.clip(np.nan_to_num(frames[..., 0]), 0, 1)).astype(np.int32) if metric.of_labels else frames


def summary(name, true, pred, cuts=(CLIPS,), mask=None):
    metric, start = make(name), 0
    true, pred = seen_by(metric, true), seen_by(metric, pred)
    for end in cuts:
        metric.update_state(true[start:end], pred[start:end], None if mask is None else mask[start:end])
        start = end
    return metric.summary()


@pytest.mark.parametrize("name", NAMES)
def test_declarations(name):
    cls = registry.lookup("metric", name)
    assert issubclass(cls, (VideoMetric, SetMetric)) and cls.__doc__
    assert cls.convention and isinstance(cls.higher_is_better, bool) and isinstance(cls.unit, str)
    assert all(needed in weights.SOURCES for needed in cls.needs_weights)


@pytest.mark.parametrize("name", OF_FRAMES)
def test_batches_do_not_matter(name):
    true, pred = videos()
    whole, cut = summary(name, true, pred), summary(name, true, pred, cuts=(1, 4, 5))
    for key in ("mean", "std", "curve", "curve_std"):
        if whole[key] is not None:
            np.testing.assert_allclose(cut[key], whole[key], rtol=1e-5, atol=1e-6, err_msg=key)
    assert json.loads(json.dumps(whole)) == whole and whole["clips"] == CLIPS


@pytest.mark.parametrize("name", OF_FRAMES)
def test_a_perfect_prediction_is_best(name):
    if registry.lookup("metric", name).broken:
        pytest.skip("broken by definition")
    true, pred = videos()
    perfect, noisy = summary(name, true, true), summary(name, true, pred)
    better = perfect["mean"] > noisy["mean"] if make(name).higher_is_better else perfect["mean"] < noisy["mean"]
    assert better and np.isfinite(perfect["mean"])


@pytest.mark.parametrize("name", OF_FRAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_constant_and_wild_frames_are_finite(name, channels):
    black = np.zeros((2, FRAMES, SIDE, SIDE, channels), np.float32)
    for true, pred in ((black, black), (black, black + 1), (black + 1, black - 5)):
        result = summary(name, true, pred, cuts=(2,))
        assert np.isfinite(result["mean"]) and np.isfinite(result["curve"]).all()


@pytest.mark.parametrize("name", OF_FRAMES)
def test_masked_frames_and_padding_do_not_count(name):
    true, pred = videos()
    mask = np.ones((CLIPS, FRAMES), np.float32)
    mask[3:] = 0.0
    poisoned = pred.copy()
    poisoned[3:] = np.nan
    kept, masked = summary(name, true[:3], pred[:3], cuts=(3,)), summary(name, true, poisoned, mask=mask)
    assert masked["clips"] == 3
    np.testing.assert_allclose([masked["mean"], *masked["curve"]], [kept["mean"], *kept["curve"]], rtol=1e-6)
    mask = np.ones((CLIPS, FRAMES), np.float32)
    mask[:, -1] = 0.0
    shorter = summary(name, true, pred, mask=mask)
    whole = summary(name, true, pred)
    np.testing.assert_allclose(shorter["curve"][:-1], whole["curve"][:-1], rtol=1e-6)


@pytest.mark.parametrize("name", OF_FRAMES)
def test_best_and_worst_samples(name):
    true, pred = videos(samples=4)
    result = summary(name, true, pred)
    low, high = ("worst", "best") if make(name).higher_is_better else ("best", "worst")
    assert result[low]["mean"] < result["mean"] < result[high]["mean"] and result["samples"] == 4
    alone = [summary(name, true, pred[:, s])["mean"] for s in range(4)]
    # The pooled metric is no mean of means; all others are.
    if not registry.lookup("metric", name).finish is not VideoMetric.finish:
        assert result["mean"] == pytest.approx(np.mean(alone), rel=1e-5)
    if not make(name).broken:
        assert result["best"]["mean"] == pytest.approx(max(alone) if high == "best" else min(alone), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_state_does_not_grow(name):
    metric = make(name, horizon=12)
    sizes = [int(np.prod(v.shape)) for v in metric.variables]
    assert sum(sizes) <= (3 * 256 * 12 + 1 if isinstance(metric, SetMetric) else 20 * 12 + 10)


@pytest.mark.parametrize("name", OF_FRAMES)
def test_reset_forgets(name):
    true, pred = videos()
    metric = make(name)
    metric.update_state(seen_by(metric, true), seen_by(metric, 0 * pred))
    metric.reset_state()
    metric.update_state(seen_by(metric, true), seen_by(metric, pred))
    np.testing.assert_allclose(metric.summary()["curve"], summary(name, true, pred)["curve"], rtol=1e-6)
    assert float(metric.result()) == pytest.approx(metric.summary()["mean"], rel=1e-6)


def test_psnr_and_ssim_agree_with_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    true, pred = videos(channels=3)
    clipped = np.clip(pred, 0, 1)
    frames = [(i, t) for i in range(CLIPS) for t in range(FRAMES)]
    psnr = np.mean([peak_signal_noise_ratio(true[f], clipped[f], data_range=1) for f in frames])
    assert summary("psnr", true, pred)["mean"] == pytest.approx(psnr, rel=1e-5)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for name, settings, image in (
        ("ssim_skimage7_L1", {"data_range": 1}, clipped),
        ("ssim_skimage7_L2", {"data_range": 2}, clipped),
        ("ssim_skimage7_L2_unclipped", {"data_range": 2}, pred),
        ("ssim", {"data_range": 1, **gaussian}, clipped),
        ("ssim_finn", {"data_range": 1, **gaussian}, pred),
    ):
        ssim = np.mean([structural_similarity(true[f], image[f], channel_axis=-1, **settings) for f in frames])
        assert summary(name, true, pred)["mean"] == pytest.approx(ssim, abs=1e-5), name


def test_a_set_of_few_clips_says_so():
    result = make("fvd", horizon=10).summary()
    assert result["mean"] is None and "take at least 64 clips" in result["note"]


def test_a_metric_of_short_clips_is_refused():
    from tfvp.errors import UserError

    with pytest.raises(UserError, match="at least 10"):
        registry.lookup("metric", "fvd")(horizon=9)


@pytest.mark.parametrize("name", [n for n in NAMES if registry.lookup("metric", n).smallest_side > 1])
def test_the_smallest_frames_and_those_below(name):
    from tfvp.errors import UserError

    metric = make(name)
    side = metric.smallest_side
    frames = np.random.default_rng(1).uniform(size=(1, FRAMES, side, side + 1, 1)).astype(np.float32)
    metric.update_state(frames, 1 - frames)
    assert np.isfinite(metric.summary()["mean"])
    with pytest.raises(UserError, match=f"{name} takes frames of at least {side} x {side} pixels"):
        metric.update_state(frames[:, :, 1:], frames[:, :, 1:])
    with pytest.raises(Exception):  # noqa: B017 - and there the network or the window itself cannot run, or sees nothing
        values = np.asarray(metric.per_frame(tf.constant(frames[:, :, 1:]), tf.constant(1 - frames[:, :, 1:])))
        assert np.isfinite(values).all() and (values != 0).all()
    if metric.channels:
        with pytest.raises(UserError, match="with 1 or 3 channels, and these have .* 2 channels"):
            metric.update_state(np.repeat(frames, 2, -1), np.repeat(frames, 2, -1))


def test_intervals_are_students():
    random = np.random.default_rng(2)
    true = random.uniform(size=(6, FRAMES, 4, 4, 1)).astype(np.float32)
    pred = np.clip(true + 0.3 * random.normal(size=(6, 1, 1, 1, 1)).astype(np.float32), 0, 1)
    found = summary("mse", true, pred, cuts=(6,))
    clips = np.square(pred - true).mean(axis=(1, 2, 3, 4), dtype=np.float64)
    half = 2.570582 * clips.std(ddof=1) / np.sqrt(6)  # t of 5 degrees of freedom
    np.testing.assert_allclose(found["interval"], [clips.mean() - half, clips.mean() + half], rtol=1e-5)
    assert found["ci95"] == pytest.approx(half, rel=1e-5)
    assert summary("mse", true[:1], pred[:1], cuts=(1,))["interval"] is None


@pytest.mark.parametrize(("degrees", "expected"), [(1, 12.706205), (4, 2.776445), (30, 2.042272), (999, 1.962341)])
def test_quantiles_of_student(degrees, expected):
    assert student.t_quantile(degrees) == pytest.approx(expected, abs=1e-6)


def test_metrics_run_in_a_graph():
    true, pred = videos()
    metric = make("psnr")

    @tf.function
    def update(true, pred):
        metric.update_state(true, pred)

    update(tf.constant(true), tf.constant(pred))
    assert metric.summary()["mean"] == pytest.approx(summary("psnr", true, pred)["mean"])


@pytest.mark.parametrize("pool", [1, 16])
def test_skill_scores_count_over_the_whole_set(pool):
    random = np.random.default_rng(3)
    true, pred = (random.integers(0, 256, (4, 2, 32, 32, 1)).astype(np.float32) / 255 for _ in range(2))
    blocks = (lambda v: v.reshape(4, 2, 2, 16, 2, 16).max(axis=(3, 5))) if pool == 16 else (lambda v: v[..., 0])
    found = {}
    for name in ("csi_pool16",) if pool == 16 else ("csi", "pod", "far"):
        metric = make(name, horizon=2)
        mask = np.ones((4, 2))
        mask[3] = 0.0
        for part in (slice(0, 1), slice(1, 4)):
            metric.update_state(true[part], pred[part], mask[part])
        found[name] = metric.summary()
        assert found[name]["clips"] == 3 and json.loads(json.dumps(found[name])) == found[name]
    for threshold in (16, 74, 133, 160, 181, 219):
        seen, said = (np.rint(255 * blocks(v)[:3]) >= threshold for v in (true, pred))
        hits, misses, alarms = (seen & said).sum(), (seen & ~said).sum(), (~seen & said).sum()
        expected = {
            "csi": hits / (hits + misses + alarms),
            "pod": hits / (hits + misses),
            "far": alarms / (hits + alarms),
        }
        expected["csi_pool16"] = expected["csi"]
        for name, result in found.items():
            assert result["thresholds"][str(threshold)] == pytest.approx(expected[name]), name


def test_intersection_over_union_counts_over_the_whole_set():
    random = np.random.default_rng(4)
    true, pred = (random.integers(0, 4, (5, 3, 8, 8)) for _ in range(2))
    pred = np.where(random.uniform(size=true.shape) < 0.6, true, pred)
    mask = np.ones((5, 3), np.float32)
    mask[4] = 0.0
    metric = make("miou")
    for part in (slice(0, 2), slice(2, 5)):
        metric.update_state(true[part], pred[part], mask[part])
    found = metric.summary()

    def ratio(k, t=slice(None)):
        ours, theirs = pred[:4, t] == k, true[:4, t] == k
        return (ours & theirs).sum() / (ours | theirs).sum()

    assert found["clips"] == 4 and found["mean"] == pytest.approx(np.mean([ratio(k) for k in range(4)]))
    np.testing.assert_allclose(found["curve"], [np.mean([ratio(k, t) for k in range(4)]) for t in range(3)])
    assert set(found["classes"]) == set("0123") and found["classes"]["2"]["mean"] == pytest.approx(ratio(2))
    assert json.loads(json.dumps(found)) == found
    one = make("miou_frame").per_frame(true[:1], pred[:1])
    shown = [np.unique(np.concatenate([true[0, t], pred[0, t]])) for t in range(3)]
    both = lambda k, t: ((pred[0, t] == k) & (true[0, t] == k)).sum() / ((pred[0, t] == k) | (true[0, t] == k)).sum()  # noqa: E731
    np.testing.assert_allclose(one[0], [np.mean([both(k, t) for k in shown[t]]) for t in range(3)], rtol=1e-5)
