"""torchvision's VGG16 as a fixed network of features, where its weights are installed (see `tfvp.weights`)."""

import functools

import tensorflow as tf

from tfvp import weights
from tfvp.errors import UserError
from tfvp.layers import convolution

BLOCKS = (2, 2, 3, 3, 3)
WEIGHTS = "lpips_vgg"  # the file that also holds LPIPS's heads


def features(x, layers, first=False, convolve=convolution.direct):
    """Activations of the five blocks.

    Args:
        x: [N, H, W, 3] float32, as the caller has normalised it.
        layers: 13 pairs of a kernel and a bias.
        first: those of the first convolution of each block, instead of the last.
        convolve: `convolution.direct`, as metrics need it, or `convolution.same`, which is quicker in training.

    Returns:
        A list of five tensors.
    """
    taps, position = [], 0
    for block, count in enumerate(BLOCKS):
        if block:
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        for number, (kernel, bias) in enumerate(layers[position : position + count]):
            x = tf.nn.relu(convolve(x, kernel) + bias)
            if number == (0 if first else count - 1):
                taps.append(x)
        position += count
    return taps


@functools.lru_cache(maxsize=1)
def layers():
    """The weights that `features` takes.

    Raises:
        UserError: they are missing or wrong.
    """
    loaded = weights.load(WEIGHTS)
    try:
        names = [f"VGG16_0/Conv_{i}" for i in range(sum(BLOCKS))]
        pairs = [(loaded[f"{name}/kernel"], loaded[f"{name}/bias"]) for name in names]
    except KeyError as error:
        raise UserError(f"{weights.find(WEIGHTS)} does not hold VGG16: {error} is missing") from None
    with tf.init_scope():
        return tf.nest.map_structure(lambda w: tf.constant(w, tf.float32), pairs)
