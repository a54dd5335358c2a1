"""Data sets from configurations."""

from tfvp import registry
from tfvp.config import Config
from tfvp.datasets.base import Settings, VideoDataset
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
