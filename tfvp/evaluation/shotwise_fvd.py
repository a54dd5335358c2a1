"""Shot-wise FVD: `tfvp shotwise-fvd --logdir RUN --horizon 500`.

FVD(t) compares the predicted frames t ... t + window - 1 of many futures with shots of as many
frames from the training videos (Lee et al. 2021, arXiv 2104.06697): whether frame 400 still
looks like the data, whatever the true frame 400 was. The paper's window is not known; 16 here.
"""

import numpy as np
import tensorflow as tf

from tfvp import devices, files
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import precision, provenance
from tfvp.metrics import fvd, i3d
from tfvp.metrics.base import FEWEST_CLIPS
from tfvp.metrics.moments import Moments
from tfvp.models import input_checks
from tfvp.models.build import load_run
from tfvp.pipeline import batching
from tfvp.pipeline.windows import sample

SEED = 0
BATCH = 8


def shotwise_fvd(run, horizon, window=16, samples=1, num_examples=64, shots=512, weights="best", progress=print):
    """Computes and writes FVD(t) of a run: `eval/shotwise_fvd.json`.

    Args:
        run: a `tfvp.run.Run`.
        horizon: predicted frames; whole windows of them count.
        window: frames of a shot, at least 10.
        samples: futures per clip, of a stochastic model; all are pooled.
        num_examples: windows of the test clips that are observed; see `tfvp.pipeline.windows.sample`.
        shots: shots of the training videos, drawn at random from all overlapping ones.
        weights: "best" or "last".
        progress: called with a sentence now and then.

    Returns:
        {"fvd": {first frame of the window, from 0: FVD}, and what it was computed with}.

    Raises:
        UserError: too few frames, clips or shots.
    """
    config = run.config
    if window < fvd.FEWEST_FRAMES or horizon < window:
        raise UserError(f"--window={window} must be at least {fvd.FEWEST_FRAMES}, and --horizon at least that")
    model, context, stride = load_run(run.path, weights), config.eval.open_loop_ctx, config.data.frame_stride
    model.check_context(context)
    samples = samples if model.stochastic else 1
    _check_count(
        min(num_examples * samples, shots),
        f"make --num-examples times --num-samples, and --shots, at least {FEWEST_CLIPS}",
    )
    dataset = build_dataset(config)
    dataset.prepare()
    observed = sample(dataset, "test", context, stride, num_examples)
    input_checks.check_clips(model, len(observed[0]), f"an evaluation on {len(observed[0])} of the test clips")
    _check_count(
        len(observed[0]) * samples,
        f"the test split holds {len(observed[0])} windows of {context} frames: add videos, or take several samples of a"
        " stochastic model",
    )

    def logits(videos):
        with precision.measuring():
            return i3d.graph()(i3d.as_rgb(videos))

    reference = Moments(fvd.FVD.size)
    for videos in training_shots(dataset, window, shots, stride):
        reference.add(logits(videos))
    _check_count(
        int(reference.count), f"the training split holds {int(reference.count)} shots of {window} frames: add videos"
    )
    progress(f"{int(reference.count)} shots of the training videos")
    needs = [key for key in model.needs if key == "labels"]
    batches, count = batching.evaluation_batches(
        dataset, "test", batch_size=BATCH, length=context, stride=stride, needs=needs, windows=observed
    )
    windows = [Moments(fvd.FVD.size) for _ in range(horizon // window)]
    for batch in batches:
        real = int(tf.reduce_sum(batch["mask"][:, 0]))
        futures = model.rollout(batch["video"], len(windows) * window, samples, window, batch["id"])
        for moments, shot in zip(windows, futures):
            flat = tf.reshape(shot[:real, ..., : dataset.frame_shape[-1]], [-1, window, *dataset.frame_shape])
            moments.add(logits(tf.clip_by_value(flat, 0.0, 1.0)))
        progress(f"{int(windows[0].count)} of {count * samples} futures")
    gaussian = reference.gaussian()
    result = {
        "fvd": {str(n * window): fvd.frechet_distance(gaussian, m.gaussian()) for n, m in enumerate(windows)},
        "window": window,
        "context": context,
        "futures": int(windows[0].count),
        "clips": count,
        "shots": int(reference.count),
        "convention": (
            "I3D Kinetics-400 logits, frames resized as in fvd; predictions of test clips against random shots of"
            " training clips"
        ),
        "data": {
            **config.data.to_dict(),
            "windows": provenance.describe_clips(dataset, "test", *observed[:2], context).windows(),
            "notes": dataset.notes(),
        },
        "networks": provenance.describe_networks(["fvd"]),
        "run": provenance.describe_run(run, model, weights, devices.names()[:1]),
    }
    files.write_json(run.folder("eval") / "shotwise_fvd.json", result)
    return result


def _check_count(count, advice):
    if count < FEWEST_CLIPS:
        raise UserError(f"FVD of {count} clips is mostly bias; {advice}")


def training_shots(dataset, window, shots, stride=1):
    """Yields float32 [n, window, H, W, C] in [0, 1]: random ones of all overlapping shots of the training clips."""
    clips = dataset.usable_clips("train", window, stride)
    places = dataset.clip_lengths("train")[clips] - (window - 1) * stride
    random = np.random.default_rng(SEED)
    chosen = np.sort(random.choice(places.sum(), min(shots, int(places.sum())), replace=False))
    ends = np.cumsum(places)
    which = np.searchsorted(ends, chosen, side="right")
    starts = chosen - (ends - places)[which]
    for first in range(0, len(chosen), BATCH):
        part = slice(first, first + BATCH)
        video = dataset.read("train", clips[which[part]], starts[part], window, stride)["video"]
        yield tf.cast(video, tf.float32) / (255.0 if video.dtype == np.uint8 else 1.0)
