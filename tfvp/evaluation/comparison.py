"""Comparison of evaluated runs: a table, curves with confidence intervals, paired tests, one HTML page."""

import json
import pathlib

import numpy as np

from tfvp import files
from tfvp import run as runs
from tfvp.errors import UserError
from tfvp.evaluation import comparison_report, documents, statistics, tables
from tfvp.metrics import protocols

MUST_AGREE = ("dataset", "split", "context", "first_scored", "seq_len", "mode", "clips")


def compare(specs, protocol=None, out="comparison"):
    """Compares runs, or methods of several runs each, that were evaluated on the same clips.

    Args:
        specs: paths of runs or of evaluations' folders, or "NAME=PATH,PATH,...": the runs of one
            method, which differ by their seeds. The others are tested against the first.
        protocol: name of the folder below each run's `eval`. Defaults to the protocol that the run's
            configuration names.
        out: folder to write comparison.json, tables, curves.png and report.html to.

    Returns:
        (the contents of comparison.json, list of paths written).

    Raises:
        UserError: there are fewer than two, one is not evaluated, or they were evaluated on different clips.
    """
    if len(specs) < 2:
        raise UserError("a comparison needs at least two runs, or two methods (A=run1,run2 B=run3,run4)")
    methods = _methods(specs, protocol)
    evaluations = [evaluation for group in methods.values() for evaluation in group]
    _check_same_clips(methods)
    for evaluation in evaluations[1:]:
        evaluation.align(evaluations[0])
    document = _document(methods)
    folder = files.writable_folder(pathlib.Path(out))
    videos = _videos(methods)
    return document, comparison_report.write(folder, document, _bands(methods, document), *videos)


def table(document):
    """The comparison as text: mean and interval; difference to the first, its p-value, and Holm's for all tests."""
    return tables.text(comparison_report.of_comparison(document))


class _Evaluation:
    """The files that an evaluation wrote.

    Attributes:
        path: the run, or the folder of an evaluation without one.
        name: what the run is called, or whose predictions were scored.
        document: the contents of metrics.json.
        values: {metric: float64 [clips, frames]}, the mean over samples.
        keys: [clips], what identifies each clip: (id, which of the clips of that id).
        sources, truth_sha256: [clips].
    """

    def __init__(self, path, protocol):
        if (pathlib.Path(path) / "metrics.json").is_file():
            self.path = folder = pathlib.Path(path)
            again = "evaluate it again"
        else:
            run = runs.find(
                path, "name an evaluated run, or a folder with the metrics.json of an evaluation or of scores"
            )
            self.path = run.path
            protocol = protocol or run.config.eval.protocol
            folder = self.path / "eval" / protocol
            named = "" if protocol == "default" else f" --protocol {protocol}"
            again = f"run: tfvp evaluate --logdir {self.path}{named}"
            if protocol not in protocols.names():
                others = ", ".join(documents.evaluations(self.path / "eval")) or "none"
                again = f"its evaluations are: {others}"
        try:
            self.document = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            with np.load(folder / "per_clip.npz") as archive:
                values = {key.split("/", 1)[1]: archive[key] for key in archive.files if key.startswith("model/")}
                clips = {key: archive[key] for key in archive.files if "/" not in key}
            with np.load(folder / "frames.npz") as archive:
                self.frames = {key: archive[key] for key in archive.files}
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{self.path} is not evaluated under protocol {protocol} ({error}); {again}") from None
        if "truth_sha256" not in clips:
            raise UserError(
                f"the evaluation {folder} does not record which clips it used, as it was made by an earlier version;"
                f" {again}"
            )
        self.name = self.path.resolve().name
        if folder == self.path:  # that folder is called by the protocol
            self.name = self.document.get("run", {}).get("path", self.name)
        # A function of a pooled mean has no value per clip that could be resampled.
        # Its spread per frame is null, too; JSON has null for numbers that are not finite as well.
        pooled = {m for m, s in self.document["model"].items() if "curve_std" in s and s["curve_std"] is None}
        self.values = {m: v.mean(axis=1, dtype=np.float64) for m, v in values.items() if m not in pooled}
        self.sources, self.truth_sha256 = clips["sources"], clips["truth_sha256"]
        seen, self.keys = {}, []
        for name in map(str, clips["clip_ids"]):
            seen[name] = seen.get(name, 0) + 1
            self.keys.append((name, seen[name]))
        shown = self.frames.get("clips", np.arange(len(self.frames["truth"])))
        self.shown = [self.keys[int(clip)] for clip in shown]

    def align(self, other):
        """Puts the clips into the order of another evaluation of the same ones."""
        place = {key: n for n, key in enumerate(self.keys)}
        order = [place[key] for key in other.keys]
        self.values = {metric: values[order] for metric, values in self.values.items()}
        self.keys = [self.keys[n] for n in order]
        self.sources, self.truth_sha256 = self.sources[order], self.truth_sha256[order]

    def frames_of(self, key, kind):
        """Observed and predicted frames of a clip of `shown`, uint8 [T, H, W, C]: its "truth", or the "model"'s."""
        place = self.shown.index(key)
        truth, predicted = self.frames["truth"][place], self.frames["model"][place]
        return truth if kind == "truth" else np.concatenate([truth[: len(truth) - len(predicted)], predicted])


def _methods(specs, protocol):
    """{name: list of `_Evaluation`}, as `compare` takes them; runs without a name are called by their folder."""
    methods = {}
    for spec in map(str, specs):
        name, equals, listed = spec.partition("=")
        if not equals or pathlib.Path(spec).exists():
            group = [_Evaluation(spec, protocol)]
            name = base = group[0].name
            number = 2
            while name in methods:
                name, number = f"{base} ({number})", number + 1
        else:
            paths = [path for path in listed.split(",") if path]
            if not name or not paths or name in methods:
                raise UserError(f"{spec}: a method is NAME=RUN,RUN,... with a name of its own")
            group = [_Evaluation(path, protocol) for path in paths]
            if len({evaluation.path.resolve() for evaluation in group}) < len(group):
                raise UserError(f"{spec} names a run twice")
        methods[name] = group
    return methods


def _labels(methods):
    """(what to call it, evaluation) of every run."""
    for name, group in methods.items():
        for evaluation in group:
            yield (name if len(group) == 1 else f"{name} ({evaluation.name})"), evaluation


def _check_same_clips(methods):
    (first_name, first), *others = _labels(methods)
    for name, other in others:
        protocols = [_selection(evaluation.document["protocol"]) for evaluation in (first, other)]
        differing = [key for key in MUST_AGREE if protocols[0].get(key) != protocols[1].get(key)]
        what = "; ".join(
            f"{key}: {protocols[0].get(key)!r} in {first_name}, {protocols[1].get(key)!r} in {name}"
            for key in differing
        )
        what = what or _differing_clip(first_name, first, name, other)
        if what:
            raise UserError(f"the runs were not evaluated on the same clips, so they cannot be compared: {what}")


def _selection(protocol):
    """A protocol with the number of frames before the first scored one, which is the context where it is not said."""
    return {"first_scored": protocol.get("context"), **protocol}


def _differing_clip(first_name, first, name, other):
    """A phrase about the first clip that only one evaluation has, or that has other frames in the other; or ""."""
    hashes = dict(zip(other.keys, other.truth_sha256))
    for key, truth in zip(first.keys, first.truth_sha256):
        if key not in hashes:
            return f"clip {key[0]} is in {first_name} and not in {name}"
        if hashes[key] != truth:
            return f"the true frames of clip {key[0]} differ between {first_name} and {name}"
    return ""


def _document(methods):
    first = next(iter(methods.values()))[0]
    evaluations = [evaluation for group in methods.values() for evaluation in group]
    scored, notes = _metrics(evaluations)
    metrics = [m for m in scored if all(m in evaluation.values for evaluation in evaluations)]
    entries, tests = {}, []
    reference = None
    for name, group in methods.items():
        per_clip = {m: [e.values[m].mean(axis=1) for e in group] for m in metrics}
        summaries = {}
        for metric in scored:
            summaries[metric] = summary = _summary(group, metric, per_clip.get(metric), first.sources)
            if metric in metrics and summary["mean"] is None:
                notes.append(_not_finite(name, metric, per_clip[metric]))
            elif reference and metric in metrics and np.isfinite(reference[metric]).all():
                summary["difference"] = statistics.compare(reference[metric], per_clip[metric], first.sources)
        tests += [s["difference"] for s in summaries.values() if "p" in s.get("difference", {})]
        reference = reference or per_clip
        entries[name] = {
            "path": str(group[0].path),
            "paths": [str(evaluation.path) for evaluation in group],
            "run": group[0].document.get("run", {}),
            "metrics": summaries,
        }
    for difference, adjusted in zip(tests, statistics.holm([t["p"] for t in tests])):
        difference["p_holm"] = adjusted
    notes += _differing_settings(methods)
    notes += [
        f"The interval of {m} is that of its evaluation, by the jackknife over clips."
        for m in scored
        if m not in metrics and any("interval" in entry["metrics"][m] for entry in entries.values())
    ]
    counts = {name: len(group) for name, group in methods.items()}
    compares = "checkpoints" if max(counts.values()) == 1 else "methods" if min(counts.values()) > 1 else "mixed"
    return {
        **{key: first.document[key] for key in ("protocol", "modified", "tag", "data") if key in first.document},
        "confidence": statistics.LEVEL,
        "compares": compares,
        "tests": len(tests),
        "statistics": [*_sentences(compares, counts, first.sources, len(tests)), *notes],
        "runs": entries,
    }


def _differing_settings(methods):
    """Sentences about runs that were evaluated otherwise than the first, whose settings are those shown."""
    (_, first), *others = _labels(methods)
    sentences = []
    for name, other in others:
        here, there = (_settings(evaluation.document) for evaluation in (first, other))
        differing = [f"{key} {there[key]} (the first: {here[key]})" for key in here if here[key] != there[key]]
        if differing:
            sentences.append(f"{name} was evaluated with {', '.join(differing)}.")
    return sentences


def _settings(document):
    """What may differ between evaluations of the same frames, and is not in their metrics."""
    modified = document.get("modified") or {}
    used = {key: modified.get(key, {}).get("used", "as configured") for key in ("weights", "use_obs")}
    return {"samples": document["protocol"].get("samples", 1), **used}


def _metrics(evaluations):
    """(metrics that all have under one convention, a sentence about each of the others that all have)."""
    documents = [evaluation.document["model"] for evaluation in evaluations]
    shared = [m for m in documents[0] if all(m in document for document in documents)]
    differing = [m for m in shared if len({document[m].get("convention") for document in documents}) > 1]
    notes = [f"{m} is left out, as the evaluations computed it under different conventions." for m in differing]
    return [m for m in shared if m not in differing], notes


def _summary(group, metric, per_clip, sources):
    """The entry of a metric of one method: its mean, the interval, and with several runs the mean of each."""
    summaries = [evaluation.document["model"][metric] for evaluation in group]
    result = {"mean": None, **{key: summaries[0][key] for key in ("unit", "broken") if summaries[0].get(key)}}
    if per_clip is not None:
        each = [float(clips.mean()) if np.isfinite(clips).all() else None for clips in per_clip]
        if None not in each:
            mean, low, high = statistics.bootstrap(per_clip, sources)
            result.update(mean=float(mean), **({} if low is None else {"interval": [float(low), float(high)]}))
    else:
        each = [summary["mean"] for summary in summaries]
        if None not in each:
            result["mean"] = float(np.mean(each))
        if len(group) == 1 and (interval := tables.interval(summaries[0])):
            result["interval"] = list(interval)
    return {**result, "runs": each} if len(group) > 1 else result


def _not_finite(name, metric, runs):
    """The sentence about a metric that has no mean: `runs` are lists of [clips]."""
    clips = int(np.sum(~np.isfinite(runs).all(axis=0)))
    return f"{metric} of {name} is not finite on {clips} of {len(runs[0])} clips, so it has no mean and no difference."


def _sentences(compares, counts, sources, tests):
    """What the statistics are about, and how they were made."""
    clips, films = len(sources), len(set(map(str, sources)))
    if films < 2:
        said = f"{clips} clips of one film say" if clips > 1 else "one clip says"
        return [f"There are no intervals and no p-values, as {said} nothing about other films."]
    several = ", ".join(f"{count} of {name}" for name, count in counts.items() if count > 1)
    single = ", ".join(name for name, count in counts.items() if count == 1)
    what = {
        "checkpoints": "Trained checkpoints are compared, one run each: intervals and tests say how sure the"
        " differences are on other clips, and nothing about other seeds of the same methods. Give several runs of"
        " each (A=run1,run2 B=run3,run4) to compare methods.",
        "methods": f"Methods are compared, by several runs of each ({several}): runs and clips are resampled.",
        "mixed": f"Methods are compared by several runs ({several}) with single runs ({single}), whose spread over"
        " seeds is not known: intervals and tests leave it out.",
    }[compares]
    sentences = [what]
    if compares != "checkpoints" and min(count for count in counts.values() if count > 1) < statistics.FEW_RUNS:
        sentences.append(
            f"With fewer than {statistics.FEW_RUNS} runs the spread over seeds is a rough estimate, and intervals are"
            " too narrow rather than too wide."
        )
    unit = f"the {films} films that the {clips} clips are cut from" if films < clips else f"{clips} clips"
    sentences.append(
        f"Intervals are {statistics.LEVEL:.0f} % bootstrap intervals over {unit}; p-values are of"
        f" {_test(counts)} against the first, two-sided with {statistics.RESAMPLES:,} resamples, and adjusted by Holm's"
        f" method for the {tests} test{'s' if tests != 1 else ''} of this comparison."
    )
    return sentences


def _test(counts):
    """What p-values are of, in words; `counts` are {method: runs}, the first of which the others are tested against."""
    first, *others = counts.values()
    paired = [name for name, count in list(counts.items())[1:] if first == count == 1]
    share = "the share of resampled differences beyond 0"
    if not paired:
        return share
    test = "a paired permutation test"
    return test if len(paired) == len(others) else f"{test} for {', '.join(paired)}, and of {share} for the others,"


def _videos(methods):
    """The clips that all kept: (videos, ids, observed frames), as `comparison_report.write` takes them."""
    firsts = {name: group[0] for name, group in methods.items()}
    (_, first), *others = firsts.items()
    keys = [key for key in first.shown if all(key in other.shown for _, other in others)]
    if not keys:
        return {}, [], 0
    videos = {"truth": np.stack([first.frames_of(key, "truth") for key in keys])}
    for name, evaluation in firsts.items():
        videos[name] = np.stack([evaluation.frames_of(key, "model") for key in keys])
    # Of scored files the truth may lack the observed frames.
    observed = first.frames["truth"].shape[1] - first.frames["model"].shape[1]
    return videos, [name for name, _ in keys], observed


def _bands(methods, document):
    """{metric: {method: (mean, low, high)}}: curves over predicted frames with bootstrap bands, None without."""
    sources = next(iter(methods.values()))[0].sources
    metrics = next(iter(document["runs"].values()))["metrics"]
    metrics = [m for m in metrics if all(m in e.values for group in methods.values() for e in group)]
    return {
        metric: {n: statistics.bootstrap([e.values[metric] for e in group], sources) for n, group in methods.items()}
        for metric in metrics
    }
