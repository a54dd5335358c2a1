"""The future of one video: a file in, a file out, no data set."""

import pathlib

import numpy as np
import tensorflow as tf

from tfvp import run as runs
from tfvp import video_io
from tfvp.errors import UserError
from tfvp.evaluation import pictures
from tfvp.frames import to_uint8
from tfvp.models.build import load_run
from tfvp.preprocessing import Preprocessing, preprocess


def forecast(logdir, video, context=None, horizon=None, samples=1, out=None, weights="best"):
    """Predicts the frames that follow the beginning of a video, and writes them.

    Args:
        logdir: a run, its `model/` folder, or a folder of runs (then the newest).
        video: a file or a folder of images, as `tfvp.video_io.read_video` takes them; it is
            brought to the size, colours and rate that the run was trained on, by the rule of its data set.
        context: observed frames. Defaults to the run's `eval.open_loop_ctx`.
        horizon: predicted frames. Defaults to those of the run's evaluation.
        samples: futures of a stochastic model, side by side in the file.
        out: .mp4, .avi, .gif, .png or .npy. Defaults to "<video>_future.mp4".
        weights: "best" or "last".

    Returns:
        The path written. All but .npy show the frames in green borders where they were observed
        and in red ones where they are predicted; .npy holds the predictions alone, uint8
        [samples * horizon, H, W, C], one sample after the other.

    Raises:
        UserError: the video cannot be read or is too short, the model cannot take the context, or
            the suffix of `out` is unknown.
    """
    run = runs.find(logdir)
    config, video = run.config, pathlib.Path(video)
    context = context or config.eval.open_loop_ctx
    horizon = horizon or config.eval.eval_seq_len - config.eval.open_loop_ctx
    if horizon < 1 or samples < 1:
        raise UserError("--horizon and --num-samples must be at least 1")
    model = load_run(run.path, weights)
    if "labels" in model.needs:
        raise UserError(
            f"{config.model.name} observes label maps beside the frames, which --video has not; evaluate it on a data"
            " set with label maps"
        )
    model.check_context(context)
    out = pathlib.Path(out) if out else video.with_name(f"{video.stem}_future.mp4")
    if out.suffix.lower() not in (".mp4", ".avi", ".gif", ".png", ".npy"):
        raise UserError(f"--out {out}: the suffix must be .mp4, .avi, .gif, .png or .npy")
    frames = preprocess(Preprocessing.from_config(config), video)
    if len(frames) < context:
        raise UserError(f"{video} has {len(frames)} frames, fewer than the {context} to observe; lower --open-loop-ctx")
    samples = samples if model.stochastic else 1
    observed = tf.constant(frames[None, :context], tf.float32) / 255.0
    chunks = [to_uint8(chunk)[0] for chunk in model.rollout(observed, horizon, samples, config.eval.chunk)]
    predicted = np.concatenate(chunks, axis=1)
    if out.suffix.lower() == ".npy":
        video_io.write_video(out, predicted.reshape(-1, *predicted.shape[2:]))
        return out
    video_io.write_video(out, pictures.futures(frames[:context], predicted), fps=config.data.get("fps", 0.0) or 8.0)
    return out
