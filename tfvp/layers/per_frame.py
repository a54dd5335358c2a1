"""Functions of single images, applied to every frame of a video."""

import tensorflow as tf


def per_frame(function, video):
    """`function` of images [B * T, ...], for a video [B, T, ...] whose sizes after T are known: [B, T, ...]."""
    lead = [known if known is not None else tf.shape(video)[axis] for axis, known in enumerate(video.shape[:2])]
    result = function(tf.reshape(video, [-1, *video.shape[2:]]))
    return tf.reshape(result, [*lead, *result.shape[1:]])
