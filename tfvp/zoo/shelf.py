"""Finds trained models by name, and checks that their files are whole."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import typing

import yaml

from tfvp import files, registry
from tfvp.errors import UserError

if typing.TYPE_CHECKING:
    from tfvp.run import Run

SHIPPED = pathlib.Path(__file__).resolve().parent
CARD = "card.yml"
WEIGHTS = "model/best.weights.h5"
CLIPS = ("clip.npy", "clip.gif")
_ADDED = "~/.local/share/tfvp/zoo"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        name: what commands call it.
        path: its folder.
        card: the contents of card.yml.
    """

    name: str
    path: pathlib.Path
    card: dict

    @property
    def clip(self) -> pathlib.Path | None:
        """The clip to try it on, or None."""
        return next((self.path / name for name in CLIPS if (self.path / name).is_file()), None)

    def check(self) -> None:
        """Compares the weights with the card's SHA-256.

        Raises:
            UserError: they are missing or differ.
        """
        path = self.path / WEIGHTS
        if not path.is_file() or files.sha256(path) != self.card["weights"]["sha256"]:
            raise UserError(
                f"the weights of {self.name} are damaged ({path} is missing or has another SHA-256 than its card says);"
                " install tfvp again, or publish the model again if it is your own"
            )


def added() -> pathlib.Path:
    """The folder of the models that a user has added: TFVP_ZOO, or ~/.local/share/tfvp/zoo."""
    return pathlib.Path(os.environ.get("TFVP_ZOO") or _ADDED).expanduser()


def entries() -> dict[str, Trained | str]:
    """{name: trained model, or the sentence that says why its card cannot be read}, sorted.

    A user's own come before shipped ones of the same name.
    """
    folders = {path.parent.name: path.parent for root in (SHIPPED, added()) for path in root.glob(f"*/{CARD}")}
    return {name: _entry(name, path) for name, path in sorted(folders.items())}


def find(name: str) -> Trained:
    """The trained model of a name, its weights checked.

    Raises:
        UserError: there is none of that name (the message names the nearest), it is damaged, or its card cannot be
            read.
    """
    every = entries()
    entry = every[registry.pick(name, every, "trained model")]
    if isinstance(entry, str):
        raise UserError(entry)
    entry.check()
    return entry


def run_of(name: str, logdir: str | os.PathLike) -> Run:
    """A run directory of a trained model, in which an evaluation or an export can be written.

    Args:
        name: of the model.
        logdir: folder of runs; this one is <logdir>/<name>.

    Raises:
        UserError: there is no such model, or a run of another model is in the way.
    """
    from tfvp.run import Run  # which brings TensorFlow; a list of names needs none

    entry, path = find(name), pathlib.Path(logdir) / name
    if not path.exists():
        files.writable_folder(logdir)
        temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
        try:
            shutil.copytree(entry.path, temporary, ignore=shutil.ignore_patterns(*CLIPS))
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    weights = path / WEIGHTS
    if not weights.is_file() or files.sha256(weights) != entry.card["weights"]["sha256"]:
        raise UserError(f"{path} holds another model than the trained {name}; give another --logdir")
    return Run(path)


def _entry(name, folder):
    path = folder / CARD
    try:
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
        _ = card["title"], card["weights"]["sha256"]
    except KeyError as error:
        reason = f"it has no {error.args[0]}"
    except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
    else:
        return Trained(name, folder, card)
    return f"{path} cannot be read ({reason}); remove the folder or write the card again"
