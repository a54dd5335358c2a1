"""assets.extra/model.json of an export: what its signatures do not say."""

import dataclasses
import pathlib

import numpy as np

import tfvp
from tfvp import files, registry
from tfvp import run as runs
from tfvp.evaluation.provenance import epoch_of
from tfvp.files import sha256
from tfvp.preprocessing import Preprocessing

FORMAT = 1
FILE = pathlib.PurePosixPath("assets.extra/model.json")


def describe(run, model, weights, limits, functions, signatures):
    """The description, as plain JSON types.

    Args:
        run: a `tfvp.run.Run`.
        model: its `VideoModel`, loaded.
        weights: "best" or "last", those that were loaded.
        limits: a `tfvp.serving.checks.Limits`.
        functions: `ServedModel.functions()`.
        signatures: `ServedModel.signatures()`.

    Returns:
        A dict. "fps" is the rate of the frames that the model takes, null where the data set has none; "horizon" how
        far the run's own evaluation predicts; "range" what 0 and 255 become in floats; null in a shape is an axis of
        any length.
    """
    config, dataset = run.config, registry.lookup("dataset", run.config.data.name)
    preprocessing = preprocessing_of(config, model).to_dict()
    rate = preprocessing["fps"] or dataset.info.fps
    file = run.weights_file(weights)
    return {
        "format": FORMAT,
        "name": run.path.name,
        "model": config.model.name,
        "data": config.data.name,
        "parameters": int(sum(np.prod(v.shape) for v in model.weights)),
        "context": config.eval.open_loop_ctx,
        "fewest_context": model.fewest_context,
        "multiple": model.context_multiple,
        "horizon": config.eval.eval_seq_len - config.eval.open_loop_ctx,
        "max_horizon": limits.horizon,
        "max_samples": limits.samples if model.stochastic else 1,
        "stochastic": model.stochastic,
        "preprocessing": preprocessing,
        "fps": rate / preprocessing["frame_stride"] if rate else None,
        **{key: preprocessing[key] for key in ("frame_stride", "image_size", "channels", "range", "resize")},
        "precision": config.train.precision,
        "weights": {
            "which": weights,
            "file": file.relative_to(run.path).as_posix(),
            "sha256": sha256(file),
            "epoch": epoch_of(run, weights),
        },
        "version": tfvp.__version__,
        "commit": runs.commit(),
        "signatures": {
            name: {
                "inputs": {key: _tensor(spec) for key, spec in specs.items()},
                "outputs": {key: _tensor(output) for key, output in signatures[name].structured_outputs.items()},
            }
            for name, (_, specs) in functions.items()
        },
    }


def preprocessing_of(config, model):
    """What is done to videos before a model of `config` observes them, a `tfvp.preprocessing.Preprocessing`."""
    # Label maps are a channel more than the frames of the data set have.
    return dataclasses.replace(Preprocessing.from_config(config), channels=model.image_shape[-1])


def write(saved_model, description):
    """Writes the description of a SavedModel; returns its path."""
    path = pathlib.Path(saved_model) / FILE
    files.write_json(path, description)
    return path


def _tensor(spec):
    return {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
