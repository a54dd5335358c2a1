"""Frames that carry a label map: RGB in [0, 1], and as a fourth channel the class number over 255.

So packed, label maps go wherever frames go (bytes, rollouts, SavedModels) and come out exact:
255 times the channel, rounded, is the class.
"""

import tensorflow as tf

CHANNELS = 4
UNSEEN = 0.5  # the colour of a class that has not been observed


def pack(video, labels):
    """Frames [..., 3] in [0, 1] and classes [...] as frames [..., 4], float32."""
    return tf.concat([tf.cast(video, tf.float32), tf.cast(labels, tf.float32)[..., None] / 255.0], axis=-1)


def labels_of(frames, classes=256):
    """Classes int32 [...] of frames [..., 4]; numbers beyond the last class become the last class."""
    numbers = tf.cast(tf.round(tf.cast(frames[..., 3], tf.float32) * 255.0), tf.int32)
    return tf.clip_by_value(numbers, 0, classes - 1)


def rgb_of(frames):
    """Colours float32 [..., 3] of frames [..., 4]."""
    return tf.cast(frames[..., :3], tf.float32)


def class_colours(frames, classes, earlier=None):
    """The mean colour of each class in the last of the frames that shows it.

    Args:
        frames: [B, T, H, W, 4].
        classes: K.
        earlier: what this returned for the frames before, or None.

    Returns:
        [B, K, 3] float32; grey for classes that no frame has shown.
    """
    one_hot = tf.one_hot(labels_of(frames, classes), classes)
    counts = tf.reduce_sum(one_hot, axis=[2, 3])
    means = tf.einsum("bthwk,bthwc->btkc", one_hot, rgb_of(frames)) / tf.maximum(counts, 1.0)[..., None]
    times = tf.range(tf.shape(frames)[1])[None, :, None]
    latest = tf.reduce_max(tf.where(counts > 0, times, -1), axis=1)
    newest = tf.gather(tf.transpose(means, [0, 2, 1, 3]), tf.maximum(latest, 0), axis=2, batch_dims=2)
    if earlier is None:
        earlier = tf.fill(tf.shape(newest), UNSEEN)
    return tf.where(latest[..., None] >= 0, newest, earlier)


def colorize(labels, colours):
    """Frames [B, ..., H, W, 4] of classes [B, ..., H, W], each class in its colour [B, K, 3]."""
    return pack(tf.gather(colours, labels, axis=1, batch_dims=1), labels)
