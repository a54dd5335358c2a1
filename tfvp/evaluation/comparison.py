"""Comparison of evaluated runs: a table, curves with confidence intervals, paired tests, one HTML page."""

import html
import json
import pathlib

import numpy as np

from tfvp import files
from tfvp import run as runs
from tfvp.errors import UserError
from tfvp.evaluation import curves, tables
from tfvp.evaluation.comparison_page import page

RESAMPLES, SEED, LEVEL = 2000, 0, 95.0
MUST_AGREE = ("dataset", "split", "context", "seq_len", "mode", "clips")


def compare(paths, protocol="default", out="comparison"):
    """Compares runs that were evaluated under the same protocol.

    Args:
        paths: runs. The others are tested against the first.
        protocol: name of the folder below each run's `eval`.
        out: folder to write comparison.json, curves.png and report.html to.

    Returns:
        (the contents of comparison.json, list of paths written).

    Raises:
        UserError: there are fewer than two runs, one is not evaluated, or they were evaluated on different clips.
    """
    if len(paths) < 2:
        raise UserError("--compare needs at least two runs")
    evaluations = [_Evaluation(path, protocol) for path in paths]
    names = _names(evaluations)
    _check_same_clips(evaluations, names)
    metrics = [m for m in evaluations[0].values if all(m in other.values for other in evaluations)]
    document = {"protocol": evaluations[0].document["protocol"], "confidence": LEVEL, "runs": {}}
    for name, evaluation in zip(names, evaluations):
        per_clip = {m: _summary(evaluation, evaluations[0], m) for m in metrics}
        sets = {m: {"mean": s["mean"]} for m, s in evaluation.document["model"].items() if m not in evaluation.values}
        document["runs"][name] = {"path": str(evaluation.run.path), "metrics": {**per_clip, **sets}}
    folder = files.writable_folder(pathlib.Path(out))
    written = [folder / "comparison.json", folder / "curves.png", folder / "report.html"]
    files.write_json(written[0], document)
    _draw(written[1], {n: e.values for n, e in zip(names, evaluations)}, metrics, document["protocol"]["context"])
    videos = {"truth": evaluations[0].frames["truth"], **{n: e.full_clips() for n, e in zip(names, evaluations)}}
    with files.atomic_write(written[2]) as temporary:
        heading = f"{len(evaluations)} runs under protocol {protocol}"
        text = page(heading, html.escape(table(document)), written[1], videos, document["protocol"]["context"])
        temporary.write_text(text, encoding="utf-8")
    return document, written


def table(document):
    """The comparison as text: mean and confidence interval; difference to the first run and its p-value."""
    names, rows = list(document["runs"]), []
    for metric in document["runs"][names[0]]["metrics"]:
        for name in names:
            summary = document["runs"][name]["metrics"].get(metric, {"mean": None})
            cells = [metric if name == names[0] else "", name, tables.format_number(summary["mean"])]
            cells.append(_interval(summary.get("interval")))
            difference = summary.get("difference")
            cells += (
                [tables.format_number(difference["mean"]), _interval(difference["interval"]), f"{difference['p']:.4f}"]
                if difference
                else ["", "", ""]
            )
            rows.append(cells)
    heading = ["metric", "run", "mean", f"{LEVEL:.0f} % interval", "difference", f"{LEVEL:.0f} % interval", "p"]
    widths = [max(len(row[i]) for row in [heading, *rows]) for i in range(len(heading))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [heading, *rows]]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def bootstrap(values, seed=SEED):
    """The mean of values [clips, ...] and its confidence interval over clips: (mean, low, high), each [...]."""
    resamples = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    counts = np.stack([np.bincount(row, minlength=len(values)) for row in resamples]) / len(values)
    means = np.tensordot(counts, values, 1)
    low, high = np.percentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2], axis=0)
    return values.mean(axis=0), low, high


def paired_p(differences, seed=SEED):
    """Two-sided p-value of a zero mean of differences [clips], by random changes of sign (paired permutation test)."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (RESAMPLES, len(differences)))
    extreme = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12
    return float((1 + extreme.sum()) / (1 + RESAMPLES))


class _Evaluation:
    """The files that an evaluation wrote into a run."""

    def __init__(self, path, protocol):
        self.run = runs.find(path)
        folder = self.run.path / "eval" / protocol
        again = f"tfvp evaluate --logdir {self.run.path}" + ("" if protocol == "default" else f" --protocol {protocol}")
        try:
            self.document = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            with np.load(folder / "per_clip.npz") as archive:
                values = {key.split("/", 1)[1]: archive[key] for key in archive.files if key.startswith("model/")}
            with np.load(folder / "frames.npz") as archive:
                self.frames = {key: archive[key] for key in archive.files}
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{self.run.path} is not evaluated under protocol {protocol} ({error}); run: {again}"
            ) from None
        # A function of a pooled mean has no value per clip that could be resampled.
        pooled = {m for m, s in self.document["model"].items() if "std" in s and s["std"] is None}
        self.values = {m: np.nanmean(v, axis=1).astype(np.float64) for m, v in values.items() if m not in pooled}

    def facts(self):
        """The facts that must agree for two evaluations to have used the same clips."""
        data = {
            k: v
            for k, v in self.run.config.data.to_dict().items()
            if k not in ("root", "cache", "window", "flip", "crop_margin", "crop_padding")
        }
        data.pop("clip_length", None)  # longer drawn clips begin with the same frames
        data.pop("labels", None)
        return {**{key: self.document["protocol"].get(key) for key in MUST_AGREE}, "data": data}

    def full_clips(self):
        """Observed and predicted frames of the kept clips, uint8."""
        truth, predicted = self.frames["truth"], self.frames["model"]
        return np.concatenate([truth[:, : truth.shape[1] - predicted.shape[1]], predicted], axis=1)


def _names(evaluations):
    """A name for each run: that of its folder, with a number appended to duplicates."""
    names = []
    for evaluation in evaluations:
        name, number = evaluation.run.path.name, 2
        while name in names:
            name, number = f"{evaluation.run.path.name} ({number})", number + 1
        names.append(name)
    return names


def _check_same_clips(evaluations, names):
    first = evaluations[0].facts()
    for name, evaluation in zip(names[1:], evaluations[1:]):
        other = evaluation.facts()
        differing = [key for key in first if first[key] != other[key]]
        if differing:
            what = "; ".join(f"{key}: {first[key]!r} in {names[0]}, {other[key]!r} in {name}" for key in differing)
            raise UserError(f"the runs were not evaluated on the same clips, so they cannot be compared: {what}")


def _summary(evaluation, reference, metric):
    clips = np.nanmean(evaluation.values[metric], axis=1)
    mean, low, high = bootstrap(clips)
    result = {"mean": float(mean), "interval": [float(low), float(high)]}
    if evaluation is not reference:
        differences = clips - np.nanmean(reference.values[metric], axis=1)
        mean, low, high = bootstrap(differences)
        interval = [float(low), float(high)]
        result["difference"] = {"mean": float(mean), "interval": interval, "p": paired_p(differences)}
    return result


def _interval(pair):
    return f"[{tables.format_number(pair[0])}, {tables.format_number(pair[1])}]" if pair else ""


def _draw(path, values, metrics, context):
    """Curves over predicted frames with bootstrap bands, a panel per metric."""
    with curves.metric_panels(path, metrics, context) as panels:
        for metric, axes in panels.items():
            for name, per_clip in values.items():
                mean, low, high = bootstrap(per_clip[metric])
                frames = np.arange(1, len(mean) + 1)
                (line,) = axes.plot(frames, mean, label=name)
                axes.fill_between(frames, low, high, alpha=0.2, color=line.get_color())
