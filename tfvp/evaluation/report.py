"""The files that an evaluation writes: JSON, CSV, curves, GIFs, strips and one HTML page."""

import base64
import contextlib
import csv
import html
import json

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfvp import files, registry, video_io
from tfvp.frames import as_rgb
from tfvp.metrics import protocols

OBSERVED, PREDICTED = (0, 178, 0), (178, 0, 0)  # border colours of true and of predicted frames
STRIP_FRAMES = 12
MOST_COLUMNS = 10


def write(folder, document, scores, truth, context, fps=8.0, pictures=True):
    """Writes a report.

    Args:
        folder: a `pathlib.Path`; metrics.json, curves.csv, curves.png, per_clip.npz, frames.npz
            (the kept clips), GIFs, strips and report.html go there.
        document: the contents of metrics.json: "protocol", and {predictor: {metric: summary}}.
        scores: {predictor: tfvp.evaluation.scoring.Scores}.
        truth: uint8 [clips, T, H, W, C], the true frames of the kept clips.
        context: observed frames among them.
        fps: frame rate of the GIFs.
        pictures: whether to write GIFs and strips.

    Returns:
        The paths written, report.html last.
    """
    paths = [folder / "metrics.json", folder / "curves.csv", folder / "curves.png", folder / "per_clip.npz"]
    files.write_json(paths[0], document)
    write_curves(paths[1], scores)
    draw_curves(paths[2], scores, context)
    with files.atomic_write(paths[3]) as temporary:
        np.savez_compressed(temporary, **{f"{p}/{m}": v for p, s in scores.items() for m, v in s.values.items()})
    frames = folder / "frames.npz"
    with files.atomic_write(frames) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, truth=truth, model=scores["model"].examples[: len(truth), 0])
    drawn = [frames]
    for clip in range(len(truth) if pictures else 0):
        gif, strip = folder / f"clip_{clip:03d}.gif", folder / f"clip_{clip:03d}.png"
        samples = scores["model"].examples[clip]
        video_io.write_video(gif, comparison(truth[clip], samples, context), fps)
        video_io.write_video(strip, comparison_strip(truth[clip], samples, context)[None], fps)
        drawn += [gif, strip]
    page = folder / "report.html"
    with files.atomic_write(page) as temporary:
        temporary.write_text(_page(document, paths[2], drawn), encoding="utf-8")
    return [*paths, *drawn, page]


def table(document, best=True):
    """The numbers of a report as text: a row per predictor and a column per metric, or transposed if there are many."""
    predictors = [name for name in document if name not in ("protocol", "notes", "run")]
    if len(document[predictors[0]]) > MOST_COLUMNS:
        return _long_table(document, predictors)
    metrics = list(document[predictors[0]])
    rows = [["", *(m + (" (broken)" if document[predictors[0]][m].get("broken") else "") for m in metrics)]]
    for name in predictors:
        rows.append([name, *(format_number(document[name].get(m, {}).get("mean")) for m in metrics)])
        samples = max(summary.get("samples", 1) for summary in document[name].values())
        for which in ("best", "worst") if best and samples > 1 else ():
            values = [document[name][m].get(which, {}).get("mean") for m in metrics]
            rows.append([f"{name}, {which} of {samples}", *map(format_number, values)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _long_table(document, predictors):
    """One row per metric, with the protocols that report it."""
    users = protocols.used_by()
    rows = [["", *predictors, "reported by"]]
    for metric, summary in document[predictors[0]].items():
        numbers = [format_number(document[name].get(metric, {}).get("mean")) for name in predictors]
        label = metric + (" (broken)" if summary.get("broken") else "")
        rows.append([label, *numbers, ", ".join(users.get(metric, [])) or "default"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    last = len(widths) - 1
    lines = [
        "  ".join(c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def format_number(value):
    """`value` with four significant digits, or a dash for None."""
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"


def write_curves(path, scores):
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


def draw_curves(path, scores, context):
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


def comparison(truth, samples, context):
    """A video of truth | predictions | difference, with borders: green observed, red predicted.

    Args:
        truth: uint8 [T, H, W, C].
        samples: uint8 [S, T - first, H, W, C], the last frames of `truth` as predicted.
        context: observed frames.

    Returns:
        uint8 [T, H', W', 3]; the difference is that of the first sample.
    """
    full = [_with_context(truth, sample) for sample in samples[:3]]
    difference = np.abs(truth.astype(np.int16) - full[0].astype(np.int16)).astype(np.uint8)
    colours = [OBSERVED if t < context else PREDICTED for t in range(len(truth))]
    panels = [_bordered(truth, [OBSERVED] * len(truth))]
    panels += [_bordered(video, colours) for video in full]
    return np.concatenate([*panels, _bordered(difference, colours)], axis=2)


def futures(observed, predicted):
    """A video of predictions side by side, with borders: green observed, red predicted.

    Args:
        observed: uint8 [T, H, W, C].
        predicted: uint8 [S, horizon, H, W, C], what follows.

    Returns:
        uint8 [T + horizon, H', W', 3]; the sides are even, as video encoders require.
    """
    colours = [OBSERVED] * len(observed) + [PREDICTED] * predicted.shape[1]
    video = np.concatenate([_bordered(np.concatenate([observed, sample]), colours) for sample in predicted], axis=2)
    return np.pad(video, [(0, 0), (0, video.shape[1] % 2), (0, video.shape[2] % 2), (0, 0)])


def comparison_strip(truth, samples, context):
    """Frames of `comparison` side by side in time, truth above predictions above difference."""
    video = comparison(truth, samples, context)
    times = np.unique(np.linspace(0, len(video) - 1, STRIP_FRAMES).round().astype(int))
    panels = np.split(video[times], video.shape[2] // (truth.shape[2] + 2), axis=2)
    return np.concatenate([np.concatenate(list(panel), axis=1) for panel in panels], axis=0)


def _with_context(truth, prediction):
    return np.concatenate([truth[: len(truth) - len(prediction)], prediction])


def _bordered(video, colours):
    """RGB frames [T, H + 2, W + 2, 3] with a border of one pixel, a colour per frame."""
    rgb = as_rgb(video)
    framed = np.empty((len(rgb), rgb.shape[1] + 2, rgb.shape[2] + 2, 3), np.uint8)
    framed[:] = np.asarray(colours, np.uint8)[:, None, None]
    framed[:, 1:-1, 1:-1] = rgb
    return framed


def _page(document, curves, drawn):
    protocol = document["protocol"]
    facts = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(_fact(v))}</td></tr>" for k, v in protocol.items())
    run = "".join(
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(_fact(v))}</td></tr>"
        for k, v in document.get("run", {}).items()
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in document.get("notes", []))
    first = next(name for name in document if name not in ("protocol", "notes", "run"))
    conventions = "".join(
        f"<tr><th>{html.escape(m)}</th><td>{html.escape(s.get('broken') or s.get('convention', ''))}</td></tr>"
        for m, s in document[first].items()
    )
    gifs = "".join(f'<img alt="{p.stem}" src="{_embedded(p)}">' for p in drawn if p.suffix == ".gif")
    strips = "".join(f'<img alt="{p.stem}" src="{_embedded(p)}">' for p in drawn if p.suffix == ".png")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(str(protocol.get("name", "evaluation")))}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}}
pre{{background:#f4f4f4;padding:1em;overflow-x:auto}}img{{image-rendering:pixelated;margin:.3em;min-width:20em;max-width:100%}}
th{{text-align:left;padding-right:1em;vertical-align:top;white-space:nowrap}}.curves{{image-rendering:auto}}</style>
<h1>Open-loop evaluation: {html.escape(str(protocol.get("name", "")))}</h1>
<pre>{html.escape(table(document))}</pre>{notes}
<img class="curves" alt="curves" src="{_embedded(curves)}">
<h2>Clips</h2><p>Truth, prediction, difference. Green frames are observed, red ones predicted.</p>{gifs}{strips}
<h2>Protocol</h2><table>{facts}</table><h2>Metrics</h2><table>{conventions}</table><h2>Run</h2><table>{run}</table>
</html>
"""


def _fact(value):
    return value if isinstance(value, str) else json.dumps(value)


def _embedded(path):
    kind = "gif" if path.suffix == ".gif" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
