"""Frames as grids of patches: channel (py * p + px) * C + c, the order of `tf.nn.space_to_depth`."""

import tensorflow as tf


def to_patches(video, size):
    """[..., H, W, C] -> [..., H / size, W / size, size * size * C]."""
    return _per_frame(lambda frames: tf.nn.space_to_depth(frames, size), video) if size > 1 else video


def from_patches(patches, size):
    """The inverse of `to_patches`."""
    return _per_frame(lambda frames: tf.nn.depth_to_space(frames, size), patches) if size > 1 else patches


def _per_frame(function, video):
    leading = tf.shape(video)[:-3]
    frames = function(tf.reshape(video, tf.concat([[-1], tf.shape(video)[-3:]], 0)))
    frames.set_shape([None, *function(tf.zeros([1, *video.shape[-3:]], video.dtype)).shape[1:]])
    result = tf.reshape(frames, tf.concat([leading, tf.shape(frames)[1:]], 0))
    result.set_shape([*video.shape[:-3], *frames.shape[1:]])
    return result
