"""Trivial predictors that every model has to beat. They stand in every evaluation's table."""

import numpy as np
import tensorflow as tf

from tfvp.layers import unroll
from tfvp.models.base import VideoModel


class StillFrame(VideoModel):
    """Predicts one frame for ever. The state is {"frame", "count"}: that frame, frames seen."""

    registered_name = "still frame"
    predicts_labels = False  # a mean of class numbers is no class

    def observe(self, context, state=None, seed=None):
        batch, seen = tf.shape(context)[0], tf.cast(tf.shape(context)[1], tf.float32)
        if state is None:
            state = {"frame": tf.zeros([batch, *self.image_shape]), "count": tf.zeros([batch, 1, 1, 1])}
        return {"frame": self.still(context, state), "count": state["count"] + seen}

    def imagine(self, state, horizon, seed=None):
        return unroll.generate(lambda at_t, t: (at_t["frame"], at_t), state, horizon, like=state["frame"])[0], state

    def still(self, context, state):
        """The frame [B, H, W, C] to predict, from frames [B, T, H, W, C] and what was seen before."""
        raise TypeError(f"{type(self).__name__} does not define still")


class CopyLast(StillFrame):
    """The last observed frame."""

    predicts_labels = True

    def still(self, context, state):
        return context[:, -1]


class MeanContext(StillFrame):
    """The mean of the observed frames."""

    def still(self, context, state):
        seen = tf.cast(tf.shape(context)[1], tf.float32)
        return (state["frame"] * state["count"] + tf.reduce_sum(context, axis=1)) / (state["count"] + seen)


class Blank(StillFrame):
    """Black."""

    def still(self, context, state):
        return tf.zeros_like(context[:, -1])


class MeanFrame(StillFrame):
    """The mean frame of the training clips.

    Args:
        image_shape: (height, width, channels).
        frame: that mean, float32 [H, W, C] in [0, 1].
    """

    def __init__(self, image_shape, frame):
        super().__init__(image_shape)
        self._frame = tf.constant(np.asarray(frame, np.float32))

    def still(self, context, state):
        return tf.repeat(self._frame[None], tf.shape(context)[0], axis=0)


def trivial_predictors(image_shape, mean_frame=None):
    """{name: model} of the baselines; "mean_frame" only where that frame is given."""
    predictors = {
        "copy_last": CopyLast(image_shape),
        "mean_context": MeanContext(image_shape),
        "blank": Blank(image_shape),
    }
    if mean_frame is not None:
        predictors["mean_frame"] = MeanFrame(image_shape, mean_frame)
    return predictors
