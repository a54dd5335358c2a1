"""Scores predictions that other programs wrote, with the metrics, protocols and pages of an evaluation."""

import contextlib
import dataclasses
import json
import os
import pathlib

import numpy as np

from tfvp import files, registry
from tfvp import run as runs
from tfvp.errors import UserError
from tfvp.evaluation import documents, examples, per_clip, provenance, report, scoring
from tfvp.evaluation.clip_files import ClipFiles, listed
from tfvp.evaluation.given import GivenPredictions, batches_of, check_length
from tfvp.metrics import protocols
from tfvp.metrics.base import SetMetric
from tfvp.models import baselines


@dataclasses.dataclass
class Options:
    """What may be said about predictions and how to score them.

    Attributes:
        protocol: name of a protocol, "default" (all that the files hold, in tfvp's conventions) or
            "all" (the same under every convention).
        context: observed frames; None = what the protocol says, and 0 in "default".
        metrics: names to score instead of the protocol's; () = those.
        name: of the method; "" = the name of the folder of predictions.
        tag: appended to the name of the results.
        out: folder to write; "" = scores/<name>/<protocol>.
        allow_missing: score the clips that both sides hold where they differ.
        channels: 1 or 3, to which videos and images are converted; None = as the arrays beside
            them, or as they come.
        unclipped: predictions in floats may leave [0, 1].
        fps: frame rate of the GIFs.
        pictures: whether to write GIFs and strips.
        clips_shown: clips whose frames are kept, for comparisons.
        progress: whether to show a progress bar.
    """

    protocol: str = "default"
    context: int | None = None
    metrics: tuple[str, ...] = ()
    name: str = ""
    tag: str = ""
    out: str = ""
    allow_missing: bool = False
    channels: int | None = None
    unclipped: bool = False
    fps: float = 8.0
    pictures: bool = True
    clips_shown: int = 4
    progress: bool = False


def score(predictions, truth, options=None):
    """Scores predictions of clips, and writes the files of an evaluation.

    Args:
        predictions, truth: paths of clips, see `tfvp.evaluation.clip_files.ClipFiles`; a clip is predicted
            under the name that its truth has. The truth holds the predicted frames, with the
            observed ones before them or without.
        options: an `Options`.

    Returns:
        (the contents of metrics.json, list of paths written).

    Raises:
        UserError: clips are missing, or they do not fit each other or the protocol.
    """
    options = options or Options()
    predicted = ClipFiles(predictions, options.channels, options.unclipped)
    true = ClipFiles(truth, options.channels)
    names, notes = matched(predicted, true, options.allow_missing)
    if options.channels is None:
        _agree_on_channels(predicted, true, notes)
    first = true.read(names[0])
    if len(first) != 1:
        raise UserError(
            f"{true.path}: {names[0]} holds {len(first)} videos; the truth of a clip is one. If this is one array"
            " of all clips, name the file itself"
        )
    length, image_shape = predicted.read(names[0], count=1).shape[1], first.shape[2:]
    named, context = _choose(options, first.shape[1], length, true.path, names[0])
    protocol, samples = _with_samples(named, _samples(predicted, names), notes)
    metrics, left_out = _usable(protocol, options.metrics, context, image_shape)
    modified = _modified(named, protocol, options.metrics, len(names))
    if options.metrics:
        protocol = dataclasses.replace(protocol, metrics=tuple(options.metrics))
    method = options.name or _name(predicted.path)
    folder = _folder(options, method, protocol, modified, predicted.path, true.path)
    notes += left_out + _remarks(predicted, true, protocol, len(names), context)
    horizon = protocol.seq_len - protocol.context
    predictor = GivenPredictions(predicted, names, horizon, image_shape, samples, protocol.context)
    predictors = {"model": (predictor, "open_loop")}
    if context:
        trivial = baselines.trivial_predictors(image_shape)
        predictors.update({name: (one, protocol.mode) for name, one in trivial.items()})
    scorers = {
        name: scoring.Scorer(one, metrics, context, horizon, samples, mode=mode, kept=options.clips_shown)
        for name, (one, mode) in predictors.items()
    }
    batches = batches_of(true, names, context + horizon, image_shape)
    outcome = scoring.run(scorers, batches, len(names), "scoring" if options.progress else None)
    notes += [summary["note"] for summary in outcome.scores["model"].summaries.values() if "note" in summary]
    clips = per_clip.Clips(names, names, np.zeros(len(names), np.int64), context + horizon, outcome.truth_sha256)
    shown = examples.choose(outcome.scores["model"], metrics) if options.pictures else []
    if shown:
        picked = [names[example.clip] for example in shown]
        again = GivenPredictions(predicted, picked, horizon, image_shape, samples, protocol.context)
        batches = batches_of(true, picked, context + horizon, image_shape)
        examples.predict(shown, again, batches, context, horizon, samples)
    document = {
        "format": documents.FORMAT,
        "protocol": {**protocol.to_dict(), "clips": len(names)},
        "modified": modified,
        "tag": options.tag,
        **{name: result.summaries for name, result in outcome.scores.items()},
        "examples": [example.describe(clips) for example in shown],
        "notes": notes,
        "data": {
            "name": protocol.dataset,
            "split": protocol.split,
            "truth": str(true.path),
            "image_size": list(image_shape[:2]),
            "channels": image_shape[2],
            **clips.digests(),
            "notes": [],
        },
        "networks": provenance.describe_networks(metrics),
        "run": {
            "path": method,
            "model": method,
            "predictions": str(predicted.path),
            "predictions_sha256": predictor.digest(),
            **{k: v for k, v in runs.describe_environment([]).items() if k != "devices"},
        },
    }
    document = files.finite(document)
    drawn = (context, options.fps, options.pictures, shown)
    return document, report.write(folder, document, outcome.scores, outcome.truth, clips, *drawn)


def matched(predicted, true, allow_missing=False):
    """The names that both sides have, in the order of the truth, and notes about the others.

    Raises:
        UserError: the sides differ and `allow_missing` is false, or they have no name in common.
    """
    have, wanted = set(predicted.names), set(true.names)
    common = [name for name in true.names if name in have]
    missing = [name for name in true.names if name not in have]
    extra = [name for name in predicted.names if name not in wanted]
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(wanted)} clips have no prediction ({listed(missing)})")
    if extra:
        said.append(f"{len(extra)} of {len(have)} predictions have no truth ({listed(extra)})")
    where = f"{predicted.path} and {true.path}"
    if not common:
        raise UserError(f"{where} have no clip in common: {'; '.join(said)}; a clip has the same name on both sides")
    if said and not allow_missing:
        raise UserError(
            f"{where} differ: {'; '.join(said)}; add what is missing, or score the {len(common)} that both hold with"
            " --allow-missing"
        )
    return common, [f"Scored although {sentence}." for sentence in said]


def _agree_on_channels(predicted, true, notes):
    """Videos and images are read in the number of channels that the arrays beside them, or of the other side, have."""
    kinds = {1: "grey (Rec. 601 luma)", 3: "RGB"}
    for one, other in ((predicted, true), (true, predicted)):
        channels = one.stored_channels() or other.stored_channels()
        if channels in kinds:
            before = one.read(one.names[0], count=1).shape[-1]
            one.channels = channels
            if before != channels:
                notes.append(f"{one.path} is read as {kinds[channels]}, which {other.path} is stored in.")


def _choose(options, true_length, predicted_length, truth_path, name):
    """(the protocol, observed frames that the truth holds: the protocol's, or 0)."""
    if options.protocol in ("default", "all"):
        context = options.context
        if context is None:
            if true_length != predicted_length:
                raise UserError(
                    f"the truth of {name} has {true_length} frames, its prediction {predicted_length}; say with"
                    " --context how many observed frames come first, or name a --protocol"
                )
            context = 0
        names = protocols.DEFAULT_METRICS
        if options.protocol == "all":
            names = protocols.with_every_general(names)
        protocol = protocols.Protocol(
            options.protocol,
            "All clips and frames of the files, in tfvp's default conventions.",
            "tfvp score",
            "",
            "test",
            context,
            context + predicted_length,
            0,
            0,
            names,
        )
    else:
        protocol = protocols.get(options.protocol)
        if options.context not in (None, protocol.context):
            raise UserError(f"protocol {protocol.name} fixes --context at {protocol.context}; leave the flag out")
    if protocol.context < 0:
        raise UserError("--context must be at least 0")
    horizon = protocol.seq_len - protocol.context
    check_length(f"the prediction of {name}", predicted_length, horizon, protocol.context)
    if true_length not in (horizon, protocol.seq_len):
        raise UserError(
            f"{truth_path}: {name} has {true_length} frames; protocol {protocol.name} takes the {horizon} predicted"
            f" ones, or {protocol.seq_len} with the {protocol.context} observed before them"
        )
    return protocol, protocol.context if true_length > horizon else 0


def _samples(predicted, names):
    """How many samples each clip has.

    Raises:
        UserError: the clips differ in it.
    """
    first = predicted.samples(names[0])
    for name in names:
        if predicted.samples(name) != first:
            raise UserError(
                f"{predicted.path}: {name} has {predicted.samples(name)} samples, {names[0]} has {first}; every clip"
                " needs the same number"
            )
    return first


def _with_samples(protocol, samples, notes):
    """(protocol, samples to score) where each clip has `samples` predictions."""
    if not protocol.samples:
        return dataclasses.replace(protocol, samples=samples), samples
    if samples == 1 < protocol.samples:
        notes.append(f"There is one prediction per clip, which stands for all {protocol.samples} samples.")
        return protocol, 1
    if samples > protocol.samples:
        notes.append(f"Of {samples} samples per clip the first {protocol.samples} are scored.")
        return protocol, protocol.samples
    return dataclasses.replace(protocol, samples=samples), samples


def _modified(named, used, metrics, clips):
    """The entry "modified" of metrics.json: where a protocol is not used as it is named."""
    pairs = {
        "samples": (named.samples or used.samples, used.samples),
        "metrics": (list(named.metrics), list(metrics or named.metrics)),
        "num_examples": (named.num_examples, clips if named.num_examples else 0),
    }
    return {field: {"protocol": before, "used": after} for field, (before, after) in pairs.items() if before != after}


def _name(predictions):
    """What a method is called whose predictions lie there."""
    path = pathlib.Path(os.path.abspath(predictions))  # "." has a name then, and a link keeps its own
    return path.name if path.is_dir() else path.stem


def _folder(options, method, protocol, modified, predictions, truth):
    """The folder of the results: their own, or the one that was asked for.

    Raises:
        UserError: it holds other results, or lies among the clips, which it would be taken for.
    """
    name = documents.folder_name(protocol.name, modified, options.tag)
    folder = pathlib.Path(options.out or pathlib.Path("scores") / method / name)
    for clips in (predictions, truth):
        if folder.resolve().is_relative_to(clips.resolve()):
            raise UserError(f"{folder.resolve()} lies among the clips of {clips}; name another folder with --out")
    documents.check_folder(folder, {"protocol": protocol.to_dict(), "modified": modified, "tag": options.tag})
    with contextlib.suppress(OSError, ValueError):
        before = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        scored = before.get("run", {}).get("predictions")
        if scored != str(predictions):
            raise UserError(f"{folder} holds the scores of {scored or 'a run'}; name this method with --name or --out")
    return files.writable_folder(folder)


def _usable(protocol, chosen, context, image_shape):
    """(metrics, a sentence about each that cannot be used)."""
    metrics, notes = [], []
    for name in chosen or protocol.metrics:
        metric = registry.lookup("metric", name)
        if metric.of_labels:
            notes.append(f"{name} is left out: it compares label maps, which frames do not hold.")
        elif issubclass(metric, SetMetric) and metric.with_context and not context:
            notes.append(f"{name} is left out: the truth lacks the observed frames, which it takes in.")
        else:
            metrics.append(name)
    if not metrics:
        raise UserError("none of the metrics can run: " + " ".join(notes))
    metrics, unusable = scoring.usable_metrics(metrics, image_shape, context, protocol.seq_len - protocol.context)
    return metrics, notes + unusable


def _remarks(predicted, true, protocol, count, context):
    """Sentences about what the scores mean."""
    remarks = []
    if protocol.dataset:
        remarks.append(
            f"That the clips are those of the {protocol.split} split of {protocol.dataset} is the word of whoever"
            " stored them."
        )
    if protocol.num_examples and count != protocol.num_examples:
        remarks.append(f"Protocol {protocol.name} is on {protocol.num_examples} clips; these are {count}.")
    if not context:
        remarks.append("The truth holds no observed frames, so there are no baselines.")
    for side, clips in (("predictions", predicted), ("truth", true)):
        if clips.lossy:
            remarks.append(f"The {side} were read from compressed video; what compression changed counts as error.")
        if clips.ignored:
            remarks.append(f"{clips.path} also holds what is no clip: {listed(clips.ignored)}.")
    return remarks
