"""Functions of single images, applied to every frame of a video."""

import tensorflow as tf


def sizes(x):
    """The sizes of a tensor: integers where they are known while tracing, scalar tensors elsewhere."""
    return [known if known is not None else tf.shape(x)[axis] for axis, known in enumerate(x.shape)]


def per_frame(function, video):
    """`function` of images [B * T, ...], for a video [B, T, ...] whose sizes after T are known: [B, T, ...]."""
    result = function(tf.reshape(video, [-1, *video.shape[2:]]))
    return tf.reshape(result, [*sizes(video)[:2], *result.shape[1:]])
