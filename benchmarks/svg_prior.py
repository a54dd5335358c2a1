"""When is SVG's learned prior uncertain? `tfvp benchmark svg-prior --logdir ./logs/svg_tiny`

Denton and Fergus (2018, section 4.1) find that the deviation of the learned prior rises when a
digit is about to hit a wall. Here it is the mean over test clips of the prior's standard
deviation, by how many frames ago the digit touched a wall. In stochastic Moving MNIST a digit
that touches one gets its new direction in that frame, so the frame after it is the uncertain one.

Where the runs are evaluated, it also gives the SSIM of the predicted frames after the first wall
hit behind the context: of the best sample of each clip, of the mean over samples, of copy-last.
"""

import numpy as np
import tensorflow as tf

import tfvp
from tfvp import run as runs
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.pipeline import draws

FEWEST = 30  # frames behind a line of the table


def touches(dataset, split, clips, frames):
    """Whether the one digit of each clip touches a wall in each frame: bool [N, frames]."""
    random = draws.keys(dataset.name, split, 0, clips)
    each = draws.Draws(draws.keys(random[:, None], np.arange(1)))
    each.integers(0, 10)  # the digit
    corners = dataset.paths(each, frames + 1)[:, :, 0].astype(np.int64)
    moves = np.diff(corners, axis=0)
    turned = np.any(moves[1:] != moves[:-1], axis=-1)  # between frames t and t + 1 it moves otherwise than before
    return np.concatenate([np.zeros((1, len(clips)), bool), turned]).T[:, :frames]


def after_the_bounce(path, dataset, context):
    """{predictor: SSIM} of the frames after the first wall hit that comes after the context, over evaluated clips."""
    with np.load(path / "eval" / "default" / "per_clip.npz") as archive:
        values = {name: archive[f"{name}/ssim"] for name in ("model", "copy_last")}  # [clips, samples, horizon]
    clips, _, horizon = values["model"].shape
    hit = touches(dataset, "test", np.arange(clips), context + horizon)[:, context - 1 :]  # seen from the last one
    after = np.cumsum(hit, axis=1)[:, :-1] > 0  # predicted frame t follows a hit at frame t - 1 or before
    chosen = after.any(axis=1)

    def mean(ssim):
        kept = np.where(after[:, None], ssim, np.nan)[chosen]
        return np.nanmean(kept, axis=2)

    model = mean(values["model"])
    return {
        f"best of {model.shape[1]}": model.max(axis=1).mean(),
        "mean of samples": model.mean(),
        "copy-last": mean(values["copy_last"]).mean(),
        "clips": int(chosen.sum()),
    }


def run(options):
    run = runs.find(options.logdir)
    if run.config.data.name != "stochastic_mnist" or run.config.data.get("num_digits", 2) != 1:
        raise UserError(f"{run.path} was not trained on stochastic_mnist with data.num_digits=1")
    model, dataset = tfvp.load_run(run.path), build_dataset(run.config)
    if model.prior is None:
        raise UserError(f"{run.path} has no learned prior; use a run with model.prior=learned")
    clips = np.arange(options.clips)
    video = dataset.read("test", clips, np.zeros_like(clips), options.frames)["video"]
    hit = touches(dataset, "test", clips, options.frames)
    deviations = []
    for start in range(0, len(clips), 32):
        codes, _ = model.encode(tf.cast(video[start : start + 32], tf.float32) / 255.0, model.inference_mode)
        deviations.append(tf.reduce_mean(model.prior_distribution(codes[:, :-1])[1], axis=-1).numpy())
    deviation = np.concatenate(deviations)  # [clips, frames - 1], of the latent of frame t + 1 given frames 0 ... t
    ago = np.full(hit.shape, 99)
    for t in range(hit.shape[1]):
        ago[:, t] = np.where(hit[:, t], 0, np.where(t > 0, ago[:, t - 1] + 1, 99))
    print(f"{run.path}: {options.clips} test clips, {int(hit.sum())} wall hits")
    print("last frame seen is       prior deviation   frames")
    settled = np.arange(hit.shape[1] - 1) >= model.context - 1  # the recurrent state has seen some frames
    for n, label in (
        (0, "at a wall"),
        (1, "1 after a wall"),
        (2, "2 after"),
        (3, "3 after"),
        (None, "4 or more after"),
    ):
        chosen = (ago[:, :-1] == n if n is not None else (ago[:, :-1] >= 4)) & settled
        if chosen.sum() >= FEWEST:
            values = deviation[chosen]
            error = values.std() / len(values) ** 0.5
            print(f"{label:22}   {values.mean():.4f} +- {error:.4f}   {int(chosen.sum())}")
    for found in filter(None, [run, options.against and runs.find(options.against)]):
        if (found.path / "eval" / "default" / "per_clip.npz").is_file():
            scores = after_the_bounce(found.path, dataset, found.config.eval.open_loop_ctx)
            print(
                f"SSIM after the first bounce, {found.path.name}: "
                + ", ".join(f"{k} {v:.4g}" for k, v in scores.items())
            )
