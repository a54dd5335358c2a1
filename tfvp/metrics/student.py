"""Quantiles of Student's t distribution."""

import functools

import tensorflow as tf

LEVEL = 0.95  # of every confidence interval


@functools.lru_cache(maxsize=256)
def t_quantile(degrees: float, level: float = LEVEL) -> float:
    """t such that a variable of Student's t distribution lies in -t ... t with probability `level`.

    Args:
        degrees: of freedom, more than 0.
        level: in (0, 1).
    """
    degrees = tf.constant(degrees, tf.float64)
    half = tf.constant(0.5, tf.float64)
    low, high = 0.0, 1.0
    outside = lambda t: float(tf.math.betainc(degrees / 2, half, degrees / (degrees + t * t)))  # noqa: E731
    while outside(high) > 1 - level:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle) > 1 - level else (low, middle)
    return high
