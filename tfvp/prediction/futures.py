"""Futures of one clip: observed once, imagined a few frames at a time.

`tfvp predict` and the studio both draw them here, with the same graphs in the same steps, so that both make the same
frames: another number of frames in a graph call may round differently.
"""

from __future__ import annotations

import collections.abc

import numpy as np
import tensorflow as tf

from tfvp.evaluation import precision
from tfvp.layers import noise
from tfvp.models import input_checks
from tfvp.models.base import VideoModel

FIRST, LONGEST = 2, 8  # frames of the first step, so that something is seen soon, and of later ones


class Futures:
    """A model's observation and imagination, traced once for all numbers of frames and of futures.

    Args:
        model: a built model.

    Raises:
        UserError: the model does not predict single clips.
    """

    def __init__(self, model: VideoModel):
        input_checks.check_clips(model, 1, "a single clip")
        self.model = model
        frames, seeds = tf.TensorSpec([1, None, *model.image_shape]), tf.TensorSpec([1, None, 2], tf.int64)
        self._observe = _traced(model.observe_samples, frames, seeds)
        state = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._observe.structured_outputs)
        self._imagine = _traced(lambda state, count: model.imagine(state, count), state, tf.TensorSpec([], tf.int32))

    def observe(self, observed: np.ndarray, samples: int = 1, seed: int = 0) -> dict:
        """The state after a clip, for each of its futures.

        Args:
            observed: [T, H, W, C], uint8 or floats in [0, 1].
            samples: futures; 1 for a deterministic model. Each depends on its number and the seed alone.
            seed: of the futures.

        Returns:
            A state of `samples` examples.

        Raises:
            UserError: the model cannot observe so many frames.
        """
        self.model.check_context(len(observed))
        with precision.predicting():
            return self._observe(tf.constant(as_floats(observed)[None]), noise.sample_seeds([seed], samples))

    def imagine(self, state: dict, horizon: int) -> collections.abc.Iterator[np.ndarray]:
        """Yields what follows a state, in order: float32 [samples, n, H, W, C], unclipped, n at most `LONGEST`."""
        done, count = 0, FIRST
        while done < horizon:
            count = min(count, horizon - done)
            with precision.predicting():
                video, state = self._imagine(*tf.nest.flatten([state, tf.constant(count)]))
                video = video.numpy()
            yield video
            done, count = done + count, min(2 * count, LONGEST)


def as_floats(frames: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] of frames, uint8 or such floats."""
    return frames.astype(np.float32) / np.float32(255.0) if frames.dtype == np.uint8 else frames.astype(np.float32)


def _traced(function, *specs):
    return tf.function(function, autograph=False).get_concrete_function(*specs)
