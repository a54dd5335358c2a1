"""The files that an evaluation writes: JSON, CSV, tables, curves, GIFs, strips and one HTML page."""

import numpy as np

from tfvp import files, video_io
from tfvp.evaluation import curves, pages, per_clip, pictures, player, tables
from tfvp.evaluation import examples as shown


def write(folder, document, scores, truth, clips, context, fps=8.0, draw=True, examples=()):
    """Writes a report.

    Args:
        folder: a `pathlib.Path`; metrics.json, table.md, table.tex, curves.csv, curves.png, per_clip.npz,
            per_clip.csv, frames.npz (the kept clips), GIFs, strips and report.html go there.
        document: the contents of metrics.json: see `tfvp.evaluation.documents`.
        scores: {predictor: tfvp.evaluation.scoring.Scores}; the first predictor is what the report is about.
        truth: uint8 [clips, T, H, W, C], the true frames of the kept clips.
        clips: the `tfvp.evaluation.per_clip.Clips` of all clips.
        context: observed frames of the protocol.
        fps: frame rate of the GIFs, and of the page's videos.
        draw: whether to write GIFs and strips, and to show clips on the page.
        examples: list of `tfvp.evaluation.examples.Example`, the clips to draw. Defaults to the kept ones.

    Returns:
        The paths written, report.html last.
    """
    paths = [folder / "metrics.json", folder / "curves.csv", folder / "curves.png"]
    files.write_json(paths[0], document)
    curves.write_csv(paths[1], scores)
    teacher_forced = document["protocol"].get("mode") == "teacher_forced"
    figure = curves.of_scores(scores, curves.axis_label(context, teacher_forced), clips.sources)
    curves.draw(paths[2], figure)
    paths += per_clip.write(folder, scores, clips)
    paths += write_tables(folder, tables.of_evaluation(document))
    frames = folder / "frames.npz"
    model = next(iter(scores.values()))
    with files.atomic_write(frames) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, truth=truth, model=model.examples[: len(truth), 0])
    paths.append(frames)
    rows, observed = [], context
    for example in (examples or shown.kept(truth, model.examples)) if draw else ():
        observed = len(example.truth) - example.predictions.shape[1]
        paths += _draw(folder / f"clip_{example.rank.replace(' ', '_')}", example, observed, fps)
        rows.append(_row(example, clips, observed))
    page = folder / "report.html"
    with files.atomic_write(page) as temporary:
        temporary.write_text(pages.evaluation(document, figure, rows, observed, fps), encoding="utf-8")
    return [*paths, page]


def write_tables(folder, table):
    """Writes a `tfvp.evaluation.tables.Table` as table.md and table.tex, and returns the paths."""
    paths = [folder / "table.md", folder / "table.tex"]
    for path, text in zip(paths, (tables.markdown(table), tables.latex(table))):
        with files.atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def _draw(stem, example, observed, fps):
    """Writes an example as a GIF and as a strip, and returns the paths."""
    gif, strip = stem.with_suffix(".gif"), stem.with_suffix(".png")
    samples = example.predictions[list(dict.fromkeys(example.samples.values()))]
    video_io.write_video(gif, pictures.comparison(example.truth, samples, observed), fps)
    video_io.write_video(strip, pictures.comparison_strip(example.truth, samples, observed)[None], fps)
    return [gif, strip]


def _row(example, clips, observed):
    """An example as a `tfvp.evaluation.player.Clip`."""
    panels = [player.Panel("truth", example.truth, truth=True)]
    for name, sample in example.samples.items():
        video = np.concatenate([example.truth[:observed], example.predictions[sample]])
        panels.append(player.Panel(name, video))
    identity = clips.ids[example.clip] if example.clip < len(clips.ids) else ""
    return player.Clip(example.title(), identity, panels, (0, 1))
