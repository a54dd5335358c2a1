"""SavedModels for TF Serving: `tfvp export --logdir RUN`.

A version `export/<n>/` of a run has the signatures of `tfvp.serving.signatures`. In its assets.extra/ lie
model.json, which says what the model is and how videos become its frames, and tf_serving_warmup_requests,
with which TF Serving warms the model up.
"""

import shutil

import tensorflow as tf

from tfvp import files
from tfvp.errors import UserError
from tfvp.models.build import load_run
from tfvp.serving import description, warmup
from tfvp.serving.checks import Limits
from tfvp.serving.signatures import ServedModel


def export(run, weights="best", max_horizon=0, max_samples=100):
    """Writes the next version of a run's SavedModel.

    Args:
        run: a `tfvp.run.Run`.
        weights: "best" or "last".
        max_horizon: frames that a request may ask for. 0 = 1000, or the run's own horizon where that is longer.
        max_samples: futures of each context that a request may ask for.

    Returns:
        The path `export/<n>`.

    Raises:
        UserError: the run has no such weights, limits below 1, or the folder cannot be written.
    """
    if max_horizon < 0 or max_samples < 1:
        raise UserError(f"--max-horizon {max_horizon} and --max-samples {max_samples} must be positive")
    settings = run.config.eval
    context, horizon = settings.open_loop_ctx, settings.eval_seq_len - settings.open_loop_ctx
    limits = Limits(max_horizon or max(Limits.horizon, horizon), max_samples)
    model = load_run(run.path, weights)
    folder = files.writable_folder(run.path / "export")
    versions = [int(p.name) for p in folder.iterdir() if p.name.isdigit()]
    target = folder / str(max(versions, default=0) + 1)
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    served, signatures = save(model, temporary, limits)
    requests = warmup.requests_for(served, context, min(horizon, limits.horizon))
    warmup.write(temporary, run.path.name, requests)
    about = description.describe(run, model, weights, limits, served.functions(), signatures)
    description.write(temporary, about)
    temporary.rename(target)
    return target


def save(model, path, limits=None):
    """Writes a built model as a SavedModel.

    Args:
        model: a `VideoModel`.
        path: the folder to write.
        limits: a `tfvp.serving.checks.Limits`.

    Returns:
        (The `ServedModel`, its signatures).
    """
    served = ServedModel(model, limits)
    signatures = served.signatures()
    tf.saved_model.save(served, str(path), signatures=signatures)
    return served, signatures
