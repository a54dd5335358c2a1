"""Evaluation: from a run and a protocol to a report."""

import contextlib
import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvp import devices as machine
from tfvp import files
from tfvp.datasets.build import check_root
from tfvp.errors import UserError
from tfvp.evaluation import documents, examples, journal, provenance, report, scoring, sharding, statistics
from tfvp.evaluation.selection import Selection, data_config
from tfvp.metrics import protocols
from tfvp.models import baselines, input_checks
from tfvp.models.build import load_run

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
    check_root(data_config(config, datadir), run.path)
    names = machine.names(devices, "--devices")
    model = _load(run, weights, use_obs, None)
    input_checks.check_clips(model, config.eval.batch_size, f"eval.batch_size={config.eval.batch_size}")
    if protocol.mode == "open_loop":
        model.check_context(protocol.context)
    horizon = protocol.seq_len - protocol.context
    metrics, notes = scoring.usable_metrics(protocol.metrics, model.image_shape, protocol.context, horizon)
    scoring.check_labels(model, metrics)
    modified = _modified(config, protocol, model, datadir, weights, use_obs)
    folder = run.path / "eval" / documents.folder_name(protocol.name, modified, tag)
    documents.check_folder(folder, {"protocol": protocol.to_dict(), "modified": modified, "tag": tag})

    selection = Selection(config, protocol, datadir, model.needs)
    clips, count = selection.clips, len(selection)
    input_checks.check_clips(model, count, f"an evaluation on {count} of the {protocol.split} clips")
    files.writable_folder(folder)
    if protocol.samples > 1 and not model.stochastic:
        notes.append(f"{config.model.name} is deterministic, so one sample stands for all {protocol.samples}.")
    if protocol.num_examples and count < protocol.num_examples:
        notes.append(
            f"The {protocol.split} split has {count} clips of {protocol.seq_len} frames, fewer"
            f" than {protocol.num_examples}."
        )
    # A device without a batch of its own would load a model for nothing.
    names = names[: -(-count // selection.batch_size)]
    models = [model, *(_load(run, weights, use_obs, name) for name in names[1:])]
    teams = [_team(run, one, protocol, metrics, name) for one, name in zip(models, [None, *names[1:]])]
    first = teams[0].scorers["model"].first
    if first != protocol.context:
        notes.append(
            f"The model observes {first} frames before it predicts one, so all predictors are scored from frame"
            f" {first + 1} of {protocol.seq_len} on."
        )
    origin = provenance.describe_run(run, model, weights, names)
    facts = {
        "protocol": {**protocol.to_dict(), "clips": count, "first_scored": first},
        "modified": modified,
        "tag": tag,
        "networks": provenance.describe_networks(metrics),
    }
    options = {"data": selection.config.data.to_dict(), "metrics": metrics, "config": config.to_dict()}
    identity = {**facts, **options, **provenance.identity(run, origin, clips, names)}
    with journal.Journal(folder, identity).opened() as partial, _said_where_it_stopped(selection, partial):
        outcome = _scored(teams, selection, partial, progress)
        clips.truth_sha256 = outcome.truth_sha256
        for result in outcome.scores.values():
            statistics.widen_by_source(result.summaries, result.values, clips.sources)
        films = len(set(clips.sources))
        if films < count:
            of_films = f"{films} film{'s' if films > 1 else ''}"
            notes.append(f"The {count} clips are cut from {of_films}, and intervals count films, not clips.")
        notes += [s["note"] for s in outcome.scores["model"].summaries.values() if "note" in s]
        shown = examples.choose(outcome.scores["model"], metrics) if save_grid else []
        if shown:
            how = (protocol.context, horizon, protocol.samples, config.eval.chunk, protocol.mode, first)
            if model.fewest_clips > 1:  # what is predicted of a clip depends on those beside it
                for example in shown:
                    examples.predict([example], model, selection.batch_around(example.clip), *how)
            else:
                examples.predict(shown, model, selection.batch_of([example.clip for example in shown]), *how)
        document = files.finite(
            {
                "format": documents.FORMAT,
                **facts,
                **{name: result.summaries for name, result in outcome.scores.items()},
                "examples": [example.describe(clips) for example in shown],
                "notes": notes,
                "data": selection.describe(),
                "run": {**origin, **({"use_obs": use_obs} if use_obs else {})},
            }
        )
        fps = min(selection.dataset.info.fps or 8.0, 12.0)
        paths = report.write(folder, document, outcome.scores, outcome.truth, clips, first, fps, save_grid, shown)
        partial.clear()
    return document, paths


def _load(run, weights, use_obs, device):
    """The run's model, on a device or wherever TensorFlow puts it."""
    with tf.device(device) if device else contextlib.nullcontext():
        model = load_run(run.path, weights)
    if use_obs:
        switch_levels(model, use_obs)
    return model


def _team(run, model, protocol, metrics, device):
    """The `tfvp.evaluation.sharding.Team` that scores a model and the baselines on a device."""
    path = run.path / "model" / "mean_frame.npy"
    with tf.device(device) if device else contextlib.nullcontext():
        trivial = baselines.trivial_predictors(model.image_shape, np.load(path) if path.is_file() else None)
    scorers = scoring.make_scorers(
        {"model": model, **trivial},
        metrics,
        protocol.context,
        protocol.seq_len - protocol.context,
        protocol.samples,
        run.config.eval.chunk,
        protocol.mode,
        run.config.train.gif_examples,
    )
    return sharding.Team(device, scorers)


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
    if files.is_url(folder):
        return folder
    return str(pathlib.Path(folder).expanduser().resolve()) if folder else ""


def _scored(teams, selection, partial, progress):
    """The `tfvp.evaluation.scoring.Outcome` of all clips; those that a journal keeps are not predicted again."""
    done = selection.clips_in(partial.done())
    if done and progress:
        tqdm.write(f"resuming after {done} of {len(selection)} clips")
    label = "evaluating" if progress else None
    return scoring.run(teams[0].scorers, selection.batches, len(selection), label, partial, teams[1:])


@contextlib.contextmanager
def _said_where_it_stopped(selection, partial):
    """Context manager: Ctrl-C ends in a sentence that says how many clips are done."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped after {selection.clips_in(partial.done())} of {len(selection)} clips, whose scores are kept in"
            f" {partial.parent}; rerun the same command to resume"
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
