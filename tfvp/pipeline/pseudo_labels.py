"""Label maps for videos that have none: by k-means, or by a segmentation model of your own."""

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfvp import files
from tfvp.errors import UserError

POSITION_WEIGHT = 0.35  # of a pixel's place, both axes from 0 to 1, against its colour from 0 to 1
SAMPLED_PIXELS = 60_000
SEED = 7


class KMeansLabels:
    """Classes of pixels by colour and place: the nearest of K centres.

    Args:
        path: .npy file of the centres [K, C + 2], which `fit` writes.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.centres = np.load(self.path) if self.path.is_file() else None

    def fit(self, video, classes):
        """Computes the centres, ordered by the size of their clusters, and saves them.

        Args:
            video: uint8 [T, H, W, C], frames of many clips.
            classes: K.
        """
        import cv2

        pixels = _features(video)
        sample = np.random.default_rng(SEED).permutation(len(pixels))[:SAMPLED_PIXELS]
        pixels = np.ascontiguousarray(pixels[sample])
        cv2.setRNGSeed(SEED)
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
        _, labels, centres = cv2.kmeans(pixels, classes, None, criteria, 4, cv2.KMEANS_PP_CENTERS)
        order = np.argsort(-np.bincount(labels.ravel(), minlength=classes), kind="stable")
        self.centres = centres[order]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(self.path) as temporary, open(temporary, "wb") as file:
            np.save(file, self.centres)

    def __call__(self, video):
        """uint8 [T, H, W, C] -> classes uint8 [T, H, W]."""
        labels = []
        for frame in video:
            pixels = _features(frame[None])
            distance = np.square(self.centres).sum(1) - 2.0 * pixels @ self.centres.T
            labels.append(np.argmin(distance, axis=1).astype(np.uint8).reshape(frame.shape[:2]))
        return np.stack(labels)


class ModelLabels:
    """Classes by a Keras segmentation model.

    Args:
        path: a .keras or .h5 file. The model takes [N, H, W, C] float32 in [0, 1] and gives
            scores [N, h, w, K], K <= 256, of any size.

    Raises:
        UserError: it cannot be loaded.
    """

    def __init__(self, path):
        try:
            self.model = keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras raises many types for files that are not models
            raise UserError(f"data.labels={path} is not a Keras model that can be loaded: {_line(error)}") from None
        self.path = path

    def __call__(self, video):
        """uint8 [T, H, W, C] -> classes uint8 [T, H, W]."""
        try:
            scores = np.asarray(self.model(tf.cast(video, tf.float32) / 255.0, training=False))
        except Exception as error:  # the model's own errors about the shape of its input
            raise UserError(f"data.labels={self.path} does not take frames {video.shape[1:]}: {_line(error)}") from None
        if scores.ndim != 4 or scores.shape[-1] > 256:
            raise UserError(f"data.labels={self.path} gives {scores.shape}, not scores [N, h, w, K] with K <= 256")
        rows, columns = (np.arange(n) * m // n for n, m in zip(video.shape[1:3], scores.shape[1:3]))
        return scores.argmax(axis=-1).astype(np.uint8)[:, rows][:, :, columns]


def _features(video):
    """Colour and place of every pixel: float32 [pixels, C + 2]."""
    frames, height, width, channels = video.shape
    place = np.stack(np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij"), axis=-1)
    place = np.broadcast_to(POSITION_WEIGHT * place, (frames, height, width, 2))
    return np.concatenate([video / 255.0, place], axis=-1).reshape(-1, channels + 2).astype(np.float32)


def _line(error):
    return " ".join(str(error).split())[:200]
