"""Evaluation: from a run and a protocol to a report."""

import contextlib
import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvp import config as configuration
from tfvp import devices as machine
from tfvp import files, registry
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import documents, examples, journal, provenance, report, scoring, sharding, statistics
from tfvp.metrics import protocols
from tfvp.models import baselines
from tfvp.models.build import load_run
from tfvp.pipeline import batching

# Protocols that say what a run's configuration says.
FREE = {"default": protocols.from_config, "all": protocols.every_convention}


def named_protocol(config, name):
    """The protocol called `name`, for a run with that configuration.

    Raises:
        UserError: there is none.
    """
    return FREE[name](config) if name in FREE else protocols.get(name)


def choose_protocol(
    config,
    name=None,
    open_loop_ctx=None,
    eval_seq_len=None,
    num_examples=None,
    num_samples=None,
    split=None,
    metrics=(),
):
    """The protocol of an evaluation: a named one, or the configuration's, with the command's changes.

    Args:
        config: the run's `tfvp.config.Config`.
        name: a name from `tfvp.metrics.protocols`. Defaults to the run's `eval.protocol`.
        open_loop_ctx, eval_seq_len, split: changes to the default protocol. Named protocols fix them.
        num_examples, num_samples: changes to any protocol; the report records them.
        metrics: names of metrics that are computed beside the protocol's.

    Returns:
        A `tfvp.metrics.protocols.Protocol`.

    Raises:
        UserError: a name is unknown, the protocol fixes what is changed, or nothing is left to predict.
    """
    name = name or config.eval.protocol
    protocol = named_protocol(config, name)
    fixed = {"context": open_loop_ctx, "seq_len": eval_seq_len, "split": split}
    flags = {"context": "--open-loop-ctx", "seq_len": "--eval-seq-len", "split": "--split"}
    for field, value in fixed.items():
        if value is not None and name not in FREE and value != getattr(protocol, field):
            raise UserError(
                f"protocol {name} fixes {flags[field]} at {getattr(protocol, field)}; leave the"
                f" flag out, or use --protocol default"
            )
    changes = {**fixed, "num_examples": num_examples, "samples": num_samples}
    protocol = dataclasses.replace(protocol, **{k: v for k, v in changes.items() if v is not None})
    if name in FREE and open_loop_ctx is not None and eval_seq_len is None and protocol.seq_len <= open_loop_ctx:
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
    return protocols.with_metrics(protocol, metrics)


def evaluate(run, protocol, datadir=None, weights=None, save_grid=True, progress=True, use_obs=None, tag="", devices=0):
    """Scores a run's model and the trivial baselines, and writes a folder below the run's `eval`.

    The folder is called by the protocol, by what differs from it (see `tfvp.evaluation.documents.folder_name`) and by
    the tag. The scores of finished batches are kept there until all are done: the same evaluation again resumes, and
    ends with the numbers of one that was not stopped.

    Args:
        run: a `tfvp.run.Run`.
        protocol: a `tfvp.metrics.protocols.Protocol`.
        datadir: folder of the data. Defaults to the configuration's `data.root`.
        weights: "best" or "last". Defaults to the configuration's `eval.weights`.
        save_grid: whether to write GIFs and strips.
        progress: whether to show a progress bar.
        use_obs: "T" or "F" per level of a hierarchical model, bottom first: levels with "F" stay
            at their prior during the context (HTSR and CW-VAE; what each level remembers).
        tag: appended to the folder's name.
        devices: how many share the clips; 0 = all GPUs, or one CPU.

    Returns:
        (the contents of metrics.json, list of paths written).

    Raises:
        UserError: weights or data are missing, clips are too short, the model cannot take the
            context, or the folder holds the result of another evaluation.
        KeyboardInterrupt: it was stopped; the message says how many clips are done.
    """
    config, weights = run.config, weights or run.config.eval.weights
    names = machine.names(devices, "--devices")
    model = _load(run, weights, use_obs, None)
    if protocol.mode == "open_loop":
        model.check_context(protocol.context)
    horizon = protocol.seq_len - protocol.context
    metrics, notes = scoring.usable_metrics(protocol.metrics, model.image_shape, protocol.context, horizon)
    modified = _modified(config, protocol, model, datadir, weights, use_obs)
    folder = run.path / "eval" / documents.folder_name(protocol.name, modified, tag)
    documents.check_folder(folder, {"protocol": protocol.to_dict(), "modified": modified, "tag": tag})
    files.writable_folder(folder)

    data = data_config(config, datadir, protocol.seq_len, protocol.windows)
    dataset = build_dataset(data)
    dataset.prepare()
    stride = protocol.frame_stride or config.data.frame_stride
    published = dataset.evaluation_windows(protocol.windows, protocol.seq_len, stride) if protocol.windows else None
    which = {"length": protocol.seq_len, "num_examples": protocol.num_examples, "stride": stride, "windows": published}
    numbers, starts, _ = batching.evaluation_windows(dataset, protocol.split, **which)
    clips, count = provenance.describe_clips(dataset, protocol.split, numbers, starts, protocol.seq_len), len(numbers)
    if protocol.samples > 1 and not model.stochastic:
        notes.append(f"{config.model.name} is deterministic, so one sample stands for all {protocol.samples}.")
    if protocol.num_examples and count < protocol.num_examples:
        notes.append(
            f"The {protocol.split} split has {count} clips of {protocol.seq_len} frames, fewer"
            f" than {protocol.num_examples}."
        )

    kept = config.train.gif_examples

    def make_team(device, on_device):
        settings = (metrics, protocol.context, horizon, protocol.samples, config.eval.chunk, protocol.mode, kept)
        return sharding.Team(device, scoring.make_scorers(_predictors(run, on_device, device), *settings))

    # A device without a batch of its own would load a model for nothing.
    names = names[: -(-count // config.eval.batch_size)]
    teams = [make_team(None, model)]
    teams += [make_team(name, _load(run, weights, use_obs, name)) for name in names[1:]]
    first = teams[0].scorers["model"].first
    if first != protocol.context:
        notes.append(
            f"The model observes {first} frames before it predicts one, so all predictors are scored from frame"
            f" {first + 1} of {protocol.seq_len} on."
        )
    described = provenance.describe_run(run, model, weights, names)
    networks = provenance.describe_networks(metrics)

    def make_batches(skip=(), batch_size=config.eval.batch_size, positions=None):
        only = {"batch_size": batch_size, "positions": positions, "skip": skip}
        only["needs"] = [key for key in model.needs if key == "labels"]
        return batching.evaluation_batches(dataset, protocol.split, **only, **which)[0]

    facts = {
        "protocol": {**protocol.to_dict(), "clips": count, "first_scored": first},
        "modified": modified,
        "tag": tag,
        "networks": networks,
    }
    settings = {"data": data.data.to_dict(), "metrics": metrics, "eval": config.eval.to_dict(), "kept": kept}
    identity = {**facts, **settings, **provenance.identity(run, described, clips, names)}
    with journal.Journal(folder, identity).opened() as finished:
        label = "evaluating" if progress else None
        outcome = _scored(teams, make_batches, count, config.eval.batch_size, label, finished)
        clips.truth_sha256 = outcome.truth_sha256
        for result in outcome.scores.values():
            statistics.widen_by_source(result.summaries, result.values, clips.sources)
        films = len(set(clips.sources))
        if films < count:
            notes.append(f"The {count} clips are cut from {films} films, and intervals count films, not clips.")
        notes += [s["note"] for s in outcome.scores["model"].summaries.values() if "note" in s]
        shown = examples.choose(outcome.scores["model"], metrics) if save_grid else []
        if shown:
            again = make_batches(batch_size=len(shown), positions=[example.clip for example in shown])
            how = (protocol.context, horizon, protocol.samples, config.eval.chunk, protocol.mode)
            examples.predict(shown, model, again, *how, first)
        document = files.finite(
            {
                "format": documents.FORMAT,
                **facts,
                **{name: result.summaries for name, result in outcome.scores.items()},
                "examples": [example.describe(clips) for example in shown],
                "notes": notes,
                "data": provenance.describe_data(data, dataset, protocol.split, stride, clips),
                "run": {**described, **({"use_obs": use_obs} if use_obs else {})},
            }
        )
        fps = min(dataset.info.fps or 8.0, 12.0)
        paths = report.write(folder, document, outcome.scores, outcome.truth, clips, first, fps, save_grid, shown)
        finished.clear()
    return document, paths


def _load(run, weights, use_obs, device):
    """The run's model, on a device or wherever TensorFlow puts it."""
    with tf.device(device) if device else contextlib.nullcontext():
        model = load_run(run.path, weights)
    if use_obs:
        switch_levels(model, use_obs)
    return model


def _predictors(run, model, device):
    """{name: model} of everything that is scored: the run's model and the baselines."""
    path = run.path / "model" / "mean_frame.npy"
    with tf.device(device) if device else contextlib.nullcontext():
        trivial = baselines.trivial_predictors(model.image_shape, np.load(path) if path.is_file() else None)
    return {"model": model, **trivial}


def _modified(config, protocol, model, datadir, weights, use_obs):
    """What differs from the protocol as named; see `tfvp.evaluation.documents.modifications`."""
    known = protocol.name in protocols.names()
    every = "T" * len(model.use_obs)
    root = _absolute(config.data.root)
    return documents.modifications(
        protocol,
        named_protocol(config, protocol.name) if known else None,
        weights=(config.eval.weights, weights),
        use_obs=(every, use_obs.upper() if use_obs else every),
        data__root=(root, root if datadir is None else _absolute(datadir)),
    )


def _absolute(folder):
    return str(pathlib.Path(folder).expanduser().resolve()) if folder else ""


def _scored(teams, make_batches, count, batch_size, label, finished):
    """The `Outcome` of all batches; when it is stopped, the message says how many clips are done."""

    def done():
        return sum(min(batch_size, count - n * batch_size) for n in finished.done())

    if done() and label:
        tqdm.write(f"resuming after {done()} of {count} clips")
    try:
        return scoring.run(teams[0].scorers, make_batches, count, label, finished, teams[1:])
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped after {done()} of {count} clips, whose scores are kept in {finished.parent}; rerun the same"
            " command to resume"
        ) from None


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
