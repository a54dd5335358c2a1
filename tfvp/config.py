"""Strict YAML configuration.

`configs/base.yml` holds every option that all models and data sets share; the constructor of
the chosen model and data set adds its own under `model.` and `data.` (see `tfvp.registry`).
A key that is in neither, or a value of another type, is refused with a sentence that names
the file, the key and the nearest valid one.

A configuration is asked for by path, or by the name of one that ships with tfvp ("svg/smmnist").
"""

import os
import pathlib
import re
import types
import typing

import yaml

from tfvp import registry
from tfvp.errors import UserError

_PACKAGE = pathlib.Path(__file__).resolve().parent
# A wheel carries the folder inside of the package; in a checkout, and after `pip install -e`, it lies beside it.
SHIPPED = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
BASE_FILE = SHIPPED / "base.yml"

# The values that a word may take, where base.yml can only show one of them.
CHOICES = {
    "train.adam_rule": ("keras", "pytorch"),
    "data.storage": ("raw", "lossless", "jpeg"),
    "data.window": ("random", "by_length", "split", "first"),
    "train.precision": ("float32", "mixed_bfloat16"),
    "train.schedule": ("constant", "cosine", "linear", "one_cycle", "plateau"),
    "eval.windows": ("sample", "first"),
    "eval.split": ("validation", "test"),
    "eval.weights": ("best", "last"),
}
UNIONS = {"data.image_size": int | list[int]}
_KIND_OF_SECTION = {"model": "model", "data": "dataset"}


class Section(typing.Mapping):
    """A read-only mapping whose keys are also attributes: `config.train.batch_size`."""

    def __init__(self, values: dict):
        self._values = {k: Section(v) if isinstance(v, dict) else v for k, v in values.items()}

    def __getattr__(self, key):
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self._values[key]
        except KeyError:
            raise AttributeError(f"no option {key!r}{registry.nearest(key, self._values)}") from None

    def __getitem__(self, key):
        return self._values[key]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def to_dict(self) -> dict:
        """Plain nested dicts, ready for YAML or JSON."""
        return {k: v.to_dict() if isinstance(v, Section) else v for k, v in self.items()}


class Config(Section):
    """A complete, checked configuration: sections `model`, `data`, `train` and `eval`.

    Attributes:
        name: the run's name, from the file's path below `configs/` ("svg_smmnist").
    """

    def __init__(self, values: dict, name: str):
        super().__init__(values)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the frames, as `data.image_size` and `data.channels` say."""
        size = self.data.image_size
        return (*((size, size) if isinstance(size, int) else size), self.data.channels)

    def options(self, section: str) -> dict:
        """The options of `model` or `data` that its class, not base.yml, declares."""
        values = self[section]
        declared = registry.options(_KIND_OF_SECTION[section], values["name"])
        return {key: values[key] for key in declared if key in values}

    def save(self, path: str | os.PathLike) -> None:
        """Writes the configuration as YAML."""
        with open(path, "w", encoding="utf-8") as file:
            yaml.dump({"name": self.name, **self.to_dict()}, file, _Dumper, sort_keys=False)


def shipped() -> list[str]:
    """Names of the configurations that ship with tfvp, sorted: "demo", "svg/smmnist", ..."""
    files = (path for path in SHIPPED.rglob("*.yml") if path != BASE_FILE)
    return sorted(path.relative_to(SHIPPED).with_suffix("").as_posix() for path in files)


def find(config: str | os.PathLike) -> pathlib.Path:
    """The file of a configuration.

    Args:
        config: a path, or a name of `shipped()`, with or without ".yml". A file at that path wins over a shipped one
            of the same name.

    Raises:
        UserError: there is neither; the message names the nearest.
    """
    path, name = pathlib.Path(config), pathlib.PurePath(config).as_posix().removesuffix(".yml")
    if os.path.exists(path) and not os.path.isdir(path):
        return path
    if name in shipped():
        return SHIPPED / f"{name}.yml"
    # Beside a path that names an existing directory, its files come to mind first.
    beside = sorted(p.name for p in path.parent.glob("*.yml")) if len(path.parts) > 1 and path.parent.is_dir() else []
    near = registry.nearest(path.name, beside) or _nearest_shipped(name)
    raise UserError(f"no configuration file {path}{near}; `tfvp list configs` shows those that ship with tfvp")


def load(config: str | os.PathLike, overrides: typing.Iterable[str] = (), name: str | None = None) -> Config:
    """Reads, completes and checks a configuration.

    Args:
        config: a YAML file that holds what differs from base.yml, a saved `config.yml`, or the name of a shipped
            configuration; see `find`.
        overrides: strings "section.key=value", applied last; values are YAML.
        name: of the run. Defaults to the file's `name:`, or to its path below `configs/`.

    Returns:
        A `Config`.

    Raises:
        UserError: a missing or malformed file, an unknown key, a wrong type or value.
    """
    path = find(config)
    written = _read_yaml(path)
    own = written.pop("name", None)
    if own is not None and not isinstance(own, str):
        own = _as_written(path, "name")
    name = name or own or run_name(path)
    if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
        raise UserError(f"the run's name {name!r} must be letters, digits, _, -, + and dots, as it names a directory")
    for override in overrides:
        _apply_override(written, override)
    return from_dict(written, name, source=str(path))


def from_dict(written: dict, name: str = "unnamed", source: str = "the given configuration") -> Config:
    """Completes and checks a nested dict; see `load`."""
    values = base()
    for section, options in written.items():
        if section not in values:
            raise UserError(
                f"{source}: unknown section {section!r}{registry.nearest(section, values)}; the"
                f" sections are {', '.join(values)}"
            )
        if not isinstance(options, dict):
            raise UserError(f"{source}: section {section!r} must hold keys with values, not {options!r}")
    for section, kind in _KIND_OF_SECTION.items():
        selected = written.get(section, {}).get("name", values[section]["name"])
        try:
            declared = registry.options(kind, selected)
        except UserError as error:
            raise UserError(f"{source}: {section}.name: {error}") from None
        for key, option in declared.items():
            values[section].setdefault(key, option.default)
        _merge(values, section, written.get(section, {}), declared, source)
    for section in values:
        if section not in _KIND_OF_SECTION:
            _merge(values, section, written.get(section, {}), {}, source)
    return Config(_plain(values), name)


def base() -> dict:
    """The options that all models and data sets share, with their defaults: what base.yml holds."""
    return _read_yaml(BASE_FILE)


def run_name(path: str | os.PathLike) -> str:
    """The run's name for a config file: `configs/svg/smmnist.yml` -> "svg_smmnist"."""
    parts = pathlib.Path(path).with_suffix("").parts
    if "configs" in parts[:-1]:
        parts = parts[len(parts) - parts[::-1].index("configs") :]
        return "_".join(parts)
    return parts[-1]


def _merge(values, section, written, declared, source):
    for key, value in written.items():
        full = f"{section}.{key}"
        if key not in values[section]:
            raise UserError(f"{source}: unknown key {full!r}{_nearest_key(section, key, values)}")
        annotation = declared[key].annotation if key in declared else _type_of(full, values[section][key])
        values[section][key] = checked(value, annotation, f"{source}: {full}")
        if full in CHOICES and value not in CHOICES[full]:
            raise UserError(
                f"{source}: {full}: {value!r} is none of"
                f" {', '.join(CHOICES[full])}{registry.nearest(value, CHOICES[full])}"
            )


def _nearest_shipped(name):
    """' (did you mean ...?)' for shipped configurations whose file is called so, or that are spelled like `name`."""
    name, names = name.removeprefix("configs/").removesuffix(".yaml"), shipped()
    same_file = [other for other in names if pathlib.PurePath(other).name == pathlib.PurePath(name).name]
    if same_file and name not in names:
        return f" (did you mean {' or '.join(map(repr, same_file))}?)"
    return registry.nearest(name, names)


def _nearest_key(section, key, values):
    elsewhere = [other for other in values if key in values[other]]
    if elsewhere:
        return f"; did you mean '{elsewhere[0]}.{key}'?"
    similar = registry.closest(key, values[section])
    if similar:
        return f"; did you mean '{section}.{similar}'?"
    similar = registry.closest(f"{section}.{key}", [f"{s}.{k}" for s in values for k in values[s]])
    return f"; did you mean {similar!r}?" if similar else f"; {section} takes {', '.join(values[section])}"


def _type_of(key, default):
    if key in UNIONS:
        return UNIONS[key]
    if isinstance(default, list):
        return list[type(default[0])] if default else list
    return type(default)


def checked(value, annotation, where):
    """The value of an option, converted where YAML loses nothing by it (3 -> 3.0).

    Args:
        value: as it was read.
        annotation: the type of the option.
        where: the option, in the words of the user ("model.context").

    Raises:
        UserError: it is of another type, or none of the choices.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is typing.Any:
        return value
    if origin is typing.Literal:
        if value in arguments and isinstance(value, type(arguments[arguments.index(value)])):
            return value
        raise UserError(
            f"{where}: {value!r} is none of {', '.join(map(str, arguments))}{registry.nearest(value, arguments)}"
        )
    if origin in (typing.Union, types.UnionType):
        for alternative in arguments:
            try:
                return checked(value, alternative, where)
            except UserError:
                continue
    elif annotation is types.NoneType:
        if value is None:
            return value
    elif origin in (list, tuple) or annotation in (list, tuple):
        if isinstance(value, (list, tuple)):
            item = arguments[0] if arguments else typing.Any
            return [checked(v, item, f"{where}[{i}]") for i, v in enumerate(value)]
    elif annotation is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif annotation is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, origin or annotation):
        return value
    raise UserError(f"{where} must be {_describe(annotation)}, not {value!r} ({type(value).__name__})")


def _describe(annotation):
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(a) for a in arguments)
    if origin in (list, tuple):
        return f"a list of {_describe(arguments[0])}"
    words = {
        int: "an integer",
        float: "a number",
        str: "text",
        bool: "true or false",
        list: "a list",
        dict: "a mapping",
        types.NoneType: "null",
    }
    return words.get(annotation, str(annotation))


def _apply_override(written, override):
    match = re.fullmatch(r"(\w+)\.(\w+)=(.*)", override, re.DOTALL)
    if not match:
        raise UserError(f"--set {override}: write it as section.key=value, for example --set train.batch_size=8")
    section, key, text = match.groups()
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML ({_one_line(error)})") from None
    if not isinstance(written.setdefault(section, {}), dict):
        raise UserError(f"section {section!r} must hold keys with values, not {written[section]!r}")
    written[section][key] = "" if value is None and not text.strip() else value


def _read_yaml(path):
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration {path}: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {_one_line(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path} must be a mapping of sections (model, data, train, eval), not {type(values).__name__}")
    return values


def _as_written(path, key):
    """The text of a scalar that YAML takes for a number or a date, "" of anything else."""
    with open(path, encoding="utf-8") as file:
        pairs = yaml.compose(file, _Loader).value
    texts = {k.value: v.value for k, v in pairs if isinstance(v, yaml.ScalarNode)}
    return texts.get(key, "")


def _one_line(error):
    return " ".join(str(error).split())


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads 1e-4 as a number."""

    def construct_mapping(self, node, deep=False):
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, typing.Hashable) and key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key if isinstance(key, typing.Hashable) else id(key))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes text that `_Loader` would read as a number in quotes."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )
