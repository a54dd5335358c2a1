"""LPIPS, version 0.1: distances between deep features (Zhang et al. 2018, arXiv 1801.03924).

The trunks are torchvision's, the linear heads the authors'; Keras's own VGG16 is a different
network and gives other numbers. Grey frames are repeated to three channels. Frames have 1 or 3
channels and at least 31 (AlexNet), 16 (VGG16) or 17 (SqueezeNet) pixels in height and width.
"""

import functools

import numpy as np
import tensorflow as tf

from tfvp import weights
from tfvp.errors import UserError
from tfvp.layers import vgg
from tfvp.metrics.base import VideoMetric
from tfvp.registry import register

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SQUEEZE_TAPS = (0, 4, 7, 9, 10, 11, 12)  # layers after which features are taken; a pool precedes 3, 6 and 9


def alex_features(x, layers):
    """Activations of torchvision's AlexNet after its five ReLUs."""
    taps = []
    for i, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))):
        if i in (1, 2):
            x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        x = tf.pad(x, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
        x = tf.nn.relu(tf.nn.conv2d(x, layers[i][0], stride, "VALID") + layers[i][1])
        taps.append(x)
    return taps


def squeeze_features(x, layers):
    """Activations of torchvision's SqueezeNet 1.1 at the seven places that LPIPS uses."""

    def pool(x):
        height, width = x.shape[1:3]
        # Ceil mode: the last window may hang over the border, where it sees minus infinity.
        pad = [[0, 0]] + [[0, (2 * -(-(side - 3) // 2) + 3) - side] for side in (height, width)] + [[0, 0]]
        return tf.nn.max_pool2d(tf.pad(x, pad, constant_values=-np.inf), 3, 2, "VALID")

    def fire(x, squeeze, narrow, wide):
        x = tf.nn.relu(tf.nn.conv2d(x, squeeze[0], 1, "VALID") + squeeze[1])
        expanded = [tf.nn.conv2d(x, kernel, 1, "SAME") + bias for kernel, bias in (narrow, wide)]
        return tf.nn.relu(tf.concat(expanded, axis=-1))

    x = tf.nn.relu(tf.nn.conv2d(x, layers["0"][0], 2, "VALID") + layers["0"][1])
    taps = [x]
    for number in (3, 4, 6, 7, 9, 10, 11, 12):
        if number in (3, 6, 9):
            x = pool(x)
        x = fire(x, *(layers[f"{number}.{part}"] for part in ("squeeze", "expand1x1", "expand3x3")))
        if number in SQUEEZE_TAPS:
            taps.append(x)
    return taps


# The smallest frames for which no pool is left without a window. AlexNet: the last pool takes 3
# pixels, so the pool before it 7, and the first convolution (11 pixels, stride 4, padding 2)
# makes 7 of 31. VGG16: four halvings. SqueezeNet: its pools take 2 pixels, as the last window
# may hang over the border, so the pools before them 4 and 8, and the first convolution
# (3 pixels, stride 2) makes 8 of 17.
SMALLEST_SIDES = {"lpips_alex": 31, "lpips_vgg": 16, "lpips_squeeze": 17}
NETWORKS = {
    "lpips_alex": ("AlexNet_0", 5, alex_features),
    "lpips_vgg": ("VGG16_0", 13, vgg.features),
    "lpips_squeeze": (None, 8, squeeze_features),
}


@functools.lru_cache(maxsize=len(NETWORKS))
def network(name):
    """The features of a trunk and its linear heads: (function [N, H, W, 3] -> list of activations, heads).

    Raises:
        UserError: its weights are missing or wrong.
    """
    trunk, count, features = NETWORKS[name]
    loaded = weights.load(name)
    try:
        if trunk is None:
            parts = {key.rsplit("/", 1)[0] for key in loaded if "/" in key}
            layers = {part: (loaded[f"{part}/kernel"], loaded[f"{part}/bias"]) for part in parts}
            heads = [loaded[f"lin{i}"].reshape(-1) for i in range(len(SQUEEZE_TAPS))]
        else:
            names = [f"{trunk}/Conv_{i}" for i in range(count)]
            layers = [(loaded[f"{name}/kernel"], loaded[f"{name}/bias"]) for name in names]
            heads = [loaded[f"NetLinLayer_{i}/Conv_0/kernel"].reshape(-1) for i in range(5)]
    except KeyError as error:
        raise UserError(f"{weights.find(name)} does not hold the weights of {name}: {error} is missing") from None
    with tf.init_scope():
        layers = tf.nest.map_structure(lambda w: tf.constant(w, tf.float32), layers)
        heads = [tf.constant(head, tf.float32) for head in heads]
    return functools.partial(features, layers=layers), heads


def distance(name, first, second, per_layer=False):
    """LPIPS between images.

    Args:
        name: "lpips_alex", "lpips_vgg" or "lpips_squeeze".
        first, second: [N, H, W, 1 or 3] float32 in [0, 1].
        per_layer: return the layers' shares, [N, layers].

    Returns:
        [N] float32.

    Raises:
        UserError: the weights are missing or wrong.
    """
    features, heads = network(name)
    normalised = []
    for images in (first, second):
        images = tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
        activations = features((2.0 * images - 1.0 - SHIFT) / SCALE)
        normalised.append([m / (tf.norm(m, axis=-1, keepdims=True) + 1e-10) for m in activations])
    shares = tf.stack(
        [
            tf.reduce_mean(tf.reduce_sum(tf.square(a - b) * head, axis=-1), axis=[1, 2])
            for a, b, head in zip(*normalised, heads)
        ],
        axis=1,
    )
    return shares if per_layer else tf.reduce_sum(shares, axis=1)


class _LPIPS(VideoMetric):
    higher_is_better = False
    channels = (1, 3)
    clip = True

    def per_frame(self, true, pred):
        pred = tf.clip_by_value(pred, 0.0, 1.0) if self.clip else pred
        # One clip at a time bounds the memory that features take.
        return tf.map_fn(
            lambda pair: distance(self.needs_weights[0], *pair), (true, pred), fn_output_signature=tf.float32
        )


@register("metric", "lpips")
class AlexLPIPS(_LPIPS):
    """LPIPS with AlexNet: the one that papers report."""

    convention = "LPIPS v0.1, AlexNet, linear heads, native size; prediction clipped to [0, 1], then mapped to [-1, 1]"
    needs_weights = ("lpips_alex",)
    smallest_side = SMALLEST_SIDES["lpips_alex"]


@register("metric", "lpips_unclipped")
class UnclippedLPIPS(_LPIPS):
    """LPIPS with AlexNet of predictions as the model gave them (HTSR)."""

    convention = "LPIPS v0.1, AlexNet, linear heads, native size; prediction not clipped, mapped from [0, 1] to [-1, 1]"
    needs_weights = ("lpips_alex",)
    smallest_side = SMALLEST_SIDES["lpips_alex"]
    clip = False


@register("metric", "lpips_vgg")
class VGGLPIPS(_LPIPS):
    """LPIPS with VGG16."""

    convention = "LPIPS v0.1, VGG16, linear heads, native size; prediction clipped to [0, 1], then mapped to [-1, 1]"
    needs_weights = ("lpips_vgg",)
    smallest_side = SMALLEST_SIDES["lpips_vgg"]


@register("metric", "lpips_squeeze")
class SqueezeLPIPS(_LPIPS):
    """LPIPS with SqueezeNet 1.1."""

    convention = (
        "LPIPS v0.1, SqueezeNet 1.1, linear heads, native size; prediction clipped to [0, 1], then mapped to [-1, 1]"
    )
    needs_weights = ("lpips_squeeze",)
    smallest_side = SMALLEST_SIDES["lpips_squeeze"]
