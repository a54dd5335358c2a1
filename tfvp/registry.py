"""Names for models, data sets, metrics and protocols, so that a YAML file can ask for them.

A class enters by decoration, in its own file:

    @register("model", "my_model")
    class MyModel(VideoModel):
        def __init__(self, image_shape, hidden: int = 64): ...

Every module of `tfvp/models`, `tfvp/datasets` and `tfvp/metrics` is imported at the first
look-up, so adding a file is all that it takes. The keyword arguments of the constructor are
the options that the YAML file may set; their annotations are the types that it must keep.
"""

import difflib
import importlib
import inspect
import pkgutil
import typing

from tfvp.errors import UserError

PACKAGES = {"model": "tfvp.models", "dataset": "tfvp.datasets", "metric": "tfvp.metrics"}

_entries: dict[str, dict[str, type]] = {kind: {} for kind in PACKAGES}
_discovered: set[str] = set()


class Option(typing.NamedTuple):
    """One keyword argument of a registered class."""

    annotation: typing.Any
    default: typing.Any


def register(kind: str, name: str) -> typing.Callable[[type], type]:
    """Returns a class decorator that enters the class under `name`.

    Args:
        kind: "model", "dataset" or "metric".
        name: what configs call it; unique within its kind.

    Raises:
        ValueError: if another class has that name.
    """

    def decorate(cls):
        holder = _entries[kind].get(name)
        if holder is not None and holder.__qualname__ != cls.__qualname__:
            raise ValueError(f"{kind} {name!r} is already registered by {holder.__module__}")
        _entries[kind][name] = cls
        cls.registered_name = name
        return cls

    return decorate


def names(kind: str) -> list[str]:
    """The sorted names registered under `kind`."""
    _discover(kind)
    return sorted(_entries[kind])


def lookup(kind: str, name: str) -> type:
    """The class registered as `name`.

    Raises:
        UserError: if there is none; the message names the nearest one.
    """
    return _entries[kind][pick(name, names(kind), kind)]


def pick(name: str, candidates: typing.Iterable[str], kind: str) -> str:
    """`name`, if it is one of the candidates.

    Raises:
        UserError: it is not; the message names the nearest one and all of them. `kind` is what they are, as a noun.
    """
    candidates = list(candidates)
    if name not in candidates:
        raise UserError(f"unknown {kind} {name!r}{nearest(name, candidates)}; known: {', '.join(candidates)}")
    return name


def options(kind: str, name: str) -> dict[str, Option]:
    """The options of a registered class: {option name: Option(annotation, default)}.

    These are the keyword arguments of its constructor that have a default value.
    """
    constructor = lookup(kind, name).__init__
    hints = typing.get_type_hints(constructor)
    return {
        parameter.name: Option(hints.get(parameter.name, type(parameter.default)), parameter.default)
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.default is not inspect.Parameter.empty
    }


def closest(word: object, candidates: typing.Iterable) -> str | None:
    """The candidate that is spelled most like `word`, or None if none is near."""
    spelled = {str(candidate).lower(): str(candidate) for candidate in candidates}
    matches = difflib.get_close_matches(str(word).lower(), spelled, n=1, cutoff=0.6)
    return spelled[matches[0]] if matches else None


def nearest(word: object, candidates: typing.Iterable) -> str:
    """' (did you mean ...?)' with the candidate nearest to `word`, or ''."""
    match = closest(word, candidates)
    return f" (did you mean {match!r}?)" if match else ""


def _discover(kind):
    if kind in _discovered:
        return
    _discovered.add(kind)
    package = importlib.import_module(PACKAGES[kind])
    for module in pkgutil.iter_modules(package.__path__, PACKAGES[kind] + "."):
        importlib.import_module(module.name)
