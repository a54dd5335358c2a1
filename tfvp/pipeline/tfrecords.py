"""TFRecord files of examples, and the layout in which tensorflow-datasets keeps videos in them."""

import io
import pathlib
import struct

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


def frames_in(path, count, held_out=0, split="test"):
    """How many frames a TFRecord file gives, by its first example and the lengths of the others.

    Args:
        path: the file.
        count: mapping from key to `tf.train.Feature` of an example -> its frames.
        held_out: the first of every so many examples is for validation; 0 = none is.
        split: whose frames are counted where some are held out.

    Returns:
        The number, or None where the file does not tell.
    """
    records, first, place, total = 0, b"", 0, pathlib.Path(path).stat().st_size
    with open(path, "rb") as file:
        while place + 12 <= total:  # 8 bytes of length and 4 of checksum before the example, 4 of checksum after it
            file.seek(place)
            (length,) = struct.unpack_from("<Q", file.read(12))
            first = first or file.read(min(length, total))
            place += 16 + length
            records += place <= total
    try:
        frames = count(tf.train.Example.FromString(first).features.feature)
    except Exception:  # decoding says what is wrong with it
        return None
    kept_back = -(-records // held_out) if held_out else 0
    return frames * {"test": records, "validation": kept_back, "train": records - kept_back}[split] or None


def count_encoded(feature, key="video"):
    """How many frames `encoded_frames` gives."""
    return len(feature[key].bytes_list.value) if key in feature else 0


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
