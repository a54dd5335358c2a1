"""Losses of the image generator on values that can be worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfvp.layers import adversarial


def test_temporal_triplets_are_the_published_ones():
    frames = lambda old, new, spacing: [  # noqa: E731
        [end - 2 * spacing, end - spacing, end] for end in adversarial.triplet_ends(old, new, spacing)
    ]
    assert frames(0, 10, 1) == [[7, 8, 9], [4, 5, 6], [1, 2, 3]]
    assert frames(0, 10, 3) == [[3, 6, 9], [0, 3, 6]]
    assert frames(0, 6, 3) == []  # the first chunk on Cityscapes has none
    assert frames(6, 10, 3) == [[9, 12, 15], [6, 9, 12], [3, 6, 9], [0, 3, 6]]


def test_triplets_hold_their_frames_and_flows():
    numbers = tf.range(10, dtype=tf.float32)[None, :, None, None, None]
    frames, flows = tf.tile(numbers, [1, 1, 2, 2, 3]), tf.tile(20 * numbers, [1, 1, 2, 2, 2])
    seen = adversarial.triplets(frames, flows, adversarial.triplet_ends(0, 10, 3), 3, 20.0)
    assert seen.shape == (1, 2, 2, 2, 13)
    np.testing.assert_array_equal(seen[0, 0, 0, 0], [3] * 3 + [6] * 3 + [9] * 3 + [6] * 2 + [9] * 2)


def test_masked_pixels_stay_in_the_mean():
    ones, mask = tf.ones([2, 1, 4, 4, 3]), tf.concat([tf.ones([2, 1, 1, 4, 1]), tf.zeros([2, 1, 3, 4, 1])], axis=2)
    np.testing.assert_allclose(adversarial.l1(3 * ones, ones, mask), [0.5, 0.5])
    np.testing.assert_allclose(adversarial.l1(3 * ones, ones), [2.0, 2.0])


def test_adversarial_terms():
    scale = [tf.fill([2, 1, 3, 3, 1], v) for v in (1.0, 2.0, 3.0, 4.0, 0.25)]
    real = [tf.fill([2, 1, 3, 3, 1], v) for v in (1.5, 2.5, 3.5, 4.5, 9.0)]
    np.testing.assert_allclose(adversarial.least_squares([scale], 1.0), [0.5625] * 2)
    np.testing.assert_allclose(adversarial.least_squares([scale, scale], 0.0), [0.125] * 2)
    np.testing.assert_allclose(adversarial.feature_matching([scale], [real]), [2.0] * 2)  # the logits is left out
    np.testing.assert_allclose(adversarial.feature_matching([scale] * 2, [real] * 2), [2.0] * 2)


def test_perceptual_loss_weighs_deep_layers_most(monkeypatch):
    made = []

    def features(x, layers, first=False):
        assert first
        made.append(x)
        return [x * (n + 1) for n in range(5)]

    monkeypatch.setattr(adversarial.vgg, "features", features)
    monkeypatch.setattr(adversarial.vgg, "layers", lambda: None)
    fake, real = tf.ones([2, 3, 4, 4, 3]), tf.zeros([2, 3, 4, 4, 3])
    expected = sum(w * (n + 1) for n, w in enumerate((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)))
    assert adversarial.perceptual(fake, real).numpy() == pytest.approx([expected] * 2)
    assert made[0].shape == (6, 4, 4, 3)
