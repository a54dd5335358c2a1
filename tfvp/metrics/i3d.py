"""The inflated 3D Inception network of Carreira and Zisserman 2017 (arXiv 1705.07750), with RGB weights.

Its logits on Kinetics-400 are the features of FVD. Padding is TensorFlow's "same" throughout.
"""

import functools

import tensorflow as tf

from tfvp import weights

EPSILON = 1e-3  # of batch norm
SIDE = 224  # pixels that the network sees
BLOCKS = (
    ("Mixed_3b", "Mixed_3c"),
    ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"),
    ("Mixed_5b", "Mixed_5c"),
)


@functools.lru_cache(maxsize=1)
def parameters():
    """(parameters, batch statistics): nested dicts of constants, read and checked once.

    Raises:
        UserError: the weights are missing or not the known ones.
    """
    loaded = weights.load("i3d")
    return loaded["params"], loaded["batch_stats"]


def logits(video):
    """Logits of I3D, averaged over time.

    Args:
        video: float32 [B, T, H, W, 1 or 3] in [0, 1], T at least 9; grey is repeated.

    Returns:
        float32 [B, 400].
    """
    if video.shape[-1] == 1:
        video = tf.repeat(video, 3, axis=-1)
    # Clip by clip: the first activations take 50 times the memory of the clip at 224 x 224.
    return tf.map_fn(
        _logits_of_clip, video, fn_output_signature=tf.TensorSpec([400], tf.float32), parallel_iterations=1
    )


def resized(video):
    """[..., T, H, W, 3] in [0, 1] as the network takes it: 224 x 224, bilinear, in [-1, 1]."""
    lead = tf.shape(video)[:-3]
    flat = tf.reshape(video, tf.concat([[-1], tf.shape(video)[-3:]], 0))
    flat = tf.image.resize(flat, [SIDE, SIDE], "bilinear", antialias=False)
    return 2.0 * tf.reshape(flat, tf.concat([lead, [SIDE, SIDE, 3]], 0)) - 1.0


def _logits_of_clip(clip):
    params, statistics = parameters()
    x = resized(clip)[None]
    x = _unit(x, params["Conv3d_1a_7x7"], statistics["Conv3d_1a_7x7"], stride=2)
    x = tf.nn.max_pool3d(x, (1, 3, 3), (1, 2, 2), "SAME")
    for name in ("Conv3d_2b_1x1", "Conv3d_2c_3x3"):
        x = _unit(x, params[name], statistics[name])
    for names, window, stride in zip(BLOCKS, ((1, 3, 3), (3, 3, 3), (2, 2, 2)), ((1, 2, 2), (2, 2, 2), (2, 2, 2))):
        x = tf.nn.max_pool3d(x, window, stride, "SAME")
        for name in names:
            x = _mixed(x, params[name], statistics[name])
    x = tf.nn.avg_pool3d(x, (2, 7, 7), 1, "VALID")
    last = params["Logits/Conv3d_0c_1x1"]["Conv_0"]
    x = tf.nn.conv3d(x, last["kernel"], [1] * 5, "SAME") + last["bias"]
    return tf.reduce_mean(x, axis=[1, 2, 3])[0]


def _mixed(x, params, statistics):
    """An Inception block: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | pool, 1x1x1, concatenated."""
    branches = []
    for number in range(4):
        y = tf.nn.max_pool3d(x, 3, 1, "SAME") if number == 3 else x
        for name in sorted(name for name in params if name.startswith(f"Branch_{number}/")):
            y = _unit(y, params[name], statistics[name])
        branches.append(y)
    return tf.concat(branches, axis=-1)


def _unit(x, params, statistics, stride=1):
    """Convolution without bias, batch norm without scale, ReLU."""
    x = tf.nn.conv3d(x, params["Conv_0"]["kernel"], [1, stride, stride, stride, 1], "SAME")
    moments = statistics["BatchNorm_0"]
    return tf.nn.relu((x - moments["mean"]) * tf.math.rsqrt(moments["var"] + EPSILON) + params["BatchNorm_0"]["bias"])
