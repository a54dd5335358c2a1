"""Intervals that cover, tests that are sized right, and films and runs that are resampled as wholes."""

import numpy as np
import pytest

from tfvp.evaluation import statistics, tables


def test_the_bootstrap_covers_the_truth():
    random = np.random.default_rng(0)
    hits, values = 0, random.normal(size=(200, 40)) + 3.0
    for number, sample in enumerate(values):
        _, low, high = statistics.bootstrap(sample, seed=number)
        hits += low <= 3.0 <= high
    assert 0.88 < hits / len(values) <= 0.99
    curve = random.normal(size=(40, 5))
    curve[3, 2:] = np.nan
    mean, low, high = statistics.bootstrap(curve)
    assert np.all((low < mean)[:2]) and np.all((mean < high)[:2])
    assert mean[:2] == pytest.approx(curve.mean(axis=0)[:2]) and np.isnan([mean[2:], low[2:], high[2:]]).all()


def films(random, count=20, windows=15, spread=1.0):
    """Clips of films: what the clips of one film share is larger than what differs."""
    shared = random.normal(size=count) * spread
    return (shared[:, None] + 0.2 * random.normal(size=(count, windows))).reshape(-1), np.repeat(
        np.arange(count), windows
    )


def test_clips_of_one_film_do_not_count_as_many():
    random = np.random.default_rng(1)
    hits = {"clips": 0, "films": 0, "t": 0}
    for _ in range(50):
        values, sources = films(random)
        for key, (low, high) in {
            "clips": statistics.bootstrap(values)[1:],
            "films": statistics.bootstrap(values, sources)[1:],
            "t": statistics.cluster_interval(values, sources),
        }.items():
            hits[key] += low <= 0 <= high
    assert hits["clips"] < 35 and hits["films"] >= 42 and hits["t"] >= 44


def test_the_test_keeps_its_level_with_films():
    random = np.random.default_rng(2)
    rejected = {"clips": 0, "films": 0}
    for _ in range(60):
        values, sources = films(random)
        rejected["clips"] += statistics.paired_p(values)[0] < 0.05
        rejected["films"] += statistics.paired_p(values, sources)[0] < 0.05
    assert rejected["clips"] > 20 and rejected["films"] <= 8
    assert statistics.paired_p(random.normal(size=50) + 2.0) == (pytest.approx(1 / 2001), pytest.approx(1 / 2001))
    assert statistics.paired_p(np.tile([1.0, -1.0], 20))[0] > 0.9
    for _ in range(40):  # 2 of 2^5 signs are as extreme, in whatever order a machine adds them up
        large = random.normal(3000.0, 300.0, size=5 * 20)
        assert statistics.paired_p(large, np.repeat(np.arange(5), 20))[0] == pytest.approx(1 / 16, abs=0.03)


def test_an_interval_of_one_clip_per_film_is_students():
    values = np.random.default_rng(3).normal(size=6)
    half = 2.570582 * values.std(ddof=1) / np.sqrt(6)
    assert statistics.cluster_interval(values, list("abcdef")) == pytest.approx(
        (values.mean() - half, values.mean() + half)
    )
    assert statistics.cluster_interval(values, ["a"] * 6) is None
    assert statistics.cluster_interval(np.where(values == values[0], np.nan, values), list("abcdef")) is None
    assert tables.interval({"mean": None, "interval": [None, None], "ci95": None}) is None


def test_one_film_says_nothing_of_others():
    runs = list(np.random.default_rng(6).normal(size=(2, 5)))
    for films, clips in ((["a"] * 5, slice(5)), (None, slice(1))):
        first, second = ([run[clips]] for run in runs)
        mean, low, high = statistics.bootstrap(first, films)
        assert mean == pytest.approx(first[0].mean()) and low is None is high
        assert statistics.compare(first, second, films) == {"mean": pytest.approx(second[0].mean() - first[0].mean())}
        assert statistics.compare(first * 2, second * 2, films).keys() == {"mean"}


def test_the_spread_of_seeds_is_part_of_a_method():
    """Two methods of equal quality whose seeds differ: runs are told apart, methods are not."""
    random = np.random.default_rng(4)
    clips = random.normal(size=200)
    runs = [clips + seed + 0.05 * random.normal(size=200) for seed in random.normal(size=12)]
    checkpoints = statistics.compare(runs[:1], runs[1:2])
    methods = statistics.compare(runs[:6], runs[6:])
    assert checkpoints["p"] == checkpoints["p_floor"] < 0.001
    low, high = methods["interval"]
    assert low < 0 < high and methods["p"] > 0.05 and methods["p_floor"] == pytest.approx(2 / 2001)
    spread = np.sqrt(sum(np.var([run.mean() for run in group], ddof=1) / 6 for group in (runs[:6], runs[6:])))
    assert (high - low) / 3.92 == pytest.approx(spread, rel=0.15)
    better = statistics.compare(runs[:6], [run + 9 for run in runs[6:]])
    assert better["p"] == better["p_floor"] and better["mean"] == pytest.approx(methods["mean"] + 9)


def test_holm_and_how_p_values_are_written():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0] and statistics.holm([]) == []
    assert statistics.format_p(1 / 2001, bound=True) == "< .0005" and statistics.format_p(0.0123) == ".0123"
    assert statistics.format_p(6 / 2001, bound=True) == "< .0030" and statistics.format_p(1.0) == "1.0000"


def test_intervals_widen_where_films_are_shared():
    random = np.random.default_rng(5)
    values, sources = films(random, 10, 6)
    per_frame = np.stack([values[:, None] + [[0.0, 1.0]], values[:, None] + [[2.0, 3.0]]], axis=1)
    summary = {"std": 1.0, "interval": [0.0, 0.0], "best": {}, "worst": {}}
    summaries = {"psnr": summary, "psnr_pooled": {"std": None, "interval": None}}
    of_frames = dict.fromkeys(summaries, per_frame)
    summaries["kvd"] = {"mean": 1.0, "interval": [0.0, 2.0], "ci95": 1.0, "standard_error": 0.5}
    statistics.widen_by_source(summaries, of_frames, list(sources))
    assert summaries["kvd"] == {"mean": 1.0}, "its jackknife takes clips for independent"
    expected = np.array(statistics.cluster_interval(values, sources))
    assert summary["interval"] == pytest.approx(expected + 1.5) and summary["sources"] == 10
    assert summary["best"]["interval"] == pytest.approx(expected + 2.5)
    assert summary["worst"]["interval"] == pytest.approx(expected + 0.5)
    assert summary["ci95"] == pytest.approx(np.ptp(expected) / 2) and summaries["psnr_pooled"]["interval"] is None
    alone = {"psnr": {"std": 1.0, "interval": [0.0, 1.0]}}
    statistics.widen_by_source(alone, {"psnr": per_frame}, list(range(60)))
    assert alone["psnr"] == {"std": 1.0, "interval": [0.0, 1.0]}
