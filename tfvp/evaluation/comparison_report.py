"""The files that a comparison writes: JSON, tables, curves and one HTML page."""

from tfvp import files
from tfvp.evaluation import curves, pages, player, report, statistics, tables

FPS = 8.0


def write(folder, document, bands, videos, ids=(), observed=0):
    """Writes a comparison.

    Args:
        folder: a `pathlib.Path`; comparison.json, table.md, table.tex, curves.png and report.html go there.
        document: the contents of comparison.json.
        bands: {metric: {run: (mean, low, high)}}, [T] each: curves over predicted frames and their intervals; low and
            high may be None.
        videos: {"truth": uint8 [clips, T, H, W, C], run: the same with predicted frames}; may be empty.
        ids: what the clips of `videos` are called.
        observed: their frames before the first predicted one.

    Returns:
        The paths written, report.html last.
    """
    paths = [folder / "comparison.json", folder / "curves.png"]
    files.write_json(paths[0], document)
    content = of_comparison(document)
    paths += report.write_tables(folder, content)
    figure = _curves(document, bands)
    curves.draw(paths[1], figure)
    page = folder / "report.html"
    rows = [_row(number, videos, ids) for number in range(len(videos.get("truth", ())))]
    with files.atomic_write(page) as temporary:
        text = pages.comparison(title(document), document, content, figure, rows, observed, FPS, document["statistics"])
        temporary.write_text(text, encoding="utf-8")
    return [*paths, page]


def title(document):
    """The heading of a comparison's page."""
    what = "runs" if document["compares"] == "checkpoints" else "methods"
    return f"{len(document['runs'])} {what} compared under protocol {document['protocol']['name']}"


def of_comparison(document):
    """The `tfvp.evaluation.tables.Table` of a comparison: means, differences to the first, and their p-values.

    Args:
        document: the contents of comparison.json.
    """
    entries, rows = document["runs"], []
    names = list(entries)
    columns = [tables.Heading(name) for name in ("mean", f"difference to {names[0]}", "p", "p (Holm)")]
    summaries = {name: entry["metrics"] for name, entry in entries.items()}
    for metric, summary in summaries[names[0]].items():
        group = tables.heading(metric, summary)
        winners = tables.best(summaries, metric, group)
        for name in names:
            entry = summaries[name].get(metric, {})
            cells = [tables.Cell(entry.get("mean"), tables.interval(entry), name in winners)]
            runs = len(entry.get("runs", ()))
            title_of_row = f"{name}, {runs} runs" if runs > 1 else name
            rows.append(tables.Row(tables.Heading(title_of_row), cells + _difference(entry.get("difference")), group))
    explanation = f"{document['confidence']:.0f} % intervals are in brackets, and the best numbers are bold."
    caption = " ".join([tables.describe(document), *document["statistics"]])
    return tables.Table(
        "run" if document["compares"] == "checkpoints" else "method", columns, rows, caption, explanation
    )


def _difference(difference):
    """The cells of a difference: its mean and its p-values; dashes for what is missing."""
    if difference is None:
        return [tables.Cell(shown="-")] * 3
    mean = tables.Cell(difference["mean"], tables.interval(difference))
    if "p" not in difference:
        return [mean, tables.Cell(shown="-"), tables.Cell(shown="-")]
    bound = difference["p"] <= difference["p_floor"]
    ps = [statistics.format_p(difference[key], bound and difference[key] < 1) for key in ("p", "p_holm")]
    return [
        mean,
        *(tables.Cell(difference[key], shown=text) for key, text in zip(("p", "p_holm"), ps)),
    ]


def _curves(document, bands):
    panels = {
        metric: [
            curves.Series(name, mean, low, high, number)
            for number, (name, (mean, low, high)) in enumerate(runs.items())
        ]
        for metric, runs in bands.items()
    }
    first = next(iter(document["runs"].values()))["metrics"]
    headings = {metric: tables.heading(metric, first[metric]) for metric in panels}
    protocol = document["protocol"]
    label = curves.axis_label(protocol["context"], protocol.get("mode") == "teacher_forced")
    return curves.Curves(panels, headings, label)


def _row(number, videos, ids):
    panels = [player.Panel(name, video[number], name == "truth") for name, video in videos.items()]
    return player.Clip(f"Clip {number + 1}", ids[number] if number < len(ids) else "", panels)
