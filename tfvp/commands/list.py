"""Show what there is to choose from, with options and their defaults.

examples:
  tfvp list models
  tfvp list models svg
  tfvp list configs --json
  tfvp list models --trained
  tfvp list models --trained svg-smmnist-32
"""

import json
import shutil
import textwrap

from tfvp import catalogue, quiet
from tfvp.commands import output
from tfvp.errors import UserError

# What is shown of one entry below its description, where it has it.
FACTS = {
    "models": ("class", "stochastic", "needs", "min_context", "context_multiple", "size_multiple"),
    "datasets": ("class", "homepage", "licence", "download", "layout", "splits", "fps", "context", "horizon"),
    "metrics": ("class", "convention", "unit", "higher_is_better", "broken", "needs_weights", "protocols"),
    "protocols": ("dataset", "split", "context", "seq_len", "num_examples", "samples", "mode", "windows", "metrics"),
    "configs": ("path", "model", "dataset"),
    "trained": ("path", "model", "data", "training", "source", "evaluation", "weights", "licence"),
}


def add_arguments(parser):
    parser.add_argument("kind", nargs="?", choices=catalogue.KINDS, help="what to list")
    parser.add_argument("name", nargs="?", help="show this one in full")
    # With a name of its own: argparse takes no `name` after an option.
    parser.add_argument(
        "--trained",
        nargs="?",
        const="",
        metavar="NAME",
        help="with models: those that come trained, or this one of them",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options):
    if options.kind is None:
        if options.trained not in catalogue.KINDS:
            raise UserError(f"say what to list: {', '.join(catalogue.KINDS)}")
        options.kind, options.trained = options.trained, ""
    if options.trained is not None:
        options.name = options.trained or options.name
        if options.kind not in ("models", "trained"):
            raise UserError(f"--trained is for models; there are no trained {options.kind}")
        options.kind = "trained"
    if options.kind not in ("configs", "trained"):
        quiet.import_tensorflow()
    if options.name:
        shown = catalogue.entry(options.kind, options.name)
        text = in_full(options.kind, shown)
    else:
        shown = catalogue.entries(options.kind)
        text = "\n".join(in_short(one) for one in shown)
    output.show(json.dumps(shown, indent=1) if options.json else text)


def in_short(entry):
    """A few lines: name, summary, paper, options."""
    lines = [entry["name"], *_wrapped(entry["summary"])]
    if entry["paper"]:
        lines += _wrapped(f"paper: {entry['paper']}")
    if entry["options"]:
        lines += _wrapped("options: " + " ".join(f"{o['name']}={_value(o['default'])}" for o in entry["options"]))
    return "\n".join(lines)


def in_full(kind, entry):
    """The whole description, the facts and every option with its meaning."""
    lines = [entry["name"], ""]
    for line in entry["doc"].splitlines():
        lines += _wrapped(line, "  ") if len(line) > _width() else [f"  {line}".rstrip()]
    lines.append("")
    for key in ("paper", *FACTS[kind], "configs"):
        if entry.get(key) not in ("", [], None):
            text = ", ".join(map(str, entry[key])) if isinstance(entry[key], list) else _value(entry[key])
            lines += _wrapped(f"{key}: {text}", "  ")
    section = {"models": "model", "datasets": "data"}.get(kind)
    for option in entry["options"]:
        lines.append(f"\n  {section}.{option['name']}={_value(option['default'])}   ({option['type']})")
        lines += _wrapped(option["doc"], "      ") if option["doc"] else []
    if kind == "configs":
        lines.append("")
        for name, values in entry["values"].items():
            pairs = values.items() if isinstance(values, dict) else ()
            lines += [f"  {name}.{key}={_value(value)}" for key, value in pairs]
    return "\n".join(lines)


def _value(value):
    """As --set takes it."""
    return value if isinstance(value, str) and value else json.dumps(value)


def _wrapped(text, indent="    "):
    layout = {"initial_indent": indent, "subsequent_indent": indent + "  "}
    return textwrap.wrap(text, _width(), **layout, break_long_words=False, break_on_hyphens=False)


def _width():
    return min(shutil.get_terminal_size().columns, 120)
