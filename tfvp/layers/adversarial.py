"""Losses of vid2vid (Wang et al. 2018, arXiv 1808.06601), per example: [B] float32 each."""

import tensorflow as tf

from tfvp.layers import vgg

PERCEPTUAL_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


def example_mean(x):
    """The mean over all axes but the first."""
    return tf.reduce_mean(x, axis=list(range(1, x.shape.rank)))


def l1(first, second, mask=None):
    """Mean absolute difference; masked pixels count as 0 and stay in the mean."""
    difference = tf.abs(tf.cast(first, tf.float32) - tf.cast(second, tf.float32))
    return example_mean(difference if mask is None else difference * mask)


def least_squares(outputs, target):
    """LSGAN: the squared distance of a discriminator's logits from `target`, summed over scales.

    Args:
        outputs: from `tfvp.layers.vid2vid.PatchDiscriminator`.
        target: 1.0 for real, 0.0 for fake.
    """
    return tf.add_n([example_mean(tf.square(features[-1] - target)) for features in outputs])


def feature_matching(fake, real, layers=3):
    """Mean absolute differences of a discriminator's features; its logits left out.

    Summed over features, times 4 / (layers + 1), averaged over scales; `real` gets no gradient.
    """
    distances = [
        l1(ours, tf.stop_gradient(theirs))
        for scale, truth in zip(fake, real)
        for ours, theirs in zip(scale[:-1], truth[:-1])
    ]
    return tf.add_n(distances) * (4.0 / (layers + 1)) / len(fake)


def perceptual(fake, real):
    """Weighted absolute differences of VGG16's features of frames [B, n, H, W, 3] in [-1, 1].

    The reference takes VGG19, and feeds it [-1, 1] as it is; of torchvision's weights only
    VGG16's come with a package, so its first convolutions of each block stand in for those.
    """
    found = []
    for video in (fake, tf.stop_gradient(real)):
        flat = tf.reshape(tf.cast(video, tf.float32), [-1, *video.shape[2:]])
        found.append(vgg.features(flat, vgg.layers(), first=True))
    batch = tf.shape(fake)[0]
    distances = [
        weight * example_mean(tf.reshape(tf.abs(ours - tf.stop_gradient(theirs)), [batch, -1]))
        for weight, ours, theirs in zip(PERCEPTUAL_WEIGHTS, *found)
    ]
    return tf.add_n(distances)


def triplet_ends(old, new, spacing):
    """Where the triplets of frames that a temporal discriminator sees end.

    Args:
        old: earlier frames that are still there.
        new: frames after them that were just generated.
        spacing: frames between those of a triplet.

    Returns:
        Indices of the last frames, newest first; every third possible end.
    """
    total = old + new
    count = min(total - 2 * spacing, new)
    return [total - 1 - offset for offset in range(0, count, 3)]


def triplets(frames, flows, ends, spacing, flow_scale):
    """What a temporal discriminator sees: [B, n, H, W, 13].

    Args:
        frames: [B, T, H, W, 3] in [-1, 1].
        flows: [B, T, H, W, 2], of the true frames, to the one `spacing` frames before.
        ends: from `triplet_ends`.
        spacing: frames between those of a triplet.
        flow_scale: pixels per unit of flow.
    """
    parts = [tf.gather(frames, [end - back * spacing for end in ends], axis=1) for back in (2, 1, 0)]
    parts += [tf.gather(flows, [end - back * spacing for end in ends], axis=1) / flow_scale for back in (1, 0)]
    return tf.concat(parts, axis=-1)
