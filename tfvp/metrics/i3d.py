"""The inflated 3D Inception network of Carreira and Zisserman 2017 (arXiv 1705.07750), with RGB weights.

Its logits on Kinetics-400 are the features of FVD. Padding is TensorFlow's "same" throughout.
"""

import functools

import tensorflow as tf

from tfvp import weights
from tfvp.errors import UserError

EPSILON = 1e-3  # of batch norm
SIDE = 224  # pixels that the network sees
BLOCKS = (
    ("Mixed_3b", "Mixed_3c"),
    ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"),
    ("Mixed_5b", "Mixed_5c"),
)


@functools.lru_cache(maxsize=1)
def parameters():
    """(parameters, batch statistics): {name: tensor} each, read and checked once.

    Raises:
        UserError: the weights are missing or wrong.
    """
    loaded = weights.load("i3d")
    if "params/Logits/Conv3d_0c_1x1/Conv_0/kernel" not in loaded:
        raise UserError(f"{weights.find('i3d')} does not hold the weights of I3D")
    with tf.init_scope():  # graphs share these tensors, where each would embed 50 MB of arrays
        tensors = {name: tf.constant(value, tf.float32) for name, value in loaded.items()}
    return weights.below(tensors, "params"), weights.below(tensors, "batch_stats")


@functools.lru_cache(maxsize=2)
def graph(half_pixel_centers=False):
    """`logits` as one graph for RGB videos of any size, traced once for all metrics and predictors."""
    signature = [tf.TensorSpec([None, None, None, None, 3], tf.float32)]
    return tf.function(functools.partial(logits, half_pixel_centers=half_pixel_centers), input_signature=signature)


def logits(video, half_pixel_centers=False):
    """Logits of I3D, averaged over time.

    Args:
        video: float32 [B, T, H, W, 1 or 3] in [0, 1], T at least 9; grey is repeated.
        half_pixel_centers: as in `resized`.

    Returns:
        float32 [B, 400].
    """
    # Clip by clip: the first activations take 50 times the memory of the clip at 224 x 224.
    return tf.map_fn(
        lambda clip: _logits_of_clip(clip, half_pixel_centers),
        as_rgb(video),
        fn_output_signature=tf.TensorSpec([400], tf.float32),
        parallel_iterations=1,
    )


def as_rgb(video):
    """[..., 1 or 3] with three channels; grey is repeated."""
    return tf.repeat(video, 3, axis=-1) if video.shape[-1] == 1 else video


def resized(video, half_pixel_centers=False):
    """Frames as the network takes them.

    Args:
        video: float32 [..., T, H, W, 3] in [0, 1].
        half_pixel_centers: whether pixel i covers i ... i + 1, as in `tf.image.resize`. FVD's
            reference code calls TensorFlow 1's `resize_bilinear`, which samples at i * H / 224.

    Returns:
        float32 [..., T, 224, 224, 3] in [-1, 1], resized bilinearly without antialiasing.
    """
    lead = tf.shape(video)[:-3]
    flat = tf.reshape(video, tf.concat([[-1], tf.shape(video)[-3:]], 0))
    flat = tf.raw_ops.ResizeBilinear(images=flat, size=[SIDE, SIDE], half_pixel_centers=half_pixel_centers)
    return 2.0 * tf.reshape(flat, tf.concat([lead, [SIDE, SIDE, 3]], 0)) - 1.0


def _logits_of_clip(clip, half_pixel_centers):
    params, statistics = parameters()
    x = resized(clip, half_pixel_centers)[None]
    x = _unit(x, "Conv3d_1a_7x7", params, statistics, stride=2)
    x = tf.nn.max_pool3d(x, (1, 3, 3), (1, 2, 2), "SAME")
    for name in ("Conv3d_2b_1x1", "Conv3d_2c_3x3"):
        x = _unit(x, name, params, statistics)
    for names, window, stride in zip(BLOCKS, ((1, 3, 3), (3, 3, 3), (2, 2, 2)), ((1, 2, 2), (2, 2, 2), (2, 2, 2))):
        x = tf.nn.max_pool3d(x, window, stride, "SAME")
        for name in names:
            x = _mixed(x, weights.below(params, name), weights.below(statistics, name))
    x = tf.nn.avg_pool3d(x, (2, 7, 7), 1, "VALID")
    last = weights.below(params, "Logits/Conv3d_0c_1x1/Conv_0")
    x = tf.nn.conv3d(x, last["kernel"], [1] * 5, "SAME") + last["bias"]
    return tf.reduce_mean(x, axis=[1, 2, 3])[0]


def _mixed(x, params, statistics):
    """An Inception block: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | pool, 1x1x1, concatenated."""
    units = sorted({key.rsplit("/", 2)[0] for key in params})
    branches = []
    for number in range(4):
        y = tf.nn.max_pool3d(x, 3, 1, "SAME") if number == 3 else x
        for name in (name for name in units if name.startswith(f"Branch_{number}/")):
            y = _unit(y, name, params, statistics)
        branches.append(y)
    return tf.concat(branches, axis=-1)


def _unit(x, name, params, statistics, stride=1):
    """Convolution without bias, batch norm without scale, ReLU."""
    x = tf.nn.conv3d(x, params[f"{name}/Conv_0/kernel"], [1, stride, stride, stride, 1], "SAME")
    mean, variance = (statistics[f"{name}/BatchNorm_0/{part}"] for part in ("mean", "var"))
    return tf.nn.relu((x - mean) * tf.math.rsqrt(variance + EPSILON) + params[f"{name}/BatchNorm_0/bias"])
