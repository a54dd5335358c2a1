"""Turns a run into a trained model with a name and a card; see `tfvp.zoo`."""

import argparse
import json
import math
import os
import pathlib
import re
import shutil
import tempfile

import numpy as np
import yaml

from tfvp import config as configuration
from tfvp import files, video_io
from tfvp import run as runs
from tfvp.datasets.base import FileDataset
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import evaluator
from tfvp.evaluation.selection import Selection
from tfvp.models import named_weights
from tfvp.models.build import load_run
from tfvp.zoo import shelf

TOLERANCE = 1e-3  # of a metric's mean, by which rounding the weights to float16 may move it
_BETWEEN = re.compile(r"[][=,'\" ]+")  # the words of "data.root=/data" and "data.roots=['/data', '/more']"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
# Where this machine keeps things; others keep them elsewhere.
_LOCAL = {"data": ("root", "cache", "flow"), "model": ("structure_run",)}


def publish(
    run: runs.Run,
    name: str,
    folder: str | os.PathLike | None = None,
    title: str = "",
    limits: str = "",
    licence: str = "",
    clip: bool | None = None,
    source: str = "",
) -> shelf.Trained:
    """Writes a trained model: its weights by name, its configuration, and a card with what it scores.

    Weights are kept as float16 if no metric of the run's default evaluation moves by more than `TOLERANCE`, and else
    as float32. The evaluation on the card is that of the weights as they are kept.

    Args:
        run: the run. Its best weights are published.
        name: what to call it: lower-case letters, digits and hyphens.
        folder: where to put it. Defaults to `shelf.added()`.
        title: one line on what it is. Defaults to the names of model and data set.
        limits: what it should not be used for, or cannot do.
        licence: of the weights. The data set's own is on the card besides.
        clip: whether a clip of the test split comes with it. Defaults to whether clips are computed, so that nobody
            else's rights are touched; False for a model that observes label maps.
        source: where the weights come from, a URL or a citation. The run of an imported checkpoint needs one: its card
            says this and the SHA-256 of what was imported, and nothing on a training that nobody here has seen.

    Returns:
        The trained model.

    Raises:
        UserError: the name is not a name or taken, the run has no weights, or was imported and has no source, its data
            are missing, or a clip is asked for that would lack the label maps that the model observes.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot be a model's name; take lower-case letters, digits and hyphens")
    folder = pathlib.Path(folder or shelf.added())
    place = files.writable_folder(folder) / name
    if place.exists():
        raise UserError(f"{place} exists; choose another name, or remove it first")
    imported = _imported(run)
    if imported is not None and not source:
        raise UserError(f"{run.path} was imported; say where its checkpoint comes from: --source URL, or a citation")
    model = load_run(run.path)
    if clip and "labels" in model.needs:
        where = "" if build_dataset(run.config).endless else " --datadir FOLDER"
        raise UserError(
            f"no clip can come with {name}, which observes label maps beside the frames; leave --clip out, and"
            f" `tfvp predict --model {name}{where}` takes the first clip of its data set"
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.") as scratch:
        made, logs = pathlib.Path(scratch) / name, pathlib.Path(scratch) / "logs"
        config = _portable(run.config, name)
        with files.atomic_write(made / "config.yml") as temporary:
            config.save(temporary)
        for part in ("mean_frame.npy", "status.json"):
            if (run.path / "model" / part).is_file():
                files.writable_folder(made / "model")
                shutil.copy(run.path / "model" / part, made / "model" / part)
        documents = []
        for half in (None, True, False):
            if half is not None:
                named_weights.save(model, made / shelf.WEIGHTS, half)
            document = _evaluated(run.path if half is None else made, logs / str(half), run.config.data.root)
            documents.append(document)
            if half and _largest_change(documents[0], document) <= TOLERANCE:
                break
        dataset = build_dataset(config)
        if "labels" not in model.needs and (dataset.endless if clip is None else clip):
            _save_clip(made, run.config)
        card = {
            "name": name,
            "title": title or f"{config.model.name} on {config.data.name}",
            "model": config.model.name,
            "data": config.data.name,
            "parameters": int(sum(np.prod(v.shape) for v in model.trainable_variables)),
            "training": _training(run) if imported is None else "imported",
            **({"source": {"from": source, "files": imported or {}}} if source else {}),
            "evaluation": _evaluation(document, name, bool(run.config.data.root) or isinstance(dataset, FileDataset)),
            "limits": limits,
            "licence": {"weights": licence, "data": dataset.info.licence},
            "weights": {
                "bytes": (made / shelf.WEIGHTS).stat().st_size,
                "dtype": "float16" if half else "float32",
                "rounding": _largest_change(documents[0], document),
                "sha256": files.sha256(made / shelf.WEIGHTS),
            },
        }
        with files.atomic_write(made / shelf.CARD) as temporary:
            temporary.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), encoding="utf-8")
        made.rename(place)
    return shelf.Trained(name, place, card)


def _portable(config, name):
    """The configuration under the model's name, without places on this machine, and with the weights that there are."""
    values = config.to_dict()
    values["eval"]["weights"] = "best"
    for section, keys in _LOCAL.items():
        values[section].update({key: "" for key in keys if key in values[section]})
    if pathlib.Path(config.train.initial_weights).expanduser().exists():  # no name of a trained model
        values["train"].update(initial_weights="", initial_weights_skip=[])
    return configuration.Config(values, name)


def _evaluated(path, logdir, root):
    """metrics.json of the default evaluation of what lies in `path`, made in a copy of it."""
    shutil.copytree(path, logdir, ignore=shutil.ignore_patterns("backup", "tensorboard", "samples", "eval", "export"))
    run = runs.Run(logdir)
    protocol = evaluator.choose_protocol(run.config, None, None, None, None, None, None)
    return evaluator.evaluate(run, protocol, root or None, save_grid=False, weights="best")[0]


def _largest_change(before, after):
    """The largest relative difference between the means of the model's metrics; what has no mean has to stay so."""
    pairs = [(before["model"][key]["mean"], summary["mean"]) for key, summary in after["model"].items()]
    if any((a is None) != (b is None) for a, b in pairs):
        return math.inf
    return float(max((abs(b - a) / max(abs(a), 1e-12) for a, b in pairs if a is not None), default=0.0))


def _save_clip(folder, config):
    """The first test clip, as a GIF where that loses nothing."""
    protocol = evaluator.choose_protocol(config, None, None, None, 1, None, None)
    batch = next(iter(Selection(config, protocol).batch_of([0])))
    frames = np.round(batch["video"].numpy()[0] * 255.0).astype(np.uint8)
    # A GIF has 256 colours, and merges equal frames.
    lossless = frames.shape[-1] == 1 and (frames[1:] != frames[:-1]).any(axis=(1, 2, 3)).all()
    video_io.write_video(folder / ("clip.gif" if lossless else "clip.npy"), frames)


def _imported(run):
    """{name: SHA-256} of the files of an imported checkpoint; None for a run that was trained."""
    path = run.path / "model" / "status.json"
    found = json.loads(path.read_text(encoding="utf-8")).get("imported") if path.is_file() else None
    return {} if isinstance(found, str) else found  # runs of 0.1 have the path alone


def _training(run):
    """What the run's files say of its training."""
    settings, lines = run.config.train, run.read_metrics()
    epochs = [line for line in lines if line.get("frames_per_second")]
    steps = [0, *(line["step"] for line in epochs)]
    frames = settings.batch_size * settings.seq_len
    seconds = sum((b - a) * frames / line["frames_per_second"] for a, b, line in zip(steps, steps[1:], epochs))
    path = run.path / "environment.json"
    sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"] if path.is_file() else []
    last = sessions[-1] if sessions else {}
    return {
        "steps": steps[-1],
        "clips a step": settings.batch_size,
        "frames a clip": settings.seq_len,
        "hours": round(seconds / 3600, 2),
        "hardware": f"{last.get('cores')} cores, {last.get('processor')}" if last else "",
        "versions": {key: last.get("versions", {}).get(key) for key in ("tensorflow", "keras")},
        "commit": last.get("commit") or "",
        "command": _command(last.get("command", [])),
    }


def _command(words):
    """A command line without the folders of the machine that it ran on."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--logdir")
    parser.add_argument("--config", nargs="?")
    parser.add_argument("--set", nargs="*", action="extend", default=[])
    given, rest = parser.parse_known_args(words)
    kept = []
    for word in rest:
        if not _names_a_place(word):
            kept.append(word)
        elif kept and kept[-1].startswith("--") and "=" not in kept[-1]:
            kept.pop()
    if given.config:
        kept += ["--config", pathlib.PurePath(given.config).name if _names_a_place(given.config) else given.config]
    settings = [word for word in given.set if not _names_a_place(word)]
    return " ".join([*kept, *(["--set", *settings] if settings else [])])


def _names_a_place(word):
    """Whether an absolute path, or one from the home folder on, is in a word such as "/data" or "data.root=/data"."""
    return any(part.startswith(("/", "~")) for part in _BETWEEN.split(word))


def _evaluation(document, name, needs_files):
    """What the card keeps of metrics.json: means, None where there is none, with half their 95 % interval."""
    protocol, origin = document["protocol"], document["run"]
    predictors = ("model", "copy_last", "mean_frame")
    return {
        "command": f"tfvp evaluate --model {name}" + (" --datadir DATA" if needs_files else ""),
        **{key: protocol[key] for key in ("name", "split", "context", "seq_len", "clips", "samples")},
        **{key: origin[key] for key in ("commit", "processor", "versions")},
        "scores": {
            predictor: {
                metric: {"mean": summary["mean"], "ci95": summary.get("ci95")}
                for metric, summary in document[predictor].items()
            }
            for predictor in predictors
            if predictor in document
        },
    }
