"""How frames are stored in shards: as they are, or each as a compressed image of its own.

Each frame stands alone, so that a window is read without what precedes it. On real frames lossless WebP takes fewer
bytes than PNG, zstd and Blosc, and is decoded faster than PNG (`tfvp benchmark storage`); Pillow and OpenCV, which tfvp
needs anyway, write and read it without holding the interpreter.
"""

import io

import cv2
import numpy as np
from PIL import Image

from tfvp.errors import UserError

KINDS = ("raw", "lossless", "jpeg")
JPEG_QUALITY = 95
_LARGEST_SIDE = 16383  # of WebP


def codec_of(kind, key, dtype, shape):
    """How an array of one entry per frame is compressed.

    Args:
        kind: one of KINDS.
        key: of the array; "video" alone is ever stored with losses.
        dtype, shape: of one frame's entry.

    Returns:
        A `Codec`; None = the array is stored as it is. Only images of bytes are compressed: [H, W], or [H, W, C] with
        1 or 3 channels.
    """
    channels = shape[2] if len(shape) == 3 else 1
    if kind == "raw" or np.dtype(dtype) != np.uint8 or len(shape) not in (2, 3) or channels not in (1, 3):
        return None
    if max(shape[:2]) > _LARGEST_SIDE:
        return None
    return Jpeg(shape) if kind == "jpeg" and key == "video" else WebP(shape)


class Codec:
    """Compresses one frame at a time.

    Args:
        shape: of a frame, [H, W] or [H, W, C] with C = 1 (grey) or 3 (RGB).
    """

    suffix = ""

    def __init__(self, shape):
        self.shape = tuple(shape)
        self.colour = len(shape) == 3 and shape[2] == 3

    def encode(self, frame):
        """uint8 `shape` -> bytes."""
        raise NotImplementedError

    def decode(self, data):
        """uint8 [n] -> uint8 `shape`.

        Raises:
            UserError: the bytes are damaged.
        """
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
        if image is None or image.shape[:2] != self.shape[:2]:
            raise UserError("a stored frame is damaged; `tfvp data --check` says in which file")
        if self.colour:
            return image[..., ::-1]
        return (image if image.ndim == 2 else image[..., 0]).reshape(self.shape)


class WebP(Codec):
    """Without losses."""

    suffix = "webp"

    def encode(self, frame):
        # With more effort it takes a few per cent fewer bytes and many times as long; grey frames need some.
        effort = {"method": 0 if self.colour else 1, "quality": 0}
        image = Image.fromarray(frame if self.colour else frame.reshape(self.shape[:2])).convert("RGB")
        file = io.BytesIO()
        image.save(file, "WEBP", lossless=True, **effort)
        return file.getvalue()


class Jpeg(Codec):
    """With losses, colours at full resolution."""

    suffix = "jpg"
    _options = (
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    )

    def encode(self, frame):
        image = frame[..., ::-1] if self.colour else frame.reshape(self.shape[:2])
        return cv2.imencode(".jpg", np.ascontiguousarray(image), self._options)[1].tobytes()
