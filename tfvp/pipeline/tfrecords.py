"""TFRecord files of examples, and the layout in which tensorflow-datasets keeps videos in them."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from tfvp.errors import UserError


def examples(path):
    """Yields the examples of a TFRecord file, each a mapping from key to `tf.train.Feature`.

    Raises:
        UserError: the file is truncated, damaged or holds something else.
    """
    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            example = tf.train.Example.FromString(record.numpy())
            yield example.features.feature
            count += 1
    except Exception as error:
        if type(error).__name__ not in ("DataLossError", "DecodeError", "InvalidArgumentError", "OutOfRangeError"):
            raise
        raise UserError(f"{path} is truncated or damaged after record {count}; download it again") from None


def encoded_frames(feature, path, key="video"):
    """The frames of a `tfds.features.Video`: one encoded image (PNG) each.

    Args:
        feature: an example, as `examples` yields it.
        path: the file it is from, for messages.
        key: of the video in the example.

    Returns:
        List of uint8 [h, w, 3] or [h, w, 1].

    Raises:
        UserError: the example has no such video, or a frame cannot be decoded.
    """
    images = feature[key].bytes_list.value if key in feature else ()
    if not images:
        raise UserError(f"{path} holds no encoded frames under {key!r}; its examples have {', '.join(sorted(feature))}")
    try:
        frames = [np.asarray(Image.open(io.BytesIO(image))) for image in images]
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} holds a frame that is not an image ({error}); download it again") from None
    return [frame[..., None] if frame.ndim == 2 else frame[..., :3] for frame in frames]
