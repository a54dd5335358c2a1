"""How frames are stored in shards: as they are, or each as a compressed image of its own.

Each frame stands alone, so that a window is read without what precedes it. On real frames in colour lossless WebP takes
fewer bytes than PNG, zstd and Blosc, and is read faster than PNG; on grey ones it saves 8 % of PNG's bytes, and is
written at a tenth of its speed (`tfvp benchmark storage`). Pillow and OpenCV, which tfvp needs anyway, write and read
both without holding the interpreter.
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
    if kind == "jpeg" and key == "video":
        return Jpeg(shape)
    return WebP(shape) if channels == 3 else Png(shape)


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
        return image.reshape(self.shape)


class WebP(Codec):
    """RGB without losses."""

    suffix = "webp"

    def encode(self, frame):
        file = io.BytesIO()
        # With more effort it takes a tenth fewer bytes, and four to twenty times as long.
        Image.fromarray(frame).save(file, "WEBP", lossless=True, method=0, quality=0)
        return file.getvalue()


class Png(Codec):
    """Without losses."""

    suffix = "png"

    def encode(self, frame):
        return _encoded(".png", self, frame)


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
        return _encoded(".jpg", self, frame, self._options)


def _encoded(suffix, codec, frame, options=()):
    image = frame[..., ::-1] if codec.colour else frame.reshape(codec.shape[:2])
    return cv2.imencode(suffix, np.ascontiguousarray(image), options)[1].tobytes()
