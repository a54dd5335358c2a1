"""Label maps to video: `tfvp render-labels --logdir RUN --structures FOLDER`.

Reads what `tfvp predict-labels` wrote and renders every sample of every clip:
<run>/painted/<split>/clip_00007/sample_00001.mp4. The first frames, as many as the image
generator starts from, are the true ones.
"""

import pathlib

import numpy as np
import tensorflow as tf

from tfvp import files, video_io
from tfvp.errors import UserError
from tfvp.frames import to_uint8
from tfvp.models.build import load_run
from tfvp.prediction import predict_labels

CHUNK = 50  # frames per graph call


def render(run, folder, kind="mp4", weights="best", progress=print):
    """Renders a folder of label maps.

    Args:
        run: a `tfvp.run.Run` of the model "hierarchical".
        folder: what `predict_labels.extract` returned.
        kind: mp4, avi or gif.
        weights: "best" or "last".
        progress: called with a sentence per clip.

    Returns:
        The folder written.

    Raises:
        UserError: another model, label maps of another size, or files that are missing.
    """
    folder = pathlib.Path(folder)
    if not (folder / "index.json").is_file() and (folder / "test" / "index.json").is_file():
        folder = folder / "test"
    index = predict_labels.read_index(folder)
    model = load_run(run.path, weights)
    if run.config.model.name != "hierarchical":
        raise UserError(f"{run.path} is a run of {run.config.model.name}; rendering needs one of hierarchical")
    if index["frame_stride"] != run.config.data.frame_stride:
        progress(
            f"the label maps are {index['frame_stride']} frames apart, the image generator was trained on frames"
            f" {run.config.data.frame_stride} apart: motion is larger than it knows"
        )
    target = files.writable_folder(run.path / "painted" / index["split"])
    for clip in sorted(folder.glob("clip_*")):
        number = int(clip.name.split("_")[1])
        before = predict_labels.frames_of_clip(run.config, number, model.window - 1, index["split"])
        for sample in sorted(clip.glob("sample_*")):
            video = render_clip(model, before, predict_labels.read_maps(sample))
            path = target / clip.name / f"{sample.name}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            video_io.write_video(path, video, fps=8)
        progress(f"clip {number}: {index['samples'] + 1} videos")
    return target


def render_clip(model, before, maps):
    """Frames uint8 [T, H, W, 3] of label maps [T, H, W]; the first are `before` [window - 1, H, W, 3], as they are.

    Raises:
        UserError: the label maps have another size than the model's frames, or are too few.
    """
    if maps.shape[1:] != model.image_shape[:2] or len(maps) <= len(before):
        raise UserError(
            f"label maps of shape {maps.shape} do not fit: the model renders {model.image_shape[0]} x"
            f" {model.image_shape[1]} pixels, after {len(before)} frames"
        )
    brush, count = model.graph("render", model.render), len(before)
    previous, frames = 2.0 * before[None] - 1.0, [to_uint8(before)]
    for start in range(count, len(maps), CHUNK):
        part = np.clip(maps[start - count : start + CHUNK], 0, model.classes - 1)
        real = len(part) - count
        part = np.pad(part, [(0, CHUNK - real), (0, 0), (0, 0)], mode="edge")  # one trace for all chunks
        made = brush(previous, tf.constant(part[None], tf.int32))["final"]
        frames.append(to_uint8(0.5 * (made[0, :real] + 1.0)))
        previous = tf.concat([previous, made[:, :real]], axis=1)[:, -count:]
    return np.concatenate(frames)
