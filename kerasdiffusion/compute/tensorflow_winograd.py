"""3x3 convolutions by Winograd's way, on TensorFlow and a CPU.

Two rows and two columns of a result share most of what they are made of: of 4x4 pixels,
16 products give what 36 do otherwise, and all else are sums. What is left is a matrix
product for each of the 16, of pixels' channels by filters.

For programs that are not differentiated, for which `operations` asks, and for frozen
kernels in a training step: the gradient of the input is such a convolution too, by the
kernel turned round, of filters by channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np

from kerasdiffusion.compute import processor, tensorflow_cpu, tensorflow_rows

#: What makes of 4 pixels, of 3 numbers of a kernel and of 4 products what they become.
_PIXELS = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_KERNEL = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2
_RESULT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
#: Where each of the 16 of a kernel is in that of the kernel turned round.
_TURNED = [4 * row + column for row in (3, 1, 2, 0) for column in (3, 1, 2, 0)]
#: Tiles of a batch, 2x2 pixels each, below which the kernel costs more than it saves.
MIN_TILES = 256
#: The same of channels and filters, each of which passes through memory: half of their
#: harmonic mean.
MIN_CHANNELS = 96
#: Bytes of a piece, of pixels and of products: what a cache holds. As large a kernel
#: passes through memory once for a piece, which may then be of its size.
PIECE = 2**24


def takes(x, kernel) -> bool:
    """Whether `convolve` is for tensors of these dtypes and shapes, here and now."""
    if not tensorflow_cpu.are_active() or None in x.shape:
        return False
    if {keras.backend.standardize_dtype(each.dtype) for each in (x, kernel)} != {
        "float32"
    }:
        return False
    return fits(x.shape, kernel.shape)


def fits(shape, kernel) -> bool:
    """Whether it is quicker for images and a kernel of these shapes, on this CPU."""
    rows, columns, channels, filters = kernel
    return (
        (rows, columns) == (3, 3)
        and shape[0] * math.prod(-(-n // 2) for n in shape[1:3]) >= MIN_TILES
        and channels * filters >= MIN_CHANNELS * (channels + filters)
        and is_quicker()
    )


def is_quicker() -> bool:
    """Whether it is, on processors of this kind: on x86 where Eigen would convolve."""
    return "avx2" in processor.here() and not tensorflow_cpu.has_onednn()


def gradient(dy, kernel):
    """What `convolve` gives for a gradient of its input.

    Args:
        dy: Tensor of shape `(batch, height, width, filters)`.
        kernel: Tensor of shape `(3, 3, channels, filters)`.

    Returns:
        Tensor of shape `(batch, height, width, channels)`.
    """
    return convolve(dy, kernel, backward=True)


def convolve(x, kernel, ahead: Callable | None = None, backward: bool = False):
    """A convolution of stride 1 that keeps height and width, in float32.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(3, 3, channels, filters)`.
        ahead: What is done to each number ahead of the convolution, piece by piece, so
            that it is nowhere whole. Takes some rows of images, a tensor of shape
            `(group, some rows, width, channels)`, and which of the groups that is.
        backward: Whether by the kernel turned round, of filters by channels.

    Returns:
        Tensor of shape `(batch, height, width, filters)`.

    Reference:
        Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks",
        section 4.1, F(2x2, 3x3).
    """
    import tensorflow as tf

    batch, height, width, channels = x.shape
    sides, kernel = kernel.shape[2:], tf.convert_to_tensor(kernel)
    filters = sides[0 if backward else 1]
    down, across = -(-height // 2), -(-width // 2)
    group, rows = piece(batch, down, across, channels, filters)
    parts = -(-down // rows)
    x = tf.reshape(x, (-1, group, *x.shape[1:]))
    kernel = _multiplied(_KERNEL, tf.reshape(kernel, (9, -1)))
    kernel = tf.reshape(kernel, (16, *sides))
    if backward:
        kernel = tf.gather(kernel, _TURNED)
    count = batch // group * parts

    def convolved(i):
        place = i // parts, 2 * rows * (i % parts)
        seen = tensorflow_rows.seen(x, *place, 2 * rows, 2 * across, ahead)
        return _piece(seen, kernel, group, rows, across, backward)

    if count == 1:
        found = convolved(0)
    else:
        shape = (group, 2 * rows, 2 * across, filters)
        found = tf.TensorArray("float32", count, element_shape=shape)
        _, found = tf.while_loop(
            lambda i, _: i < count,
            lambda i, found: (i + 1, found.write(i, convolved(i))),
            (0, found),
            parallel_iterations=1,
        )
        found = found.stack()
    found = tf.reshape(found, (-1, parts, group, 2 * rows, 2 * across, filters))
    if group > 1 and parts > 1:
        found = tf.transpose(found, (0, 2, 1, 3, 4, 5))
    found = tf.reshape(found, (batch, -1, 2 * across, filters))
    return found[:, :height, :width]


def piece(batch: int, down: int, across: int, channels: int, filters: int):
    """How many images, and how many rows of their tiles, are a piece.

    Args:
        batch: Images.
        down: Rows of tiles of an image.
        across: Tiles of a row.
        channels: Of a pixel.
        filters: Of the kernel.

    Returns:
        A divisor of `batch`, and 1 with fewer rows than there are.

    Example:

    >>> piece(2, 8, 8, 1280, 1280)
    (2, 8)
    """
    most = max(PIECE, 64 * channels * filters)
    tiles = max(1, most // (64 * (channels + filters)))
    if down * across > tiles:
        parts = -(-down // max(1, tiles // across))
        return 1, -(-down // parts)
    fitting = (n for n in range(1, batch + 1) if n * down * across <= tiles)
    return max(n for n in fitting if batch % n == 0), down


def _piece(x, kernel, group: int, rows: int, across: int, backward: bool):
    """Of images with a pixel around them: the convolution.

    Args:
        x: Tensor of shape `(group, 2 * rows + 2, 2 * across + 2, channels)`.
        kernel: Tensor of shape `(16, channels, filters)`.
        group: Images.
        rows: Of tiles.
        across: Tiles of a row.
        backward: Whether the kernel is `(16, filters, channels)`.

    Returns:
        Tensor of shape `(group, 2 * rows, 2 * across, filters)`.
    """
    import tensorflow as tf

    channels, filters = x.shape[-1], kernel.shape[1 if backward else 2]
    x = tf.reshape(x, (group, rows + 1, 2, across + 1, 2, channels))
    half, odd = (0, 0, 1, 1), (0, 1, 0, 1)  # of the four rows, and columns, of a tile
    pixels = [
        x[:, top : top + rows, i, left : left + across, j]
        for top, i in zip(half, odd, strict=True)
        for left, j in zip(half, odd, strict=True)
    ]
    pixels = tf.reshape(tf.stack(pixels), (16, -1))
    pixels = tf.reshape(_multiplied(_PIXELS, pixels), (16, -1, channels))
    products = tf.matmul(pixels, kernel, transpose_b=backward)
    products = tf.reshape(products, (16, -1))
    found = _multiplied(_RESULT, products)
    found = tf.reshape(found, (2, 2, group, rows, across, filters))
    found = tf.transpose(found, (2, 3, 0, 4, 1, 5))
    return tf.reshape(found, (group, 2 * rows, 2 * across, filters))


def _multiplied(matrix: np.ndarray, x):
    """What a matrix makes of rows and columns that lie one behind the other in `x`."""
    import tensorflow as tf

    return tf.matmul(tf.constant(np.kron(matrix, matrix), "float32"), x)
