"""The arithmetic that benchmarks report, on operations whose cost is known."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import models


def counted(call):
    with models.counted_operations() as counts:
        call()
    return sum(counts)


def test_convolutions_are_counted_forward_and_backward():
    image, kernel = tf.random.normal([2, 8, 6, 3]), tf.Variable(tf.random.normal([5, 3, 3, 4]))
    forward = 2 * 8 * 6 * 4 * 5 * 3 * 3

    def both():
        with tf.GradientTape() as tape:
            tape.watch(image)
            loss = tf.reduce_sum(tf.nn.conv2d(image, kernel, 1, "SAME"))
        tape.gradient(loss, [image, kernel])

    assert counted(lambda: tf.nn.conv2d(image, kernel, 1, "SAME")) == forward
    assert counted(both) == 3 * forward


@pytest.mark.parametrize("turned", [False, True])
def test_matrix_products_are_counted(turned):
    a, b = tf.zeros([7, 5]), tf.zeros([5, 11])
    assert counted(lambda: tf.matmul(tf.transpose(a) if turned else a, b, transpose_a=turned)) == 7 * 5 * 11
    assert counted(lambda: tf.matmul(tf.zeros([3, 7, 5]), tf.zeros([3, 5, 2]))) == 3 * 7 * 5 * 2


def test_transposed_and_depthwise_convolutions_are_counted():
    image = tf.zeros([2, 4, 4, 6])
    assert (
        counted(lambda: tf.nn.conv2d_transpose(image, tf.zeros([3, 3, 5, 6]), [2, 8, 8, 5], 2))
        == image.shape[0] * 16 * 6 * 9 * 5
    )
    assert (
        counted(lambda: tf.nn.depthwise_conv2d(image, tf.zeros([3, 3, 6, 1]), [1, 1, 1, 1], "SAME"))
        == int(np.prod(image.shape)) * 9
    )


def test_the_rates_of_the_machine_are_rates():
    assert all(rate > 0 for rate in models.limits().values())
