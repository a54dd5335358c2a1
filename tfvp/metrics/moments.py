"""First and second moments of features that arrive in batches."""

import numpy as np
import tensorflow as tf


class Moments:
    """Streaming mean and covariance of features [N, D], in float64 and in memory that does not grow with N.

    Args:
        size: D.
    """

    def __init__(self, size: int):
        self.count = tf.Variable(tf.zeros((), tf.float64), name="count")
        self.total = tf.Variable(tf.zeros((size,), tf.float64), name="sum")
        self.products = tf.Variable(tf.zeros((size, size), tf.float64), name="products")

    def add(self, features: tf.Tensor, real: tf.Tensor | None = None) -> None:
        """Takes features in.

        Args:
            features: [n, D].
            real: [n], 1 where a row counts, 0 where it is padding. Defaults to all of them.
        """
        features = tf.cast(features, tf.float64)
        real = tf.ones(tf.shape(features)[:1], tf.float64) if real is None else tf.cast(real, tf.float64)
        weighted = features * real[:, None]
        self.count.assign_add(tf.reduce_sum(real))
        self.total.assign_add(tf.reduce_sum(weighted, axis=0))
        self.products.assign_add(tf.matmul(weighted, features, transpose_a=True))

    def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean [D], unbiased covariance [D, D]) of what came in, float64."""
        count, total, products = (np.asarray(v) for v in (self.count, self.total, self.products))
        mean = total / count
        return mean, (products - count * np.outer(mean, mean)) / max(count - 1.0, 1.0)
