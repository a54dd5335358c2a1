"""Curves over predicted frames and over epochs, as CSV and PNG files."""

import contextlib
import csv

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfvp import files, registry


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


def draw(path, scores, context):
    """Per-frame curves of every predictor, a panel per metric; the band is one deviation."""
    metrics = [m for m, s in scores["model"].summaries.items() if "curve" in s]
    with metric_panels(path, metrics, context) as panels:
        for metric, axes in panels.items():
            for name, result in scores.items():
                if metric in result.summaries:
                    _draw_curve(axes, name, result.summaries[metric])


def _draw_curve(axes, name, summary):
    curve, spread = np.asarray(summary["curve"]), np.asarray(summary["curve_std"] or 0.0)
    frames = np.arange(1, len(curve) + 1)
    (line,) = axes.plot(frames, curve, label=name, linewidth=2 if name == "model" else 1)
    if name != "model":
        return
    axes.fill_between(frames, curve - spread, curve + spread, alpha=0.2, color=line.get_color())
    if "best" in summary:
        label = f"best of {summary['samples']}"
        axes.plot(frames, summary["best"]["curve"], "--", color=line.get_color(), label=label)


@contextlib.contextmanager
def metric_panels(path, metrics, context):
    """Context manager of a figure with a panel per metric over predicted frames, written as PNG at the end.

    Yields:
        {metric: matplotlib axes}.
    """
    columns = min(3, max(1, len(metrics)))
    rows = -(-max(1, len(metrics)) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    panels = {metric: figure.add_subplot(rows, columns, i + 1) for i, metric in enumerate(metrics)}
    yield panels
    for i, (metric, axes) in enumerate(panels.items()):
        arrow = "higher" if registry.lookup("metric", metric).higher_is_better else "lower"
        axes.set(title=f"{metric} ({arrow} is better)", xlabel=f"predicted frame, after {context} observed")
        axes.grid(alpha=0.3)
        if i == 0:
            axes.legend(fontsize="small")
    save_figure(figure, path)


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
