"""What there is to choose from: models, data sets, metrics, protocols and configurations, as plain dicts.

`tfvp list` prints it, and the reference pages of the documentation are made of it. Everything comes from the
registered classes, their docstrings and the headers of the configurations. Every entry has:

    name     what configs and commands call it
    summary  one line
    paper    the publication or code that it follows, "" if none
    doc      the whole description
    options  list of {"name", "type", "default", "doc"}

and the keys of its kind, which each function below names.
"""

import dataclasses
import inspect
import re
import typing

import yaml

from tfvp import config as configuration
from tfvp import registry
from tfvp.zoo import shelf

KINDS = ("models", "datasets", "metrics", "protocols", "configs", "trained")
_ARGUMENT = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<text>.*)$")


def entries(kind: str) -> list[dict]:
    """The entries of one of KINDS, sorted by name."""
    makers = {"models": models, "datasets": datasets, "metrics": metrics, "protocols": protocols, "configs": configs}
    return {**makers, "trained": trained}[kind]()


def entry(kind: str, name: str) -> dict:
    """One entry.

    Raises:
        UserError: there is none of that name; the message names the nearest.
    """
    every = {one["name"]: one for one in entries(kind)}
    return every[registry.pick(name, every, kind.removesuffix("s"))]


def models() -> list[dict]:
    """Further keys: class, stochastic, needs, min_context, context_multiple, size_multiple, configs (names)."""
    users = _users("model")
    keys = ("stochastic", "min_context", "context_multiple", "size_multiple")
    return [
        {
            **_described("model", name, cls),
            **{key: getattr(cls, key) for key in keys},
            "needs": list(cls.needs),
            "configs": users.get(name, []),
        }
        for name, cls in _classes("model")
    ]


def datasets() -> list[dict]:
    """Further keys: class, the attributes of `tfvp.datasets.base.DatasetInfo`, splits, channels, provides, configs."""
    users = _users("data")
    return [
        {
            **_described("dataset", name, cls),
            **dataclasses.asdict(cls.info),
            "decoded": [
                {**dataclasses.asdict(one), "shape": list(one.shape), "bytes": one.bytes} for one in cls.info.decoded
            ],
            "splits": list(cls.splits),
            "channels": list(cls.channels),
            "provides": list(cls.provides),
            "configs": users.get(name, []),
        }
        for name, cls in _classes("dataset")
    ]


def metrics() -> list[dict]:
    """Further keys: class, convention, unit, higher_is_better, broken, needs_weights, protocols (names)."""
    from tfvp.metrics import protocols as known

    users = known.used_by()
    keys = ("convention", "unit", "higher_is_better", "broken")
    return [
        {
            **_described("metric", name, cls),
            **{key: getattr(cls, key) for key in keys},
            "options": [],  # a configuration names metrics, it does not set them
            "needs_weights": list(cls.needs_weights),
            "protocols": users.get(name, []),
        }
        for name, cls in _classes("metric")
    ]


def protocols() -> list[dict]:
    """Further keys: the attributes of `tfvp.metrics.protocols.Protocol`."""
    from tfvp.metrics import protocols as known

    return [
        {
            **protocol.to_dict(),
            "summary": protocol.description,
            "paper": protocol.source,
            "doc": f"{protocol.description} {protocol.caveats}".strip(),
            "options": [],
        }
        for _, protocol in sorted(known.PROTOCOLS.items())
    ]


def configs() -> list[dict]:
    """Further keys: path, model, dataset, values (the nested dict that the file holds). Imports no TensorFlow."""
    found = []
    base = configuration.base()
    for name in configuration.shipped():
        path = configuration.find(configuration.SHIPPED / f"{name}.yml")
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        header = [line.removeprefix("#").rstrip() for line in text.split("\n\n")[0].splitlines()]
        first = [*(line for line in header), "  "]
        summary = first[: next(i for i, line in enumerate(first) if line.startswith("  "))]
        found.append(
            {
                "name": name,
                "summary": " ".join(" ".join(summary).split()),
                "paper": "",
                "doc": inspect.cleandoc("\n".join(header)),
                "options": [],
                "path": str(path),
                "model": values.get("model", {}).get("name", base["model"]["name"]),
                "dataset": values.get("data", {}).get("name", base["data"]["name"]),
                "values": values,
            }
        )
    return found


def trained() -> list[dict]:
    """Further keys: those of the model's card, and path. Imports no TensorFlow.

    Where a card cannot be read, summary says why, path is "", and there are no other keys.
    """
    found = []
    for name, entry in shelf.entries().items():
        if isinstance(entry, str):
            card, title, limits, path = {}, entry, "", ""
        else:
            card, title, limits, path = entry.card, entry.card["title"], entry.card.get("limits", ""), str(entry.path)
        found.append(
            {
                **card,
                "name": name,
                "summary": title,
                "paper": "",
                "doc": f"{title}\n\n{limits}".strip(),
                "options": [],
                "path": path,
            }
        )
    return found


def _classes(kind):
    return [(name, registry.lookup(kind, name)) for name in registry.names(kind)]


def _users(section):
    """{name of a model or data set: names of the configurations that ask for it}."""
    users = {}
    for one in configs():
        users.setdefault(one["model" if section == "model" else "dataset"], []).append(one["name"])
    return users


def _described(kind, name, cls):
    doc, arguments = split_docstring(inspect.getdoc(cls))
    for parent in cls.__mro__[1:]:
        if parent.__module__.startswith("tfvp.") and parent.__doc__:
            arguments = {**split_docstring(inspect.getdoc(parent))[1], **arguments}
    options = [
        {
            "name": key,
            "type": type_name(option.annotation),
            "default": list(option.default) if isinstance(option.default, tuple) else option.default,
            "doc": arguments.get(key, ""),
        }
        for key, option in registry.options(kind, name).items()
    ]
    return {
        "name": name,
        "summary": " ".join(doc.split("\n\n")[0].split()),
        "paper": getattr(cls, "paper", ""),
        "doc": doc,
        "options": options,
        "class": f"{cls.__module__}.{cls.__qualname__}",
    }


def split_docstring(doc: str) -> tuple[str, dict[str, str]]:
    """The description in a docstring, and {argument: its text} of its section "Args"."""
    description, _, rest = doc.partition("\nArgs:\n")
    for section in ("Class attributes", "Raises", "Attributes"):
        description = description.partition(f"\n{section}:\n")[0]
    arguments, current = {}, []
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break
        match = _ARGUMENT.match(line[4:])
        if match:
            current = match["names"].split(", ")
            arguments.update(dict.fromkeys(current, match["text"]))
        elif line.strip():
            arguments.update({key: f"{arguments[key]} {line.strip()}" for key in current})
    return description.strip(), arguments


def type_name(annotation: typing.Any) -> str:
    """How a docs page writes a type: "int", "list[int]", "learned | fixed"."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(map(str, inner))
    if annotation is type(None):
        return "null"
    if origin is not None and not isinstance(origin, type) or "Union" in type(annotation).__name__:
        return " | ".join(map(type_name, inner))
    if inner:
        return f"{origin.__name__}[{', '.join(map(type_name, inner))}]"
    return getattr(annotation, "__name__", str(annotation))
