"""Curves over predicted frames, as data, CSV and PNG, and those of training."""

import csv
import dataclasses

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfvp import files
from tfvp.evaluation import statistics, tables

BAND = "95 % interval of the mean over clips"
BAND_OF_FILMS = f"{BAND}, by the films that they are cut from"
COLOURS = ("#1f6fb4", "#d1600a", "#2f8f2f", "#b03a8a", "#7a5cc0", "#8a6d1f", "#0f8f8f", "#6b6b6b")


@dataclasses.dataclass
class Series:
    """One curve of a panel.

    Attributes:
        name: in the legend.
        mean: [T], NaN where there is none.
        low, high: [T], the edges of the band around it, or None.
        colour: number of its colour.
        main: whether it is what the figure is about; others are drawn thin.
        dash: "" for a solid line, "dashed" or "dotted".
    """

    name: str
    mean: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    colour: int = 0
    main: bool = True
    dash: str = ""


@dataclasses.dataclass
class Curves:
    """A figure: a panel per metric over the same frames.

    Attributes:
        panels: {metric heading's name: list of `Series`}.
        headings: {the same names: `tfvp.evaluation.tables.Heading`}.
        frames: what the horizontal axis counts, from 1.
        band: what the bands are.
    """

    panels: dict[str, list[Series]]
    headings: dict[str, tables.Heading]
    frames: str
    band: str = BAND

    def legend(self):
        """{name: its first `Series`}, of all panels."""
        entries = {}
        for series in self.panels.values():
            for one in series:
                entries.setdefault(one.name, one)
        return entries


def axis_label(observed, teacher_forced=False):
    """The label of the axis of predicted frames."""
    if teacher_forced:
        return "frame, predicted from the true ones before it"
    return f"predicted frame, after {observed} observed" if observed else "predicted frame"


def of_scores(scores, label, sources):
    """The `Curves` of an evaluation.

    Args:
        scores: {predictor: tfvp.evaluation.scoring.Scores}; the first is what the figure is about.
        label: of the horizontal axis.
        sources: [clips], the film that each clip is cut from.
    """
    names = list(scores)
    summaries = scores[names[0]].summaries
    metrics = [metric for metric, summary in summaries.items() if "curve" in summary]
    panels = {metric: [] for metric in metrics}
    for metric in metrics:
        for number, name in enumerate(names):
            summary = scores[name].summaries.get(metric)
            if "curve" not in (summary or {}):
                continue
            low, high = _band(scores[name].values.get(metric), summary, sources) if number == 0 else (None, None)
            panels[metric].append(Series(name, _array(summary["curve"]), low, high, number, number == 0))
            for which, dash in (("best", "dashed"), ("worst", "dotted")) if number == 0 else ():
                if which in summary:
                    label_of = f"{name}, {which} of {summary['samples']}"
                    panels[metric].append(Series(label_of, _array(summary[which]["curve"]), dash=dash, main=False))
    band = BAND if len(set(sources)) == len(sources) else BAND_OF_FILMS
    return Curves(panels, {metric: tables.heading(metric, summaries[metric]) for metric in metrics}, label, band)


def _array(values):
    return np.asarray([np.nan if v is None else v for v in values], float)


def _band(values, summary, sources):
    """The 95 % interval of the mean over clips at every frame, as the table's: (low, high), or None twice."""
    if values is None or not summary.get("curve_std"):  # a function of a pooled mean has no interval
        return None, None
    clips = values.astype(np.float64).mean(axis=1)
    edges = [statistics.cluster_interval(frame, sources) for frame in clips.T]
    return tuple(np.array([edge or (np.nan, np.nan) for edge in edges]).T) if any(edges) else (None, None)


def write_csv(path, scores):
    """One CSV row per predictor, metric and predicted frame: mean and spread over clips."""
    with files.atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["predictor", "metric", "frame", "mean", "std", "best", "worst"])
        for predictor, result in scores.items():
            for metric, summary in result.summaries.items():
                for t, mean in enumerate(summary.get("curve", [])):
                    spread = summary["curve_std"][t] if summary["curve_std"] else ""
                    extremes = [summary[w]["curve"][t] if w in summary else "" for w in ("best", "worst")]
                    writer.writerow([predictor, metric, t + 1, mean, spread, *extremes])


def draw(path, curves):
    """Writes `Curves` as PNG: a panel per metric, one legend for all."""
    columns = min(3, max(1, len(curves.panels)))
    rows = -(-max(1, len(curves.panels)) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows + 0.5), layout="constrained")
    for i, (metric, series) in enumerate(curves.panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        for one in series:
            _draw_series(axes, one)
        axes.set(title=curves.headings[metric].with_arrow(), xlabel=curves.frames)
        axes.grid(alpha=0.3)
    handles = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels())}
    if handles:
        banded = any(one.low is not None for series in curves.panels.values() for one in series)
        title = f"bands: {curves.band}" if banded else None
        figure.legend(
            handles.values(), handles.keys(), title=title, loc="outside lower center", ncols=4, fontsize="small"
        )
    save_figure(figure, path)


def _draw_series(axes, series):
    frames, colour = np.arange(1, len(series.mean) + 1), COLOURS[series.colour % len(COLOURS)]
    style = {"dashed": "--", "dotted": ":"}.get(series.dash, "-")
    look = {"color": colour, "linewidth": 2 if series.main else 1, "marker": "o" if len(frames) == 1 else None}
    axes.plot(frames, series.mean, style, label=series.name, **look)
    if series.low is not None:
        axes.fill_between(frames, series.low, series.high, alpha=0.2, color=colour, linewidth=0)


def draw_training(path, history):
    """The training curves: `history` is the list of lines of metrics.jsonl."""
    panels = [
        ("loss", "loss", "val_loss"),
        ("MAE", "train_mae", "val_mae"),
        ("PSNR (dB)", "train_psnr", "val_psnr"),
        ("SSIM", "train_ssim", "val_ssim"),
    ]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    for i, (title, train, validation) in enumerate(panels):
        axes = figure.add_subplot(2, 2, i + 1)
        for key, label in ((train, "train"), (validation, "validation")):
            points = [(line["epoch"], line[key]) for line in history if line.get(key) is not None]
            if points:
                axes.plot(*zip(*points), marker="o", markersize=3, label=label)
        axes.set(title=title if title == "loss" else f"{title}, open-loop", xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
    save_figure(figure, path)


def save_figure(figure, path):
    """Writes a matplotlib figure as PNG."""
    FigureCanvasAgg(figure)
    with files.atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
