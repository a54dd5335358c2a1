"""How much time does Winograd's algorithm save, and how exact is it? `tfvp benchmark convolutions`

Feature maps and kernels have the shapes of the published models' convolutions. Each is computed by TensorFlow's own
convolution and by `tfvp.layers.winograd`, in turns in one process, alone and with both gradients.
"""

import time

import numpy as np
import tensorflow as tf

from tfvp.layers import winograd
from tfvp.layers.convolution import direct

from . import choice

CASES = [  # name, images [N, H, W, C], filters, side of the kernel
    ("ConvLSTM-S", (4, 16, 16, 128), 512, 5),
    ("ConvLSTM-S, one clip", (1, 16, 16, 128), 512, 5),
    ("notebook, 1st layer", (8, 32, 32, 64), 256, 5),
    ("notebook, 2nd layer", (8, 32, 32, 64), 256, 3),
    ("SimVP, 64 pixels", (40, 64, 64, 64), 64, 3),
    ("SimVP, 32 pixels", (40, 32, 32, 64), 64, 3),
    ("SimVP, before its last shuffle", (40, 32, 32, 64), 256, 3),
    ("SVG vgg, 16 pixels", (16, 16, 16, 256), 256, 3),
    ("SVG vgg, 8 pixels", (16, 8, 8, 512), 512, 3),
]


def ours(images, kernel):
    return winograd.conv2d(images, winograd.transformed(kernel))


def with_gradients(function):
    def call(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            outputs = function(images, kernel)
        return tape.gradient(outputs, [images, kernel], outputs)

    return call


def in_turns(functions, inputs, rounds):
    """Seconds of each function in each round: [functions, rounds]."""
    compiled = [tf.function(function, autograph=False) for function in functions]
    for function in compiled:
        function(*inputs)
    seconds = np.zeros((len(compiled), rounds))
    for turn in range(rounds):
        for n, function in enumerate(compiled):
            began = time.perf_counter()
            function(*inputs)
            seconds[n, turn] = time.perf_counter() - began
    return seconds


def error(images, kernel):
    """Largest errors of `direct` and of `ours` for the first image, in standard deviations of the outputs."""
    exact = direct(tf.cast(images[:1], tf.float64), tf.cast(kernel, tf.float64)).numpy()
    return [np.abs(f(images, kernel)[:1].numpy() - exact).max() / exact.std() for f in (direct, ours)]


def run(options):
    print("ms, median of each; ratio of the same round, median; errors as parts of the outputs' standard deviation")
    print(f"{'':32}{'forward':>27}{'with gradients':>27}{'error':>18}")
    print(f"{'':32}" + 2 * f"{'direct':>10}{'ours':>9}{'ratio':>8}" + f"{'direct':>9}{'ours':>9}")
    for name, shape, filters, side in choice.chosen(CASES, options.only, lambda case: case[0]):
        images = tf.random.stateless_normal(shape, [0, 1])
        kernel = tf.random.stateless_normal([side, side, shape[-1], filters], [0, 2]) / side / shape[-1] ** 0.5
        line = f"{name:32}"
        for functions in ((direct, ours), (with_gradients(direct), with_gradients(ours))):
            seconds = in_turns(functions, (images, kernel), options.rounds)
            a, b = 1e3 * np.median(seconds, axis=1)
            line += f"{a:10.1f}{b:9.1f}{np.median(seconds[0] / seconds[1]):8.2f}"
        print(line + "".join(f"{e:9.0e}" for e in error(images, kernel)), flush=True)
