"""Batch norm per time step: values, gradients and running statistics of one call against one call per frame."""

import numpy as np
import pytest
import tensorflow as tf

from tfvp.layers import timed_norm
from tfvp.training import strategies

SHAPE = (3, 4, 2, 5, 6)  # B, T, h, w, c


@pytest.fixture
def video():
    return tf.constant(np.random.default_rng(0).normal(1.0, 2.0, SHAPE).astype(np.float32))


def layer():
    made = timed_norm.TimedBatchNorm()
    made.build((None, None, None, None, SHAPE[-1]))
    made.gamma.assign(np.linspace(0.5, 2.0, SHAPE[-1]))
    made.beta.assign(np.linspace(-1.0, 1.0, SHAPE[-1]))
    return made


def statistics(made):
    return np.stack([np.array(made.moving_mean), np.array(made.moving_variance)])


def test_one_call_is_one_call_per_frame(video):
    whole, framewise = layer(), layer()
    found = whole(video, mode="train")
    frames = [framewise(video[:, t : t + 1], mode="train") for t in range(SHAPE[1])]
    np.testing.assert_allclose(found, tf.concat(frames, axis=1), atol=1e-5)
    expected = statistics(layer())
    for t in range(SHAPE[1]):
        frame = np.asarray(video)[:, t].reshape(-1, SHAPE[-1])
        expected = 0.9 * expected + 0.1 * np.stack([frame.mean(axis=0), frame.var(axis=0, ddof=1)])
    np.testing.assert_allclose(statistics(whole), expected, atol=1e-5)
    np.testing.assert_allclose(statistics(whole), statistics(framewise), atol=1e-6)
    assert np.abs(statistics(whole) - statistics(layer())).min() > 1e-4  # they moved


def test_values_and_gradients_are_those_of_the_definition(video):
    made, weights = layer(), tf.constant(np.random.default_rng(1).normal(size=SHAPE).astype(np.float32))

    def defined(x, gamma, beta):
        mean, variance = tf.nn.moments(x, axes=[0, 2, 3], keepdims=True)
        return gamma * (x - mean) / tf.sqrt(variance + timed_norm.EPSILON) + beta

    results = []
    for function in (lambda x, *_: made(x, mode="batch"), defined):
        parameters = [tf.convert_to_tensor(made.gamma), tf.convert_to_tensor(made.beta)]
        with tf.GradientTape() as tape:
            tape.watch([video, *parameters])
            y = function(video, *parameters)
            loss = tf.reduce_sum(y * weights)
        sources = [video, *(made.trainable_variables if function is not defined else parameters)]
        results.append([y, *tape.gradient(loss, sources)])
    for found, expected in zip(*results):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_two_replicas_compute_what_one_does(video):
    video = tf.concat([video, video[:1]], axis=0)
    weights = tf.random.stateless_normal(video.shape, [1, 2])

    def value_and_gradients(norm, x, weights):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = norm(x, mode="train")
            loss = tf.reduce_sum(y * weights)
        return y, *tape.gradient(loss, [x, *norm.trainable_variables])

    one = layer()
    expected = value_and_gradients(one, video, weights)
    strategy = strategies.make_strategy(2)
    with strategy.scope():
        two = layer()
    halves = [
        strategy.experimental_distribute_values_from_function(
            lambda context, x=x: x[2 * context.replica_id_in_sync_group :][:2]
        )
        for x in (video, weights)
    ]
    parts = tf.function(lambda *x: strategy.run(value_and_gradients, (two, *x)))(*halves)
    y, to_x, to_gamma, to_beta = (strategy.experimental_local_results(part) for part in parts)
    np.testing.assert_allclose(tf.concat(y, axis=0), expected[0], atol=1e-5)
    np.testing.assert_allclose(sum(to_gamma), expected[2], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sum(to_beta), expected[3], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tf.concat(to_x, axis=0), expected[1], atol=1e-4)
    np.testing.assert_allclose(statistics(two), statistics(one), atol=1e-5)


def test_running_statistics_are_used_and_kept(video):
    made = layer()
    made.moving_mean.assign(np.arange(SHAPE[-1], dtype=np.float32))
    made.moving_variance.assign(np.arange(1, SHAPE[-1] + 1, dtype=np.float32))
    before = statistics(made)
    gamma, beta = np.array(made.gamma), np.array(made.beta)
    expected = gamma * (video - before[0]) / np.sqrt(before[1] + timed_norm.EPSILON) + beta
    traced = tf.function(lambda x: made(x, mode="running"), input_signature=[tf.TensorSpec([None, None, *SHAPE[2:]])])
    np.testing.assert_allclose(traced(video), expected, atol=1e-5)
    np.testing.assert_array_equal(statistics(made), before)
