"""Clips of the test split of a model's own data set, to predict without a file."""

import numpy as np

from tfvp.config import Config
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation.selection import data_config


def test_clip(config: Config, number: int, length: int, needs: tuple[str, ...] = (), start: int = 0) -> np.ndarray:
    """Frames of clip `number` of the test split.

    Args:
        config: of the model; its `data.frame_stride` applies.
        number: of the clip, from 0.
        length: frames at most. Clips that are computed are made as long.
        needs: of the model; with "labels" the label map is a fourth channel.
        start: the first frame, before the stride.

    Returns:
        [T, H, W, C], T at most `length`: as the data set stores them, uint8 or float32 in [0, 1].

    Raises:
        UserError: there is no clip of that number, or the data cannot be read.
    """
    stride = config.data.frame_stride
    dataset = build_dataset(data_config(config, frames=length + -(-start // stride)))
    dataset.prepare(progress=False)
    lengths = dataset.clip_lengths("test")
    if not len(lengths):
        raise UserError(f"the test split of {dataset.name} is empty; give the model a video, or add test clips")
    if not 0 <= number < len(lengths):
        raise UserError(f"the test split of {dataset.name} has clips 0 to {len(lengths) - 1}, and no clip {number}")
    length = min(length, max(0, -(-(int(lengths[number]) - start) // stride)))
    if not length:
        return np.zeros((0, *dataset.frame_shape), np.uint8)
    arrays = dataset.read("test", np.array([number]), np.array([start]), length, stride)
    video = arrays["video"][0]
    if "labels" not in needs:
        return video
    if "labels" not in arrays:
        raise UserError(f"the model observes label maps, and data.labels of {dataset.name} gives none")
    if video.dtype != np.uint8:
        raise UserError(f"frames of {dataset.name} carry no label maps")
    return np.concatenate([video, arrays["labels"][0][..., None].astype(np.uint8)], axis=-1)


test_clip.__test__ = False  # not a test, for pytest
