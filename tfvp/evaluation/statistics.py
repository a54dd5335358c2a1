"""What follows from scores of clips: confidence intervals, paired tests, and several runs of a method.

Clips cut from one film (`sources`) are not independent, so films are resampled, and signs are
changed, as wholes. Runs of one method differ by their seeds; they are resampled too.
"""

import functools
import math

import numpy as np

from tfvp import registry
from tfvp.metrics.student import t_quantile

RESAMPLES, SEED, LEVEL = 2000, 0, 95.0
FEW_RUNS = 5  # below which an interval over runs is itself a rough estimate


def bootstrap(values, sources=None, seed=SEED):
    """A mean and its bootstrap interval.

    Args:
        values: [clips, ...] float64 of one run, or a list of such arrays, one per run of a method. Where a value
            is NaN, so are all three numbers.
        sources: [clips], the film of each clip. Defaults to one film per clip.
        seed: of the resampling.

    Returns:
        (mean, low, high), each [...]; low and high are None of fewer than two films.
    """
    runs = values if isinstance(values, list) else [values]
    mean = np.mean([run.mean(axis=0) for run in runs], axis=0)
    if not has_spread(sources, len(runs[0])):
        return mean, None, None
    low, high = np.percentile(resampled_means(runs, sources, seed), [(100 - LEVEL) / 2, (100 + LEVEL) / 2], axis=0)
    return mean, low, high


def has_spread(sources, clips):
    """Whether clips are of two films at least: how far a mean would move on other films cannot be told from one."""
    return len(np.unique(_clusters(sources, clips))) > 1


def resampled_means(runs, sources=None, seed=SEED, seed_of_runs=0):
    """Means over runs and clips, of random runs and random films, drawn with replacement.

    All runs see the same clips, so one draw of films serves them all: the difference between two
    methods' means from the same `seed` is paired over clips. The spread of the mean of R resampled
    runs is (R - 1) / R of what it estimates, which is put right.

    Args:
        runs: list of [clips, ...].
        sources: [clips]. Defaults to one film per clip.
        seed: of the films that are drawn.
        seed_of_runs: of the runs that are drawn; another one for every method.

    Returns:
        [RESAMPLES, ...].
    """
    films = _clusters(sources, len(runs[0]))
    weights = _draws(int(films.max()) + 1, seed)
    of_runs = np.stack([_weighted_means(run, films, weights) for run in runs])
    if len(runs) == 1:
        return of_runs[0]
    which = np.random.default_rng([seed, seed_of_runs, 1]).integers(0, len(runs), (RESAMPLES, len(runs)))
    drawn = of_runs[which, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    centre = of_runs.mean(axis=0)
    return centre + math.sqrt(len(runs) / (len(runs) - 1)) * (drawn - centre)


@functools.lru_cache(maxsize=1)
def _draws(count, seed):
    """How often each of `count` films is drawn in every resample: float64 [RESAMPLES, count]."""
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    return np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float64)


def _clusters(sources, clips):
    """Films as numbers from 0: int [clips]."""
    return np.arange(clips) if sources is None else np.unique(np.asarray(sources), return_inverse=True)[1].reshape(-1)


def _per_film(values, films):
    """Sums over the clips of each film: [films, ...]."""
    sums = np.zeros((films.max() + 1, *values.shape[1:]))
    np.add.at(sums, films, values)
    return sums


def _weighted_means(values, films, weights):
    sums = np.tensordot(weights, _per_film(values, films), 1)
    return sums / (weights @ np.bincount(films)).reshape(-1, *[1] * (values.ndim - 1))


def paired_p(differences, sources=None, seed=SEED):
    """The two-sided p-value of a zero mean of paired differences, by a permutation test.

    Under the hypothesis, the sign of every film's differences is arbitrary; RESAMPLES random
    choices of signs are tried.

    Args:
        differences: [clips].
        sources: [clips]. Defaults to one film per clip.
        seed: of the signs.

    Returns:
        (p, the smallest p that so many choices can give).
    """
    sums = _per_film(np.asarray(differences, np.float64), _clusters(sources, len(differences)))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (RESAMPLES, len(sums)))
    # Equal up to rounding counts, and a product of matrices adds in another order than a sum.
    extreme = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    return float((1 + extreme.sum()) / (1 + RESAMPLES)), 1 / (1 + RESAMPLES)


def compare(first, second, sources=None, seed=SEED):
    """How the mean of one method differs from another's, on the same clips.

    Args:
        first, second: lists of [clips], finite, one per run.
        sources: [clips]. Defaults to one film per clip.
        seed: of the resampling.

    Returns:
        {"mean": of second - first, "interval": [low, high], "p", "p_floor": the smallest p that
        the test can give}. Of one run each, p is that of `paired_p`; otherwise the share of
        resampled differences beyond 0, twice. Of fewer than two films, {"mean"} alone.
    """
    mean = float(np.mean([run.mean() for run in second]) - np.mean([run.mean() for run in first]))
    if not has_spread(sources, len(first[0])):
        return {"mean": mean}
    drawn = resampled_means(second, sources, seed, 2) - resampled_means(first, sources, seed, 1)
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    if len(first) == len(second) == 1:
        p, floor = paired_p(second[0] - first[0], sources, seed)
    else:
        beyond = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
        p, floor = min(1.0, 2 * (1 + beyond) / (1 + RESAMPLES)), 2 / (1 + RESAMPLES)
    return {"mean": mean, "interval": [float(low), float(high)], "p": float(p), "p_floor": floor}


def holm(values):
    """p-values adjusted for their number so that the chance of any false finding stays bounded (Holm 1979).

    Args:
        values: p-values of one family of tests.

    Returns:
        List of adjusted p-values, in the order of `values`.
    """
    order = np.argsort(values, kind="stable")
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, which in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * float(values[which])))
        adjusted[which] = largest
    return adjusted


def format_p(p, bound=False):
    """A p-value with four decimals: ".0123", or "< .0005" where the test could not give a smaller one."""
    text = f"{math.ceil(p * 1e4 - 1e-6) / 1e4:.4f}" if bound else f"{p:.4f}"
    return ("< " if bound else "") + text.removeprefix("0")


def cluster_interval(values, sources):
    """The 95 % interval of the mean of clips by Student's t, where clips of one film depend on each other.

    The standard error is the cluster-robust one, from the films' sums of deviations, and there is
    one degree of freedom less than films. With one clip per film it is the ordinary interval.

    Args:
        values: [clips] float64.
        sources: [clips].

    Returns:
        (low, high), or None of fewer than two films, or where a value is not finite.
    """
    films = _clusters(sources, len(values))
    count = int(films.max(initial=-1)) + 1
    if count < 2 or not np.isfinite(values).all():
        return None
    mean = values.mean()
    sums = _per_film(values - mean, films)
    error = math.sqrt(count / (count - 1) * np.sum(sums**2)) / len(values)
    half = t_quantile(count - 1) * error
    return float(mean - half), float(mean + half)


def widen_by_source(summaries, values, sources):
    """Replaces the intervals of frame metrics by `cluster_interval` where films give several clips.

    Those of metrics of a whole set, which take clips for independent, are taken out.

    Args:
        summaries: {metric: summary}, changed in place: "interval", "ci95" and "sources", the number of films.
        values: {metric: [clips, samples, frames]}.
        sources: [clips].
    """
    count = len(set(sources))
    if count == len(sources):
        return
    for metric, summary in summaries.items():
        if metric not in values:
            for key in ("interval", "ci95", "standard_error"):
                summary.pop(key, None)
    for metric, per_frame in values.items():
        summary = summaries[metric]
        if summary.get("std") is None:  # a function of a pooled mean has no interval
            continue
        over_time = per_frame.astype(np.float64).mean(axis=2)
        extremes = [over_time.max(axis=1), over_time.min(axis=1)]
        best, worst = extremes if registry.lookup("metric", metric).higher_is_better else extremes[::-1]
        for part, clips in (
            (summary, over_time.mean(axis=1)),
            (summary.get("best"), best),
            (summary.get("worst"), worst),
        ):
            if part is not None:
                interval = cluster_interval(clips, sources)
                part["interval"] = list(interval) if interval else None
                part["ci95"] = (interval[1] - interval[0]) / 2 if interval else None
        summary["sources"] = count
