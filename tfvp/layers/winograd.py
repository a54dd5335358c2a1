"""Convolutions of stride 1 by Winograd's algorithm, for CPUs: fewer products, in large matrix products.

With A, G and B of Toom and Cook for tiles of m = 4 outputs and a kernel of side r, a = m + r - 1, a tile is

    Y = A' [sum_c (G k_c G') o (B' x_c B)] A

with ' the transpose and o the element-wise product (Winograd 1980; Lavin and Gray 2016, arXiv 1509.09308, section 4).
The sum over channels is a matrix product for each of the a^2 places in a transformed tile. An output takes a^2 / m^2
products instead of r^2: 2.25 instead of 9, or 4 instead of 25. So do both gradients, by the transposed transforms.

Rounding errors in float32 are about four times those of the direct sum, at most some 4e-5 of the outputs' standard
deviation. Where one convolution is slower this way, or a GPU is there, whose library chooses for itself, it is done
directly. TFVP_WINOGRAD=0 in the environment does so everywhere.
"""

import contextlib
import contextvars
import fractions
import functools

import numpy as np
import tensorflow as tf

from tfvp import devices, quiet

TILE = 4
POINTS = (0, 1, -1, 2, -2, fractions.Fraction(1, 2), fractions.Fraction(-1, 2))  # and infinity
LARGEST = 32  # side of the feature maps up to which an output gains,
LARGEST_TRAINED = 66  # and up to which an output and its gradients do together
CHANNELS = {3: 64, 5: 32}  # fewest input and output channels at which a kernel of that side gains,
PRODUCT = {3: 64 * 128, 5: 32 * 32}  # and their smallest product at which the output alone does
# The same for processors with AVX-512, whose direct convolutions are quicker.
PRODUCT_TRAINED_512 = {3: 64 * 128, 5: 32 * 128}
PRODUCT_512 = {3: 128 * 256, 5: 32 * 128}

_direct = contextvars.ContextVar("direct", default=False)
_trained = contextvars.ContextVar("trained", default=False)


@contextlib.contextmanager
def direct():
    """Context manager: what is traced within it has ordinary convolutions, for graphs that go to other machines."""
    with _set(_direct):
        yield


@contextlib.contextmanager
def trained():
    """Context manager: gradients follow what is traced within it."""
    with _set(_trained):
        yield


@contextlib.contextmanager
def _set(variable):
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


def differentiated():
    """Whether what is traced now is within `trained`."""
    return _trained.get()


def wanted(dtype):
    """Whether convolutions of that type are to be anything but TensorFlow's own here."""
    elsewhere = _direct.get() or not quiet.winograd() or tf.config.list_physical_devices("GPU")
    return not elsewhere and tf.as_dtype(dtype) == tf.float32


def gains(image_shape, kernel_shape, dtype):
    """Whether a convolution of stride 1 is quicker this way.

    Args:
        image_shape: (height, width) of the feature maps; None where unknown.
        kernel_shape: (side, side, channels, filters).
        dtype: of the computation.
    """
    height, width = image_shape
    side, other, channels, filters = kernel_shape
    if None in (height, width) or not wanted(dtype):
        return False
    if side != other or side not in CHANNELS or min(channels, filters) < CHANNELS[side]:
        return False
    largest = LARGEST_TRAINED if differentiated() else LARGEST
    return TILE <= min(height, width) and max(height, width) <= largest and channels * filters >= _product(side)


def _product(side):
    """The smallest product of channels and filters at which a kernel gains."""
    if devices.avx512():
        return (PRODUCT_TRAINED_512 if differentiated() else PRODUCT_512)[side]
    return 0 if differentiated() else PRODUCT[side]


def transformed(kernel):
    """G k G' of a kernel [r, r, C, K], a variable or a tensor: [a * a, C, K]. A loop needs it once."""
    side, _, channels, filters = kernel.shape
    g = tf.constant(matrices(side)[1], tf.float32)
    tiled = side + TILE - 1
    rows = tf.matmul(g, tf.reshape(tf.convert_to_tensor(kernel), [side, -1]))
    both = tf.matmul(g, tf.reshape(rows, [tiled, side, channels * filters]))
    return tf.reshape(both, [tiled * tiled, channels, filters])


def conv2d(images, kernel, padding="SAME"):
    """The convolution of [N, H, W, C] with a kernel that is `transformed`, float32: [N, H, W, K], or less if "VALID".

    H and W must be known while tracing. The backward pass asks for the images alone.
    """

    @tf.custom_gradient
    def operation(images, kernel):
        plan = _Plan(images.shape[1:3], kernel.shape, padding)

        def gradients(upstream):
            products = plan.from_outputs(upstream)
            to_images = plan.to_images(tf.matmul(products, kernel, transpose_b=True))
            return to_images, tf.matmul(plan.from_images(images), products, transpose_a=True)

        return plan.to_outputs(tf.matmul(plan.from_images(images), kernel)), gradients

    return operation(images, kernel)


class _Plan:
    """The linear maps between feature maps and transformed tiles, and their transposes.

    Transformed tiles are [a * a, N * tiles, channels]. Images are transformed along each side by one matrix that
    holds the tiles' overlap and the padding; outputs tile by tile.
    """

    def __init__(self, size, kernel_shape, padding):
        self.height, self.width = size
        places, self.channels, self.filters = kernel_shape
        self.tiled = round(places**0.5)
        side = self.tiled - TILE + 1
        pad = side // 2 if padding == "SAME" else 0
        self.out_size = [n + 2 * pad - side + 1 for n in size]
        self.rows, self.columns = (-(-n // TILE) for n in self.out_size)
        self.in_rows, self.in_columns = (tf.constant(overlapping(n, side, pad)) for n in size)
        self.out = tf.constant(matrices(side)[0], tf.float32)

    def from_images(self, images):
        """B' x B: [N, H, W, C] -> [a * a, N * tiles, C]."""
        a, rows, columns, c = self.tiled, self.rows, self.columns, self.channels
        x = tf.matmul(self.in_rows, tf.reshape(images, [-1, self.height, self.width * c]))
        x = tf.matmul(self.in_columns, tf.reshape(x, [-1, self.width, c]))
        x = tf.transpose(tf.reshape(x, [-1, a, rows, a, columns * c]), [1, 3, 0, 2, 4])
        return tf.reshape(x, [a * a, -1, c])

    def to_images(self, tiles):
        """The transpose of `from_images`."""
        a, rows, columns, c = self.tiled, self.rows, self.columns, self.channels
        x = tf.transpose(tf.reshape(tiles, [a, a, -1, rows, columns * c]), [2, 0, 3, 1, 4])
        x = tf.matmul(self.in_columns, tf.reshape(x, [-1, a * columns, c]), transpose_a=True)
        x = tf.matmul(self.in_rows, tf.reshape(x, [-1, a * rows, self.width * c]), transpose_a=True)
        return tf.reshape(x, [-1, self.height, self.width, c])

    def to_outputs(self, tiles):
        """A' M A: [a * a, N * tiles, K] -> outputs [N, H', W', K]."""
        a, rows, columns, k = self.tiled, self.rows, self.columns, self.filters
        y = tf.matmul(self.out, tf.reshape(tiles, [a, a, -1]))
        y = tf.matmul(self.out, tf.reshape(y, [a, -1]))
        y = tf.transpose(tf.reshape(y, [TILE, TILE, -1, rows, columns, k]), [2, 3, 0, 4, 1, 5])
        return tf.reshape(y, [-1, rows * TILE, columns * TILE, k])[:, : self.out_size[0], : self.out_size[1]]

    def from_outputs(self, outputs):
        """The transpose of `to_outputs`."""
        a, rows, columns, k = self.tiled, self.rows, self.columns, self.filters
        rest = [rows * TILE - self.out_size[0], columns * TILE - self.out_size[1]]
        if any(rest):
            outputs = tf.pad(outputs, [[0, 0], [0, rest[0]], [0, rest[1]], [0, 0]])
        y = tf.transpose(tf.reshape(outputs, [-1, rows, TILE, columns, TILE, k]), [2, 4, 0, 1, 3, 5])
        y = tf.matmul(self.out, tf.reshape(y, [TILE, -1]), transpose_a=True)
        y = tf.matmul(self.out, tf.reshape(y, [a, TILE, -1]), transpose_a=True)
        return tf.reshape(y, [a * a, -1, k])


@functools.cache
def overlapping(size, side, pad):
    """B' for every tile along an axis of length `size`, `pad` zeros before and after it: [a * tiles, size] float32."""
    transform = matrices(side)[2]
    tiled, tiles = len(transform), -(-(size + 2 * pad - side + 1) // TILE)
    matrix = np.zeros((tiled, tiles, size))
    for tile in range(tiles):
        first = tile * TILE - pad
        inside = [n for n in range(tiled) if 0 <= first + n < size]
        matrix[:, tile, [first + n for n in inside]] = transform[:, inside]
    return matrix.reshape(tiled * tiles, size).astype(np.float32)


@functools.cache
def matrices(side):
    """(A' [m, a], G [a, r], B' [a, a]) for kernels of side r, float64.

    A tile is the transpose of a product of polynomials of degrees m - 1 and r - 1, which is known by its values at
    a - 1 points and its leading coefficient. Rows of B' are scaled to the size of 1 by powers of two, those of G back.
    """
    tiled = TILE + side - 1
    points = [fractions.Fraction(p) for p in POINTS[: tiled - 1]]
    leading = [float(i == TILE - 1) for i in range(TILE)]
    out = np.array([[float(p**i) for p in points] + [leading[i]] for i in range(TILE)])
    kernel, images = [], []
    for p in points:
        others = [q for q in points if q != p]
        kernel.append([float(p**i / np.prod([p - q for q in others])) for i in range(side)])
        images.append([*_with_roots(others), 0.0])
    kernel.append([float(i == side - 1) for i in range(side)])
    images.append(_with_roots(points))
    scale = 2.0 ** np.round(np.log2(np.abs(images).max(axis=1, keepdims=True)))
    return out, np.array(kernel) * scale, np.array(images) / scale


def _with_roots(roots):
    """Coefficients of prod (x - root), from that of x^0 up."""
    coefficients = [fractions.Fraction(1)]
    for root in roots:
        shifted = [fractions.Fraction(0), *coefficients]
        coefficients = [high - root * low for high, low in zip(shifted, [*coefficients, fractions.Fraction(0)])]
    return [float(c) for c in coefficients]
