"""The files that an evaluation writes: JSON, CSV, curves, GIFs, strips and one HTML page."""

import numpy as np

from tfvp import files, video_io
from tfvp.evaluation import curves, pages, per_clip, pictures


def write(folder, document, scores, truth, clips, context, fps=8.0, draw=True):
    """Writes a report.

    Args:
        folder: a `pathlib.Path`; metrics.json, curves.csv, curves.png, per_clip.npz, per_clip.csv,
            frames.npz (the kept clips), GIFs, strips and report.html go there.
        document: the contents of metrics.json: see `tfvp.evaluation.documents`.
        scores: {predictor: tfvp.evaluation.scoring.Scores}.
        truth: uint8 [clips, T, H, W, C], the true frames of the kept clips.
        clips: the `tfvp.evaluation.per_clip.Clips` of all clips.
        context: observed frames among them.
        fps: frame rate of the GIFs.
        draw: whether to write GIFs and strips.

    Returns:
        The paths written, report.html last.
    """
    paths = [folder / "metrics.json", folder / "curves.csv", folder / "curves.png"]
    files.write_json(paths[0], document)
    curves.write_csv(paths[1], scores)
    curves.draw(paths[2], scores, context)
    paths += per_clip.write(folder, scores, clips)
    frames = folder / "frames.npz"
    with files.atomic_write(frames) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, truth=truth, model=scores["model"].examples[: len(truth), 0])
    drawn = [frames]
    for clip in range(len(truth) if draw else 0):
        gif, strip = folder / f"clip_{clip:03d}.gif", folder / f"clip_{clip:03d}.png"
        samples = scores["model"].examples[clip]
        video_io.write_video(gif, pictures.comparison(truth[clip], samples, context), fps)
        video_io.write_video(strip, pictures.comparison_strip(truth[clip], samples, context)[None], fps)
        drawn += [gif, strip]
    page = folder / "report.html"
    with files.atomic_write(page) as temporary:
        temporary.write_text(pages.page(document, paths[2], drawn), encoding="utf-8")
    return [*paths, *drawn, page]
