"""Data sets from configurations."""

import os
import pathlib

from tfvp import files, registry
from tfvp.config import Config
from tfvp.datasets.base import FileDataset, Settings, VideoDataset
from tfvp.errors import UserError


def build_dataset(config: Config, margin: int = 0) -> VideoDataset:
    """The data set of a configuration, not yet prepared.

    Args:
        config: a `tfvp.config.Config`.
        margin: pixels by which its frames are larger than `data.image_size`, in height and in width.

    Returns:
        A `VideoDataset`.

    Raises:
        UserError: an unknown name, or settings that it cannot take.
    """
    data, size = config.data, config.frame_shape[:-1]
    if len(size) != 2:
        raise UserError(f"data.image_size={list(size)} must be an integer or [height, width]")
    if not 0 <= data.max_damaged <= 1:
        raise UserError(f"data.max_damaged={data.max_damaged} must be from 0 (no file) to 1 (all)")
    size = tuple(side + margin for side in size)
    settings = Settings(
        data.root,
        data.cache,
        size,
        data.channels,
        config.train.seed,
        data.flow,
        data.max_damaged,
        data.storage,
        margin,
    )
    return registry.lookup("dataset", data.name)(settings, **config.options("data"))


def lies_in_data(config: Config, path: str | os.PathLike) -> bool:
    """Whether a file at `path` would count as one of the raw files of a configuration: below data.root, not hidden."""
    root = config.data.root
    if not root or files.is_url(root) or not issubclass(registry.lookup("dataset", config.data.name), FileDataset):
        return False
    folder, root = pathlib.Path(path).parent.resolve(), pathlib.Path(root).expanduser().resolve()
    return folder.is_relative_to(root) and not any(part.startswith(".") for part in folder.relative_to(root).parts)


def lacks_root(config: Config) -> bool:
    """Whether a configuration's data set is read from files, and data.root does not say where they lie."""
    kind = registry.lookup("dataset", config.data.name)
    return not config.data.root and getattr(kind, "root", None) is FileDataset.root


def check_root(config: Config, path: str | os.PathLike) -> None:
    """Refuses a configuration of which `lacks_root` is true.

    Args:
        config: with data.root, if there is another one, in its place.
        path: of the run; the message names it.

    Raises:
        UserError: `lacks_root` says so.
    """
    if lacks_root(config):
        raise UserError(
            f"{config.data.name} is read from files, and the configuration of {path} does not say where they lie; name"
            " their folder with --datadir, which takes the place of data.root"
            f" ({registry.lookup('dataset', config.data.name).info.layout})"
        )


def check_output(config: Config, path: str | os.PathLike) -> None:
    """Refuses to write among the raw files of a configuration.

    Raises:
        UserError: `lies_in_data` says so of `path`.
    """
    if lies_in_data(config, path):
        raise UserError(
            f"{os.fspath(path)} lies in data.root, where it would be taken for one of the videos or frames; name a file"
            " in another folder with --out"
        )
