"""Writes the reference pages of the documentation from the registries, the configurations and docs/parameters.json.

python docs/generate.py            # rewrites the pages; tests/unit/test_docs.py fails where they are stale
python docs/generate.py --count    # also builds the models whose configuration changed and counts their parameters
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import typing

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
CONFIGS = ROOT / "configs"
COUNTS = DOCS / "parameters.json"
NOTICE = "<!-- Written by docs/generate.py; edit the docstrings and configurations that it reads instead. -->\n\n"

sys.path[:0] = [str(ROOT), str(DOCS)]

import cards  # noqa: E402
from markup import anchor, paragraphs, prose, table, value_of  # noqa: E402

from tfvp import catalogue, files, registry  # noqa: E402
from tfvp import config as configuration  # noqa: E402
from tfvp.datasets.base import GeneratedDataset, Settings  # noqa: E402
from tfvp.errors import UserError  # noqa: E402
from tfvp.metrics import protocols  # noqa: E402
from tfvp.metrics.base import SetMetric  # noqa: E402


def pages():
    """The generated pages: {file name: text}."""
    shipped = read_configs()
    return {
        "models.md": models_page(shipped),
        "configs.md": configs_page(shipped),
        "datasets.md": datasets_page(),
        "metrics.md": metrics_page(),
        "options.md": options_page(),
        "trained.md": NOTICE + cards.trained_page(DOCS),
    }


def option_table(entry, section):
    """The options of a catalogue entry, as a Markdown table."""
    rows = [
        (
            f"`{section}.{option['name']}`",
            ", ".join(f"`{part}`" for part in option["type"].split(" | ")),
            f"`{value_of(option['default'])}`",
            prose(option["doc"]),
        )
        for option in entry["options"]
    ]
    return table(("option", "takes", "default", "meaning"), rows) if rows else "It has no options of its own.\n\n"


# Configurations.


@dataclasses.dataclass(frozen=True)
class Shipped:
    """A configuration that ships with tfvp.

    Attributes:
        name: of the file below `configs/`, without its suffix.
        header: its leading comment, as Markdown: sentences, and commands as code.
        config: a `tfvp.config.Config`.
    """

    name: str
    header: str
    config: typing.Any


def read_configs():
    """Every shipped configuration, sorted by name."""
    return [
        Shipped(entry["name"], header_of(entry["doc"]), configuration.load(entry["path"]))
        for entry in catalogue.configs()
    ]


def header_of(doc):
    """The comment at the top of a configuration, as Markdown; indented lines are commands."""
    blocks = []
    for line in doc.splitlines():
        command = re.match(r"  +(python|tfvp|make|--set)\b", line) is not None or line.startswith("    ")
        if not blocks or blocks[-1][0] != command:
            blocks.append((command, []))
        blocks[-1][1].append(line.strip())
    return "\n\n".join(
        "```\n" + "\n".join(lines) + "\n```" if command else prose(_with_code(" ".join(lines)))
        for command, lines in blocks
    )


def _with_code(text):
    """Text with pip's commands as code; those that end a line end a sentence."""
    return re.sub(r"pip install [\w -]+\.txt", r"`\g<0>`", text).replace(".txt` ", ".txt`. ")


def fingerprint(config):
    """What the number of a model's parameters depends on, as a short hash."""
    settings = [config.model.to_dict(), list(config.frame_shape)]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def read_counts():
    """{fingerprint: trainable parameters} of every configuration that was counted."""
    return json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.is_file() else {}


def count_parameters(shipped):
    """Builds the models of configurations that are not in docs/parameters.json, each in a process of its own."""
    stored, wanted = read_counts(), {}
    for entry in shipped:
        key = fingerprint(entry.config)
        wanted[key] = wanted.get(key) or stored.get(key)
        if wanted[key] is None:
            code = (
                "import math, sys, tfvp; model = tfvp.build_model(sys.argv[1]);"
                "print(sum(math.prod(v.shape) for v in model.trainable_variables))"
            )
            path = CONFIGS / f"{entry.name}.yml"
            done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE, check=True)
            wanted[key] = int(done.stdout.split()[-1])
            print(f"{entry.name}: {wanted[key]:,}", flush=True)
    COUNTS.write_text(json.dumps(wanted, indent=0, sort_keys=True) + "\n", encoding="utf-8")


# Pages.


def config_link(name):
    return f"[{name}](configs.md#{anchor(name)})"


def parameters_of(entry, counts):
    number = counts.get(fingerprint(entry.config))
    return "not counted" if number is None else f"{number:,}"


def models_page(shipped):
    counts, configs = read_counts(), {entry.name: entry for entry in shipped}
    text = NOTICE + (
        "# Models\n\n"
        "`model.name` chooses one. The constructor's keyword arguments are its options, `model.<option>` in a"
        " configuration or after `--set`. Parameters are trainable ones, counted from the built model.\n\n"
    )
    models = catalogue.models()
    rows = [
        (
            f"[`{model['name']}`](#{anchor(model['name'])})",
            prose(model["summary"]),
            prose(model["paper"]),
            "as many as are drawn" if model["stochastic"] else "one",
        )
        for model in models
    ]
    text += table(("model", "what it is", "paper", "futures of a clip"), rows)
    for model in models:
        module, _, name = model["class"].rpartition(".")
        text += f"## {model['name']}\n\n" + "\n\n".join(paragraphs(model["doc"])) + "\n\n"
        text += f"Source: `{module.replace('.', '/')}.py`, class `{name}`.\n\n"
        text += option_table(model, "model")
        rows = [
            (config_link(name), f"`{configs[name].config.data.name}`", parameters_of(configs[name], counts))
            for name in model["configs"]
        ]
        text += table(("configuration", "data set", "parameters"), rows) if rows else ""
    return text.rstrip() + "\n"


def configs_page(shipped):
    counts = read_counts()
    text = NOTICE + (
        "# Configurations\n\n"
        "`--config` takes the name of one of these or the path of a YAML file. A file holds what differs from"
        " [the common options](options.md) and from the defaults of its [model](models.md) and"
        " [data set](datasets.md). Numbers are quoted from the publication that is named; tfvp's own are marked as"
        " such.\n\n"
    )
    for entry in shipped:
        config = entry.config
        shape = " x ".join(map(str, config.frame_shape[:2]))
        colours = {1: "grey", 3: "RGB"}.get(config.data.channels, f"{config.data.channels} channels")
        text += f"## {entry.name}\n\n{entry.header}\n\n"
        text += (
            f"Model [`{config.model.name}`](models.md#{anchor(config.model.name)}),"
            f" {parameters_of(entry, counts)} parameters. Data set"
            f" [`{config.data.name}`](datasets.md#{anchor(config.data.name)}), {shape} pixels, {colours}."
            f" Clips of {config.train.seq_len} frames in training, {config.eval.open_loop_ctx} observed and"
            f" {config.eval.eval_seq_len - config.eval.open_loop_ctx} predicted in evaluation.\n\n"
        )
    return text.rstrip() + "\n"


def clips_of(cls):
    """How many clips a generated data set has, as a sentence; "" for data that are read from files."""
    if not issubclass(cls, GeneratedDataset):
        return ""
    try:
        dataset = cls(Settings(channels=cls.channels[-1]))
        lengths = {split: dataset.clip_lengths(split) for split in dataset.splits}
    except UserError:  # drawn from files that are not here
        return ""
    counts = ", ".join(f"{len(clips):,} {split}" for split, clips in lengths.items())
    return f"{counts} clips of {lengths['test'][0]} frames"


def space_of(info):
    """How much space the decoded frames take, in words."""
    parts = []
    for one in info.decoded:
        height, width, channels = one.shape
        kind = one.note if one.note == "label maps" else {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        note = f", {one.note}" if one.note and one.note != kind else ""
        frames = "" if "frames" in one.note else f", {one.frames:,} frames"
        parts.append(f"{files.readable_size(one.bytes)} ({height}x{width}, {kind}{note or frames})")
    return "; ".join(parts)


def datasets_page():
    text = NOTICE + (
        "# Data sets\n\n"
        "`data.name` chooses one, `data.root` says where its files are: a folder, or the URL of one in"
        " an [object store](remote.md). Files are decoded once, into `<root>/.tfvp` or"
        " `data.cache`, and then read at memory speed. `tfvp data --config NAME --set data.root=FOLDER` says what it"
        " found and what is missing, and draws a contact sheet; [Decoded frames on disk](storage.md) says when frames"
        " are decoded again, and when deleted. Loaders of data that cannot be downloaded freely were tested on files"
        " written in the published layout, not on the data themselves.\n\n"
    )
    datasets = catalogue.datasets()
    rows = [
        (
            f"[`{dataset['name']}`](#{anchor(dataset['name'])})",
            prose(dataset["description"]),
            dataset["context"],
            dataset["horizon"],
        )
        for dataset in datasets
    ]
    text += table(("data set", "what it shows", "observed", "predicted"), rows)
    for dataset in datasets:
        cls = registry.lookup("dataset", dataset["name"])
        text += f"## {dataset['name']}\n\n" + "\n\n".join(paragraphs(dataset["doc"])) + "\n\n"
        facts = [
            ("Files below `data.root`", prose(dataset["layout"])),
            ("To get them", prose(dataset["download"])),
            ("Size", clips_of(cls)),
            ("Decoded frames take", space_of(cls.info)),
            ("Homepage", f"<{dataset['homepage']}>" if dataset["homepage"] else ""),
            ("Licence", prose(dataset["licence"])),
            ("Frames per second", f"{dataset['fps']:g}" if dataset["fps"] else ""),
            ("Usual context and horizon", f"{dataset['context']} and {dataset['horizon']} frames"),
            ("Batches hold", ", ".join(f"`{key}`" for key in dataset["provides"])),
            ("`data.channels`", " or ".join(map(str, dataset["channels"]))),
        ]
        text += "".join(f"- **{key}:** {value}\n" for key, value in facts if value) + "\n"
        text += option_table(dataset, "data")
        using = [config_link(name) for name in dataset["configs"]]
        text += f"Configurations: {', '.join(using)}.\n\n" if using else ""
    return text.rstrip() + "\n"


def accepted_frames(metric):
    """A sentence about the frames that a metric takes, in a list; an empty one where it takes all."""
    side = f"at least {metric.smallest_side} x {metric.smallest_side} pixels" if metric.smallest_side > 1 else ""
    channels = f"{' or '.join(map(str, metric.channels))} channels" if metric.channels else ""
    said = " and ".join(filter(None, (side, channels)))
    return [f"Frames have {said}."] if said else []


def metrics_page():
    text = NOTICE + (
        "# Metrics and protocols\n\n"
        "A number without its protocol means nothing: one prediction scores an SSIM from .765 to .999 under the"
        " conventions in use. A protocol fixes data, split, context, horizon, samples, metrics and reduction, and"
        " stands in every result file. `--protocol NAME` chooses one; `--protocol all` scores one rollout under every"
        " convention, FVD and KVD included; their network runs three times over every prediction, which takes long on a"
        " CPU. `--metrics fvd,kvd` adds metrics to any protocol.\n\n## Protocols\n\n"
    )
    rows = [("`default`, `all`", "any", "what the section `eval` of the configuration says", "", "", "", "")]
    for p in protocols.PROTOCOLS.values():
        predicted = str(p.seq_len - p.context) if p.mode == "open_loop" else "each next frame"
        data = f"[`{p.dataset}`](datasets.md#{anchor(p.dataset)})" if p.dataset else "any"
        clips = f"{p.num_examples:,}" if p.num_examples else "all"
        link = f"[`{p.name}`](#{anchor(p.name)})"
        rows.append((link, data, p.split, p.context, predicted, clips, p.samples))
    text += table(("protocol", "data set", "split", "observed", "predicted", "clips", "samples"), rows)
    for p in protocols.PROTOCOLS.values():
        text += f"### {p.name}\n\n{prose(p.description)} After {prose(p.source)}.\n\n"
        text += f"Metrics: {', '.join(f'`{metric}`' for metric in p.metrics)}.\n\n"
        text += f"{prose(p.caveats)}\n\n" if p.caveats else ""
    text += (
        "## Metrics\n\n"
        "Metrics of frames are averaged over frames and clips and have a curve over time; with several samples a clip,"
        " best and worst are chosen by each metric's own mean over time. Metrics of sets compare the whole set at once."
        " The pretrained weights that some need come from `requirement-weights.txt`; without them the others are"
        " reported.\n\n"
    )
    rows = []
    for metric in catalogue.metrics():
        cls = registry.lookup("metric", metric["name"])
        broken = f" **Broken:** {prose(metric['broken'])}." if metric["broken"] else ""
        rows.append(
            (
                f"`{metric['name']}`",
                " ".join([*paragraphs(metric["doc"]), *accepted_frames(cls)]),
                prose(metric["convention"]) + broken,
                ("set" if issubclass(cls, SetMetric) else "frames") + (" of labels" if cls.of_labels else ""),
                "higher" if metric["higher_is_better"] else "lower",
                metric["unit"],
                ", ".join(f"`{needed}`" for needed in metric["needs_weights"]),
                ", ".join(f"`{user}`" for user in metric["protocols"]),
            )
        )
    header = ("metric", "what it is", "convention", "of", "better", "unit", "weights", "used by")
    text += table(header, rows)
    return (text + (DOCS / "metrics.in").read_text(encoding="utf-8")).rstrip() + "\n"


def options_page():
    text = NOTICE + (
        "# Common options\n\n"
        "What `configs/base.yml` holds: the options that all models and data sets share. A configuration, or"
        " `--set section.key=value`, changes them. An unknown key or a value of the wrong type is refused with the"
        " nearest valid one.\n\n"
    )
    section, rows = None, {}
    for line in (CONFIGS / "base.yml").read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"(\w+):", line):
            section = match[1]
            rows[section] = []
        elif match := re.fullmatch(r"  (\w+): (.*?)\s*# (.*)", line):
            rows[section].append((f"`{section}.{match[1]}`", f"`{match[2].strip()}`", prose(match[3])))
    for name, entries in rows.items():
        text += f"## {name}\n\n" + table(("option", "default", "meaning"), entries)
    return text.rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", action="store_true", help="build the models that have not been counted yet")
    if parser.parse_args().count:
        count_parameters(read_configs())
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"docs/{name}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
