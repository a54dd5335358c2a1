"""Random numbers that are a pure function of a key, drawn for many keys at once.

NumPy's generators hold a state that has to be stepped through, and their streams may change
between NumPy versions. Generated clips and shuffled epochs need neither: clip number n, or
epoch e, has to look the same whatever was drawn before it and wherever it is drawn. SplitMix64
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014) is a
counter put through a mixing function, so any number of it can be had directly, in arrays.
"""

import hashlib

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_ROUNDS = 6


def keys(*parts):
    """64-bit keys that stand for combinations of parts.

    Args:
        *parts: text, integers, or integer arrays that broadcast against each other.

    Returns:
        uint64, at least one-dimensional, of the parts' common shape.
    """
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = _mix((state + np.uint64(_GOLDEN)) ^ _bits(part))
    return state


def order(n, *parts):
    """A random order of `n` things that depends on the parts alone: int64 [n]."""
    return np.argsort(keys(*parts, np.arange(n)), kind="stable")


def shuffled(places, n, *parts):
    """What stands at some places of a random order of `n` things, which is never made as a whole.

    A Feistel network over the next power of four permutes more numbers than `n`; those that it sends out of range
    are sent on until they are within (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Args:
        places: int64 array, from 0 to n - 1.
        n: how many things there are.
        *parts: what the order depends on, as in `keys`; it is another one than that of `order`.

    Returns:
        int64, of the shape of `places`.
    """
    half = np.uint64(max(1, -(-(n - 1).bit_length() // 2)))
    low = (np.uint64(1) << half) - np.uint64(1)
    rounds = keys(*parts, np.arange(_ROUNDS))
    values = np.array(places).astype(np.uint64)
    outside = np.ones(values.shape, bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & low
        for key in rounds:
            left, right = right, left ^ (_mix((right + np.uint64(_GOLDEN)) ^ key) & low)
        values[outside] = (left << half) | right
        outside = values >= np.uint64(n)
    return values.astype(np.int64)


class Draws:
    """A stream of random numbers for each of many keys, in lockstep.

    Args:
        keys: uint64 array; every draw has its shape.
    """

    def __init__(self, keys):
        self._keys = keys
        self._drawn = 0

    def uniform(self, low=0.0, high=1.0):
        """float64 in [low, high)."""
        self._drawn += 1
        bits = _mix(self._keys + np.uint64(self._drawn * _GOLDEN & _MASK))
        return low + (high - low) * ((bits >> np.uint64(11)) * 2.0**-53)

    def integers(self, low, high, where=None):
        """int64 in [low, high); the bounds may be arrays.

        `where` says which of the numbers will be used. It makes no difference here, but it
        lets another source of draws (a recorded sequence) know which ones to spend.
        """
        del where
        return (low + np.floor(self.uniform() * (np.asarray(high) - low))).astype(np.int64)


def _bits(part):
    if isinstance(part, str):
        return np.frombuffer(hashlib.sha256(part.encode()).digest()[:8], "<u8").astype(np.uint64)
    if isinstance(part, int):
        return np.uint64(part & _MASK)
    return np.asarray(part).astype(np.uint64)


def _mix(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
