"""Evaluation: from a run and a protocol to a report."""

import dataclasses

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfvp import config as configuration
from tfvp import registry
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import documents, provenance, report, scoring
from tfvp.metrics import protocols
from tfvp.models import baselines
from tfvp.models.build import load_run
from tfvp.pipeline import batching


def choose_protocol(
    config, name=None, open_loop_ctx=None, eval_seq_len=None, num_examples=None, num_samples=None, split=None
):
    """The protocol of an evaluation: a named one, or the configuration's, with the command's changes.

    Args:
        config: the run's `tfvp.config.Config`.
        name: a name from `tfvp.metrics.protocols`. Defaults to the run's `eval.protocol`.
        open_loop_ctx, eval_seq_len, split: changes to the default protocol. Named protocols fix them.
        num_examples, num_samples: changes to any protocol; the report records them.

    Returns:
        A `tfvp.metrics.protocols.Protocol`.

    Raises:
        UserError: the name is unknown, the protocol fixes what is changed, or nothing is left to predict.
    """
    name = name or config.eval.protocol
    free = {"default": protocols.from_config, "all": protocols.every_convention}
    protocol = free[name](config) if name in free else protocols.get(name)
    fixed = {"context": open_loop_ctx, "seq_len": eval_seq_len, "split": split}
    flags = {"context": "--open-loop-ctx", "seq_len": "--eval-seq-len", "split": "--split"}
    for field, value in fixed.items():
        if value is not None and name not in free and value != getattr(protocol, field):
            raise UserError(
                f"protocol {name} fixes {flags[field]} at {getattr(protocol, field)}; leave the"
                f" flag out, or use --protocol default"
            )
    changes = {**fixed, "num_examples": num_examples, "samples": num_samples}
    protocol = dataclasses.replace(protocol, **{k: v for k, v in changes.items() if v is not None})
    if name in free and open_loop_ctx is not None and eval_seq_len is None and protocol.seq_len <= open_loop_ctx:
        predicted = config.eval.eval_seq_len - config.eval.open_loop_ctx
        protocol = dataclasses.replace(protocol, seq_len=open_loop_ctx + predicted)
    if protocol.context < 1 or protocol.seq_len <= protocol.context:
        raise UserError(
            f"--eval-seq-len={protocol.seq_len} leaves no frame to predict after {protocol.context} observed ones;"
            " raise it or lower --open-loop-ctx"
        )
    if protocol.samples < 1 or protocol.num_examples < 0:
        raise UserError("--num-samples must be at least 1 and --num-examples at least 0 (0 = all)")
    if protocol.dataset and protocol.dataset != config.data.name:
        raise UserError(
            f"protocol {name} is defined on data set {protocol.dataset}, but this run was"
            f" trained on {config.data.name};"
            " use --protocol default"
        )
    return protocol


def evaluate(run, protocol, datadir=None, weights=None, save_grid=True, progress=True, use_obs=None):
    """Scores a run's model and the trivial baselines, and writes `eval/<protocol>/`.

    Args:
        run: a `tfvp.run.Run`.
        protocol: a `tfvp.metrics.protocols.Protocol`.
        datadir: folder of the data. Defaults to the configuration's `data.root`.
        weights: "best" or "last". Defaults to the configuration's `eval.weights`.
        save_grid: whether to write GIFs and strips.
        progress: whether to show a progress bar.
        use_obs: "T" or "F" per level of a hierarchical model, bottom first: levels with "F" stay
            at their prior during the context (HTSR and CW-VAE; what each level remembers).

    Returns:
        (the contents of metrics.json, list of paths written).

    Raises:
        UserError: weights or data are missing, clips are too short, or the model cannot take the
            context.
    """
    config, weights = run.config, weights or run.config.eval.weights
    keras.mixed_precision.set_global_policy(config.train.precision)
    data = data_config(config, datadir, protocol.seq_len, protocol.windows)
    dataset = build_dataset(data)
    model = load_run(run.path, weights)
    model.check_context(protocol.context)
    if use_obs:
        switch_levels(model, use_obs)
    metrics, notes = scoring.usable_metrics(protocol.metrics)
    dataset.prepare()
    stride = protocol.frame_stride or config.data.frame_stride
    published = dataset.evaluation_windows(protocol.windows, protocol.seq_len, stride) if protocol.windows else None
    which = {"length": protocol.seq_len, "num_examples": protocol.num_examples, "stride": stride, "windows": published}
    numbers, starts, _ = batching.evaluation_windows(dataset, protocol.split, **which)
    batches, count = batching.evaluation_batches(
        dataset,
        protocol.split,
        batch_size=config.eval.batch_size,
        needs=[key for key in model.needs if key == "labels"],
        **which,
    )
    if protocol.samples > 1 and not model.stochastic:
        notes.append(f"{config.model.name} is deterministic, so one sample stands for all {protocol.samples}.")
    if protocol.num_examples and count < protocol.num_examples:
        notes.append(
            f"The {protocol.split} split has {count} clips of {protocol.seq_len} frames, fewer"
            f" than {protocol.num_examples}."
        )
    mean_frame = run.path / "model" / "mean_frame.npy"
    predictors = {
        "model": model,
        **baselines.trivial_predictors(model.image_shape, np.load(mean_frame) if mean_frame.is_file() else None),
    }
    scores, truth, hashes = scoring.score(
        predictors,
        batches,
        count,
        metrics,
        protocol.context,
        protocol.seq_len - protocol.context,
        protocol.samples,
        config.eval.chunk,
        protocol.mode,
        config.train.gif_examples,
        "evaluating" if progress else None,
    )
    clips = provenance.describe_clips(dataset, protocol.split, numbers, starts, protocol.seq_len, hashes)
    devices = [tf.config.list_logical_devices("GPU" if tf.config.list_physical_devices("GPU") else "CPU")[0].name]
    document = {
        "format": documents.FORMAT,
        "protocol": {**protocol.to_dict(), "clips": count},
        "modified": {},
        "tag": "",
        **{name: result.summaries for name, result in scores.items()},
        "notes": notes,
        "data": provenance.describe_data(data, dataset, protocol.split, stride, clips),
        "networks": provenance.describe_networks(metrics),
        "run": {
            **provenance.describe_run(run, model, weights, devices),
            **({"use_obs": use_obs} if use_obs else {}),
        },
    }
    folder = run.folder("eval") / protocol.name
    folder.mkdir(parents=True, exist_ok=True)
    fps = dataset.info.fps or 8.0
    paths = report.write(folder, document, scores, truth, clips, protocol.context, min(fps, 12.0), save_grid)
    return document, paths


def switch_levels(model, letters):
    """Sets which levels of a hierarchical model observe the context; see `evaluate`.

    Raises:
        UserError: the model has no levels, or another number of them.
    """
    levels = len(model.use_obs)
    if not levels:
        raise UserError(f"--use-obs is for hierarchical models (htsr); {model.registered_name} has no levels")
    if len(letters) != levels or set(letters.upper()) - {"T", "F"}:
        raise UserError(f"--use-obs={letters} must be T or F for each of {levels} levels, bottom first: {'T' * levels}")
    model.use_obs = [letter == "T" for letter in letters.upper()]


def data_config(config, root=None, frames=0, windows=""):
    """`config` for an evaluation's data.

    Args:
        config: the run's `tfvp.config.Config`.
        root: another `data.root`, or None.
        frames: length of the clips; drawn clips are made as long where they are shorter. Their
            first frames are the same, whatever their length.
        windows: the protocol's rule of test windows; its windows count the frames of whole
            clips, also where the model was trained on segments of them.
    """
    values = config.to_dict()
    if root is not None:
        values["data"]["root"] = root
    span = (frames - 1) * config.data.frame_stride + 1
    drawn = registry.lookup("dataset", config.data.name).endless
    if drawn and values["data"].get("clip_length", span) < span:
        values["data"]["clip_length"] = span
    if windows and "segments" in values["data"]:
        values["data"]["segments"] = False
    return configuration.Config(values, config.name)
