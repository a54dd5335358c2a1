"""The run directory: what a training run writes, and how to find it again.

<logdir>/<config name>/
    config.yml          the complete configuration
    environment.json    versions, hardware and command of every session
    validation.json     clip and first frame of every window that is validated
    metrics.jsonl       one line per epoch and validation
    curves.png          training curves
    model/              best.weights.h5, last.weights.h5 (what is evaluated), status.json
    backup/             everything needed to resume
    samples/ tensorboard/ eval/ export/
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator

import tfvp
from tfvp import changes, compat, files, locks, quiet
from tfvp import config as configuration
from tfvp.errors import UserError


class Run:
    """A run directory.

    Args:
        path: the directory.

    Attributes:
        path: the directory, a `pathlib.Path` that ends in its name.
        config: the configuration that it was started with.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = named(path)
        if not (self.path / "config.yml").is_file():
            raise UserError(f"{self.path} is not a run: it has no config.yml; train one with `tfvp train`")
        self.config = configuration.load(self.path / "config.yml")

    @classmethod
    def start(cls, logdir: str | os.PathLike, config: configuration.Config, batch_norm: bool = True) -> Run:
        """Creates the run directory of `config`, or opens the existing one.

        Options that do not change what is learned may differ (see `changes.resumable`); the run
        then has the new ones, and each is printed.

        Args:
            logdir: the folder of runs.
            config: of this session.
            batch_norm: whether the model has batch norm.

        Raises:
            UserError: the directory cannot be written, or was made from another configuration.
        """
        path = pathlib.Path(logdir) / config.name
        if (path / "config.yml").exists():
            run = cls(path)
            changed, allowed = changes.resumable(run.config, config, batch_norm)
            if changed:
                raise UserError(
                    f"{path} was trained with another configuration; give the old values, another --logdir, or a"
                    " --name of its own. What differs (run -> now):\n  " + "\n  ".join(changed)
                )
            if not allowed:
                return run
            with run.locked():
                print(f"{path} takes other options from here on: {'; '.join(allowed)}")
                with files.atomic_write(path / "config.yml") as temporary:
                    config.save(temporary)
            return cls(path)
        files.writable_folder(path)
        with files.atomic_write(path / "config.yml") as temporary:
            config.save(temporary)
        return cls(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Context manager: no other process can train this run meanwhile.

        Raises:
            UserError: another process is training it.
        """
        sentence = f"{self.path} is being trained by another process; wait for it or use another --logdir"
        with locks.locked(self.path, sentence):
            yield

    def folder(self, name: str) -> pathlib.Path:
        """The subdirectory `name`, created if it is missing."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def weights_file(self, which: str = "best") -> pathlib.Path:
        """The path of the "best" or "last" weights.

        Raises:
            UserError: there are none yet.
        """
        path = self.path / "model" / f"{which}.weights.h5"
        if not path.is_file():
            others = sorted(other.name.partition(".")[0] for other in path.parent.glob("*.weights.h5"))
            if others:
                raise UserError(f"{self.path} has no {which} weights, only {', '.join(others)}; choose these")
            raise UserError(f"{self.path} has no {which} weights yet ({path.name}); let it train for an epoch first")
        return path

    def record_environment(self, devices: list[str]) -> None:
        """Appends this session's versions, hardware and command to environment.json."""
        path = self.path / "environment.json"
        sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"] if path.is_file() else []
        sessions.append(describe_environment(devices))
        files.write_json(path, {"sessions": sessions})

    def append_metrics(self, values: dict) -> None:
        """Appends a line to metrics.jsonl; non-finite values are written as null."""
        clean = {k: None if isinstance(v, float) and v - v != 0 else v for k, v in values.items()}
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")

    def read_metrics(self) -> list[dict]:
        """The lines of metrics.jsonl as dicts, without one that a crash cut short."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        parsed = []
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):
                parsed.append(json.loads(line))
        return parsed

    def rewind_metrics(self, step: int) -> None:
        """Drops the lines of steps that a killed session logged and that will be trained again."""
        lines = [line for line in self.read_metrics() if line["step"] <= step]
        with files.atomic_write(self.path / "metrics.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def named(path: str | os.PathLike) -> pathlib.Path:
    """The path of a folder that ends in its name, which "." and ".." do not; files and reports are called by it."""
    path = pathlib.Path(path)
    return path.resolve() if path.name in ("", "..") else path


def find(path: str | os.PathLike, advice: str = "") -> Run:
    """The run at `path`: a run, its `model/` folder, or a folder of runs (then the newest).

    Args:
        path: the folder.
        advice: what to do where there is none; "" = train one there.

    Raises:
        UserError: there is none.
    """
    path = named(path)
    for candidate in (path, path.parent):
        if (candidate / "config.yml").is_file() and (candidate == path or path.name in ("model", "eval", "export")):
            return Run(candidate)
    runs = [p.parent for p in path.glob("*/config.yml")] + [p.parent for p in path.glob("*/*/config.yml")]
    if not runs:
        what = "holds no run" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {what}; {advice or f'train one first: tfvp train --logdir {path} --config demo'}")
    return Run(max(runs, key=_last_change))


def _last_change(run):
    tracked = [run / "config.yml", run / "metrics.jsonl", run / "model" / "last.weights.h5"]
    return max(p.stat().st_mtime for p in tracked if p.exists())


def describe_environment(devices: list[str]) -> dict:
    """Versions, hardware, command and commit of this process, as plain JSON types."""
    program = pathlib.Path(sys.argv[0]).name
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": ["tfvp" if program == "__main__.py" else program, *sys.argv[1:]],  # python -m tfvp
        "commit": commit(),
        "python": platform.python_version(),
        "versions": compat.library_versions(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "onednn": quiet.onednn(),
        "winograd": quiet.winograd(),
        "devices": list(devices),
    }


def processor() -> str:
    """The name of the processor, as its maker gives it where that can be read."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit(package: str | os.PathLike = pathlib.Path(__file__).parent) -> str:
    """The commit of the checkout that a package runs from, with "+" if there are uncommitted changes.

    Outside of a checkout it is the version. A package that is installed inside of one, in a virtual environment, say,
    is not part of it: git must know the package's own files.
    """
    git = ["git", "-C", str(package)]
    describe = ["describe", "--always", "--abbrev=12", "--dirty=+"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        for command in (["ls-files", "--error-unmatch", "__init__.py"], describe):
            done = subprocess.run([*git, *command], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    return f"tfvp {tfvp.__version__}"


def load_weights(model, path: str | os.PathLike) -> None:
    """Loads a `.weights.h5` file into a built model.

    Raises:
        UserError: the file is damaged, belongs to another model, or is of the other version of Keras.
    """
    try:
        model.load_weights(str(path))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        writer, reader = _keras_of(pathlib.Path(path)), compat.library_versions().get("keras", "")
        reason = " ".join(str(error).split())[:300]
        if writer and writer.split(".")[0] != reader.split(".")[0]:
            raise UserError(
                f"{path} cannot be loaded: Keras {writer} wrote it, and Keras {reader} does not read all of its files"
                f" ({reason}); run `tfvp publish` under the former, as both read the weights of a trained model"
            ) from None
        raise UserError(f"{path} cannot be loaded: it is damaged or belongs to another model ({reason})") from None


def _keras_of(weights):
    """The version of Keras that last trained the run of a file of weights; "" where nobody has noted it."""
    try:
        sessions = json.loads((weights.parent.parent / "environment.json").read_text(encoding="utf-8"))["sessions"]
        return str(sessions[-1]["versions"]["keras"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def save_weights(model, path: str | os.PathLike) -> None:
    """Writes a model's weights as `path`, which must end in .weights.h5."""
    with files.atomic_write(path) as temporary:
        model.save_weights(str(temporary))
