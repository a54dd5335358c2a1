"""The future of one video: a file in, a file out, no data set."""

import dataclasses
import os
import pathlib

import numpy as np
import tensorflow as tf

from tfvp import run as runs
from tfvp import video_io
from tfvp.datasets.build import check_output, check_root, lacks_root
from tfvp.errors import UserError
from tfvp.evaluation import pictures, scoring
from tfvp.evaluation.selection import data_config
from tfvp.frames import to_uint8
from tfvp.models import baselines
from tfvp.models.build import load_run
from tfvp.prediction import clips
from tfvp.prediction.futures import Futures, as_floats
from tfvp.preprocessing import Preprocessing, preprocess
from tfvp.zoo import shelf

SUFFIXES = (".mp4", ".avi", ".gif", ".png", ".npy")
METRICS = ("psnr", "ssim", "lpips")


@dataclasses.dataclass
class Forecast:
    """What `forecast` wrote, and how good it is where that can be said.

    Attributes:
        path: the file written.
        observed: (first, last) frame that was observed, numbers of the video at the rate that the model takes, before
            its stride; None where the last frames of the video were.
        scores: {"model": {metric: its `summary()`}, "copy_last": ...} over the true frames; {} if there are none.
        scored: number of true frames.
        notes: sentences for the user.
    """

    path: pathlib.Path
    observed: tuple[int, int] | None
    scores: dict
    scored: int
    notes: list[str]


def forecast(
    logdir: str | os.PathLike,
    video: str | os.PathLike | None,
    context: int | None = None,
    horizon: int | None = None,
    samples: int = 1,
    out: str | os.PathLike | None = None,
    weights: str = "best",
    start: int | None = None,
    seed: int = 0,
    clip: int | None = None,
    datadir: str | os.PathLike | None = None,
) -> Forecast:
    """Predicts the frames that follow a video, or a place in it, and writes them.

    Args:
        logdir: a run, its `model/` folder, or a folder of runs (then the newest).
        video: a file or a folder of images, as `tfvp.video_io.read_video` takes them; its frames become what the
            run was trained on by the rule of its data set (`tfvp.preprocessing`); the clip that comes with a trained
            model holds such frames already. None with a `clip`.
        context: observed frames. Defaults to the run's `eval.open_loop_ctx`.
        horizon: predicted frames. Defaults to those of the run's evaluation.
        samples: futures of a stochastic model, side by side in the file.
        out: .mp4, .avi, .gif, .png or .npy. Defaults to "<video>_future.mp4" in the working directory,
            with a `clip` "clip<number>_future.mp4"; see `output_path`.
        weights: "best" or "last".
        start: the first observed frame, from 0, at the rate `data.fps` and before `data.frame_stride`; what follows
            the observed frames is then drawn and scored beside the prediction as far as the video goes. Defaults to
            the last frames of the video, whose future nobody knows; with a `clip` to its first frames. Of a clip that
            comes with a trained model it is the number of a frame.
        seed: of the futures of a stochastic model.
        clip: number of a clip of the test split of the run's data set, from 0, which takes the place of a video.
        datadir: with a `clip`, the folder of the data set. Defaults to the configuration's `data.root`.

    Returns:
        A `Forecast`. The file it names holds `context` + `horizon` frames. Each is a row of panels with a border of
        one pixel: the truth if there is a `start` (green, black where the video has ended), then every sample (green
        where observed, red where predicted). A .png has these frames side by side. A .npy holds the predictions
        alone, without borders: uint8 [samples * horizon, H, W, C], one sample after the other.

    Raises:
        UserError: the video cannot be read or is too short, the model cannot take the context, a number is out of
            range, the data of a `clip` are missing, or the suffix of `out` is unknown, or it lies among the files of
            the run's data set.
    """
    run = runs.find(logdir)
    config = data_config(run.config, datadir)
    video = pathlib.Path(f"clip{clip}" if video is None else video)
    context = config.eval.open_loop_ctx if context is None else context
    horizon = config.eval.eval_seq_len - config.eval.open_loop_ctx if horizon is None else horizon
    if min(context, horizon, samples) < 1:
        raise UserError("--open-loop-ctx, --horizon and --num-samples must be at least 1")
    check_seed(seed)
    _check_start(start)
    out = output_path(out, video)
    check_output(config, out)
    if clip is not None:
        check_root(config, run.path)
    model = load_run(run.path, weights)
    if "labels" in model.needs and clip is None:
        raise UserError(
            f"{config.model.name} observes label maps beside the frames, which --video has not; give it a clip of its"
            f" own data set with --test-clip 0{' --datadir FOLDER' if lacks_root(config) else ''}"
        )
    model.check_context(context)
    samples = samples if model.stochastic else 1
    description = Preprocessing.from_config(config)
    rule = description
    if clip is None:
        if video.resolve() in [(run.path / name).resolve() for name in shelf.CLIPS]:
            rule = dataclasses.replace(description, fps=0.0, frame_stride=1)
        frames = observed_frames(rule, video, context, start, 0 if start is None else horizon)
    else:
        # What the data set itself leaves out is not in its clips.
        start, rule = start or 0, dataclasses.replace(description, frame_stride=config.data.frame_stride)
        frames = clips.test_clip(config, clip, context + horizon, model.needs, start)
        _check_length(frames, f"test clip {clip} of {config.data.name}", rule, context, start)
    observed, truth = frames[:context], frames[context:]
    scores, notes = {}, []
    futures = Futures(model)
    chunks, scored = [], []
    for chunk in futures.imagine(futures.observe(observed, samples, seed), horizon):
        done = sum(one.shape[1] for one in chunks)
        scored.append(chunk[:, : max(0, len(truth) - done)])
        chunks.append(to_uint8(chunk))
    predicted = np.concatenate(chunks, axis=1)
    if len(truth):
        scores, notes = _scored(model, frames, np.concatenate(scored, axis=1))
    if start is not None and len(truth) < horizon:
        ends = f"ends {len(truth)} frames after the observed ones" if len(truth) else "ends with the observed frames"
        notes.insert(0, f"{video} {ends}, so {len(truth) or 'none'} of the {horizon} predicted ones can be scored.")
    write(out, to_uint8(observed), predicted, description, None if start is None else to_uint8(truth))
    last = None if start is None else start + (context - 1) * rule.frame_stride
    return Forecast(out, None if start is None else (start, last), scores, len(truth), notes)


def output_path(out: str | os.PathLike | None, video: pathlib.Path) -> pathlib.Path:
    """The file to write; without `out` it lies in the working directory, or beside a video that this is a folder of.

    Raises:
        UserError: its suffix is none of `SUFFIXES`.
    """
    whole = pathlib.Path(os.path.abspath(video))
    folder = whole.parent if pathlib.Path.cwd().is_relative_to(whole) else pathlib.Path()
    path = pathlib.Path(out) if out else folder / f"{whole.stem}_future.mp4"
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {path}: the suffix must be {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return path


def observed_frames(
    description: Preprocessing, video: pathlib.Path, context: int, start: int | None = None, more: int = 0
) -> np.ndarray:
    """The observed frames of a video and up to `more` after them.

    Args:
        description: a `Preprocessing`.
        video: as in `forecast`.
        context: observed frames.
        start: number of the first, or None for the last `context` frames of the video.
        more: frames after the context.

    Returns:
        uint8 [context ... context + more, H, W, C].

    Raises:
        UserError: the video cannot be read, or has fewer frames; or `start` is negative.
    """
    _check_start(start)
    frames = preprocess(description, video, start, context + more)
    _check_length(frames, video, description, context, start)
    return frames


def check_seed(seed: int) -> None:
    """Checks the seed of futures.

    Raises:
        UserError: it has more than 64 bits.
    """
    if not -(2**63) <= seed < 2**63:
        raise UserError(f"--seed={seed} must be from {-(2**63)} to {2**63 - 1}")


def _check_start(start):
    if start is not None and start < 0:
        raise UserError(
            f"--start={start} must be a frame of the video, from 0; leave it out to observe the last frames"
        )


def _check_length(frames, video, description, context, start):
    if len(frames) < context:
        thinned = [f"{description.fps:g} frames per second"] if description.fps else []
        thinned += [f"one frame in {description.frame_stride}"] if description.frame_stride > 1 else []
        place = "" if start is None else f" from frame {start} on"
        rate = f" (the model takes {', '.join(thinned)})" if thinned else ""
        raise UserError(
            f"{video} has {len(frames)} frames{place}{rate}, fewer than the {context} to observe;"
            f" lower --open-loop-ctx{'' if start is None else ' or --start'}"
        )


def write(
    out: pathlib.Path,
    observed: np.ndarray,
    predicted: np.ndarray,
    description: Preprocessing,
    truth: np.ndarray | None = None,
) -> None:
    """Writes observed and predicted frames; see `forecast`.

    Args:
        out: the file.
        observed: uint8 [context, H, W, C].
        predicted: uint8 [samples, horizon, H, W, C].
        description: a `Preprocessing`, whose rate the video is played at; 8 frames a second where it has none.
        truth: uint8 [at most horizon, H, W, C], what really followed; None draws no panel of it.
    """
    if out.suffix.lower() == ".npy":
        video_io.write_video(out, predicted.reshape(-1, *predicted.shape[2:]))
        return
    fps = description.fps / description.frame_stride or 8.0
    video_io.write_video(out, pictures.futures(observed, predicted, truth), fps)


class _Drawn:
    """Futures that are drawn, in the place of a model: `scoring.Scorer` rolls them out."""

    def __init__(self, model, futures):
        self.futures = futures
        self.stochastic = len(futures) > 1
        self.image_shape, self.predicts_labels = model.image_shape, model.predicts_labels

    def rollout(self, context, horizon, samples=1, chunk=50, ids=None, first_sample=0):
        futures = self.futures[None, first_sample : first_sample + samples]
        for start in range(0, horizon, chunk):
            yield tf.constant(futures[:, :, start : min(start + chunk, horizon)])


def _scored(model, frames, futures):
    """(scores, notes) of float32 [samples, n, H, W, C], the predictions of the last n of `frames` [T, H, W, C]."""
    horizon = futures.shape[1]
    context = len(frames) - horizon
    metrics, notes = scoring.usable_metrics(METRICS, model.image_shape, context, horizon)
    batch = {
        "video": tf.constant(as_floats(frames)[None]),
        "id": tf.zeros([1], tf.int64),
        "mask": tf.ones([1, len(frames)]),
    }
    predictors = {"model": _Drawn(model, futures), "copy_last": baselines.CopyLast(model.image_shape)}
    outcome = scoring.score(predictors, [batch], 1, metrics, context, horizon, len(futures), num_examples_kept=1)
    return {name: result.summaries for name, result in outcome.scores.items()}, notes
