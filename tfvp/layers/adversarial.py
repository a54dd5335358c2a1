"""Losses of vid2vid (Wang et al. 2018, arXiv 1808.06601), per example: [B] float32 each.

`tfvp.models.vid2vid` says what the symbols mean, and adds the losses up.
"""

import tensorflow as tf

from tfvp import compat
from tfvp.layers import convolution, vgg

PERCEPTUAL_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
CONFIDENCE_ERROR = 0.02  # squared error over RGB in [-1, 1] below which the reference flow of a pixel counts


def example_mean(x):
    """The mean over all axes but the first."""
    return tf.reduce_mean(x, axis=list(range(1, x.shape.rank)))


def l1(first, second, mask=None):
    """Mean over all pixels and channels of |mask * (first - second)|: masked pixels count as 0, and count."""
    difference = tf.abs(tf.cast(first, tf.float32) - tf.cast(second, tf.float32))
    return example_mean(difference if mask is None else difference * mask)


def warped(frames, flows):
    """`tfvp.compat.warp` of every frame [B, n, H, W, C] by its flow [B, n, H, W, 2]."""
    result = compat.warp(*(tf.reshape(x, [-1, *x.shape[2:]]) for x in (frames, flows)))
    return tf.reshape(result, tf.shape(frames))


def confidence(frames, before, flows):
    """c_t: 1 where a reference flow brings the frame before to within an error of 0.02, else 0.

    Args:
        frames: x_t, [B, n, H, W, 3] in [-1, 1].
        before: x_{t-1}, likewise.
        flows: w_t, [B, n, H, W, 2] in pixels.

    Returns:
        [B, n, H, W, 1] float32.
    """
    error = tf.reduce_sum(tf.square(frames - warped(before, flows)), axis=-1, keepdims=True)
    return tf.cast(error < CONFIDENCE_ERROR, tf.float32)


def least_squares(outputs, target):
    """LSGAN (Mao et al. 2017, arXiv 1611.04076): mean (D - target)^2 over patches, summed over scales.

    Args:
        outputs: from `tfvp.layers.vid2vid.PatchDiscriminator`.
        target: 1.0 for real, 0.0 for fake.
    """
    return tf.add_n([example_mean(tf.square(features[-1] - target)) for features in outputs])


def feature_matching(fake, real, layers=3):
    """4 / (layers + 1) times the sum over features i of mean |D_i(fake) - D_i(real)|, averaged over scales.

    Called G_GAN_Feat and G_T_GAN_Feat in the authors' code. All features of a discriminator count except its
    logits; `real` gets no gradient.

    Args:
        fake, real: from `tfvp.layers.vid2vid.PatchDiscriminator`.
        layers: strided convolutions of the discriminator.
    """
    distances = [
        l1(ours, tf.stop_gradient(theirs))
        for scale, truth in zip(fake, real)
        for ours, theirs in zip(scale[:-1], truth[:-1])
    ]
    return tf.add_n(distances) * (4.0 / (layers + 1)) / len(fake)


def perceptual(fake, real):
    """The sum over i of weight_i * mean |VGG_i(fake) - VGG_i(real)|, of frames [B, n, H, W, 3] in [-1, 1].

    Called G_VGG in the authors' code, which takes VGG19 and feeds it [-1, 1] as it is. Of torchvision's weights
    only VGG16's come with a package, so the first convolutions of its five blocks stand in for VGG19's.
    """
    features = []
    for video in (fake, tf.stop_gradient(real)):
        frames = tf.reshape(tf.cast(video, tf.float32), [-1, *video.shape[2:]])
        features.append(vgg.features(frames, vgg.layers(), first=True, convolve=convolution.same))
    batch = tf.shape(fake)[0]
    distances = [
        weight * example_mean(tf.reshape(tf.abs(ours - tf.stop_gradient(theirs)), [batch, -1]))
        for weight, ours, theirs in zip(PERCEPTUAL_WEIGHTS, *features)
    ]
    return tf.add_n(distances)


def logits_of(discriminator, videos):
    """A discriminator's outputs for each of several videos, in one pass: its norm keeps examples apart."""
    outputs = discriminator(tf.concat(videos, axis=0))
    parts = [[tf.split(feature, len(videos), axis=0) for feature in scale] for scale in outputs]
    return [[[feature[n] for feature in scale] for scale in parts] for n in range(len(videos))]


def triplet_ends(earlier, new, spacing):
    """Where the triplets of frames that a temporal discriminator sees end.

    Args:
        earlier: frames of earlier chunks that are still there.
        new: frames after them that were just generated.
        spacing: frames between those of a triplet.

    Returns:
        Indices of the last frames, newest first; every third possible end.
    """
    total = earlier + new
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
