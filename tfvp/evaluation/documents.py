"""What stands in the files of an evaluation.

metrics.json (format 2) holds, beside one entry per predictor ({metric: summary}):

    format      2
    protocol    the protocol as it was used, "clips", their number, and "first_scored", the frames before the first
                that is scored: the context, or in teacher-forced evaluations the fewest that the model observes
    modified    {field: {"protocol": value, "used": value}} where it is not the protocol as named
    tag         of --tag, or ""
    data        the section `data` of the configuration as it was used, the split, and what identifies the clips:
                "windows", [[clip, first frame], ...] in their order, and hashes
    networks    [{"name", "file", "sha256"}] of the networks that metrics compare with
    run         the model: its weights, their epoch and SHA-256; device, precision, versions and commit
    examples    [{"rank", "clip", "id", "metric", "value"}] of the clips that the page shows
    notes       sentences
"""

import dataclasses
import hashlib
import json
import pathlib
import re

from tfvp.errors import UserError

FORMAT = 2
RESERVED = ("format", "protocol", "modified", "tag", "data", "networks", "run", "examples", "notes")


# How a changed field is called in the folder's name.
LABELS = {
    "context": "ctx",
    "seq_len": "len",
    "num_examples": "n",
    "samples": "s",
    "frame_stride": "stride",
    "split": "",
    "mode": "",
    "windows": "",
    "metrics": "",
    "weights": "",
    "use_obs": "obs",
    "data.root": "data",
}


def predictors(document: dict) -> list[str]:
    """The names of the predictors that a metrics.json has numbers of, in order; the first is the model."""
    return [name for name in document if name not in RESERVED]


def modifications(protocol, named, **settings):
    """What an evaluation does otherwise than its protocol's name says.

    Args:
        protocol: the `tfvp.metrics.protocols.Protocol` that is used.
        named: the one that the name stands for, or None where it is not registered.
        **settings: (value by default, value used) of settings beside the protocol. "data.root": folders.

    Returns:
        {field: {"protocol": value, "used": value}}, plain JSON types.
    """
    pairs = {}
    for field in dataclasses.fields(protocol) if named else ():
        if field.name in LABELS:
            pairs[field.name] = (getattr(named, field.name), getattr(protocol, field.name))
    pairs.update({name.replace("__", "."): pair for name, pair in settings.items()})
    plain = {name: [list(v) if isinstance(v, tuple) else v for v in pair] for name, pair in pairs.items()}
    return {name: {"protocol": old, "used": new} for name, (old, new) in plain.items() if old != new}


def folder_name(protocol_name, modified, tag=""):
    """The name of an evaluation's folder: "default", "default-ctx36-len72-n8-last", "svg_kth-s1-mytag".

    Args:
        protocol_name: the protocol's.
        modified: what `modifications` returned.
        tag: appended as it is; letters, digits, ".", "_" and "-".

    Raises:
        UserError: the tag holds anything else.
    """
    if tag and not re.fullmatch(r"\w[\w.-]*", tag):
        raise UserError(f"--tag={tag!r} must be made of letters, digits, '.', '_' and '-'")
    parts = [_part(field, **modified[field]) for field in LABELS if field in modified]
    return "-".join(part for part in (protocol_name, *parts, tag) if part)


def _part(field, protocol, used):
    if field == "data.root":
        return "data" + hashlib.sha256(str(used).encode()).hexdigest()[:6]
    if field == "metrics":
        if set(protocol) < set(used):
            return "-".join(name for name in used if name not in protocol)
        return "metrics" + hashlib.sha256(json.dumps(used).encode()).hexdigest()[:6]
    if field == "windows":
        return used or "first"
    return LABELS[field] + ("all" if field == "num_examples" and not used else str(used))


def evaluations(folder):
    """The names of the evaluations in `folder`, the `eval` of a run, sorted."""
    return sorted(path.parent.name for path in pathlib.Path(folder).glob("*/metrics.json"))


def check_folder(folder, document):
    """Refuses to overwrite the result of another evaluation.

    Args:
        folder: where the result is to go.
        document: what is known of it already: "protocol", "modified" and "tag".

    Raises:
        UserError: the folder holds a result with another protocol, other modifications or another tag.
    """
    path = pathlib.Path(folder) / "metrics.json"
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    before, now = _selection(earlier), _selection(document)
    differing = [f"{key}: {before[key]!r} there, {now.get(key)!r} now" for key in before if before[key] != now.get(key)]
    if differing:
        raise UserError(
            f"{folder} holds the result of another evaluation ({'; '.join(differing)}); move it away, or give this one"
            " a --tag"
        )


def _selection(document):
    """What decides what is evaluated. Results of format 1 do not say what was modified."""
    protocol = {k: v for k, v in document.get("protocol", {}).items() if k in LABELS and k != "metrics"}
    if "modified" not in document:
        return protocol
    used = {f"modified {name}": change["used"] for name, change in document["modified"].items()}
    return {**protocol, **used, "tag": document.get("tag", ""), "modified": sorted(document["modified"])}
