"""Video rendered from label maps: `tfvp render-labels --logdir RUN --structures FOLDER`.

Reads what `tfvp predict-labels` wrote and renders every sample of every clip as
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
    """Renders a folder of label maps, in place of videos of this kind that were rendered of the same clips before.

    Args:
        run: a `tfvp.run.Run` of a model that renders label maps, "hierarchical".
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
    if not model.renders_labels:
        raise UserError(f"{run.path} is a run of {run.config.model.name}; rendering needs one of hierarchical")
    if index["frame_stride"] != run.config.data.frame_stride:
        progress(
            f"the label maps are {index['frame_stride']} frames apart, the image generator was trained on frames"
            f" {run.config.data.frame_stride} apart: motion is larger than it knows"
        )
    target = files.writable_folder(run.path / "painted" / index["split"])
    known = index.get("windows")  # 0.1 writes none
    clips = sorted(path.name for path in folder.glob("clip_*") if not known or path.name in known)
    if not clips:
        raise UserError(f"{folder} holds no label maps; write them with `tfvp predict-labels`")
    for clip in clips:
        observed = predict_labels.observed_frames(run.config, index, clip, model.window - 1)
        for older in (target / clip).glob(f"sample_*.{kind}"):
            older.unlink()
        for sample in map(predict_labels.sample_name, range(index["samples"] + 1)):
            video = render_clip(model, observed, predict_labels.read_label_maps(folder / clip / sample))
            path = target / clip / f"{sample}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            video_io.write_video(path, video, fps=8)
        progress(f"{clip}: {index['samples'] + 1} videos")
    return target


def render_clip(model, observed, labels):
    """Renders the label maps of one clip.

    Args:
        model: with `renders_labels`.
        observed: the clip's first frames, float32 [window - 1, H, W, 3] in [0, 1].
        labels: label maps [T, H, W], those of the observed frames included.

    Returns:
        uint8 [T, H, W, 3]; the first frames are `observed`, as they are.

    Raises:
        UserError: the label maps have another size than the model's frames, or are too few.
    """
    if labels.shape[1:] != model.image_shape[:2] or len(labels) <= len(observed):
        raise UserError(
            f"label maps of shape {labels.shape} do not fit: the model renders {model.image_shape[0]} x"
            f" {model.image_shape[1]} pixels, after {len(observed)} frames"
        )
    render, count = model.graph("render", model.render), len(observed)
    previous, frames = 2.0 * observed[None] - 1.0, [to_uint8(observed)]
    for start in range(count, len(labels), CHUNK):
        section = np.clip(labels[start - count : start + CHUNK], 0, model.classes - 1)
        real = len(section) - count
        section = np.pad(section, [(0, CHUNK - real), (0, 0), (0, 0)], mode="edge")  # one trace for all chunks
        rendered = render(previous, tf.constant(section[None], tf.int32))["final"]
        frames.append(to_uint8(0.5 * (rendered[0, :real] + 1.0)))
        previous = tf.concat([previous, rendered[:, :real]], axis=1)[:, -count:]
    return np.concatenate(frames)
