"""3x3 convolutions by Winograd's way, on TensorFlow and a CPU.

Neighbours in a result share most of what they are made of. Tiles of 4x4 of them are 36
products of sums of pixels and sums of a kernel, where 144 are made otherwise; tiles of
2x2 are 16 in place of 36. What is left is a matrix product for each of the 36 or 16, of
pixels' channels by filters.

For programs that are not differentiated, for which `kernels` asks, and for frozen
kernels in a training step: the gradient of the input is such a convolution too, by the
kernel turned round, of filters by channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from kerasdiffusion.compute import (
    processor,
    tensorflow_cpu,
    tensorflow_pieces,
    tensorflow_rows,
)
from kerasdiffusion.compute.tensorflow_products import matmul


class Way(NamedTuple):
    """How tiles are made: what is said of one line of them holds for both directions.

    Args:
        side: Pixels of a line. It has as many results of each parity.
        pixels: Matrix of shape `(products, side + 2)`: of pixels what is multiplied.
        kernel: Matrix of shape `(products, 3)`: of a kernel what it is multiplied with.
        result: Matrix of shape `(side, products of a parity)`: of products the results.
        min_tiles: Of a batch: with fewer, the kernel costs more than it saves.
        min_channels: The same of channels and filters, each of which passes through
            memory: half of their harmonic mean.
        piece: Bytes of a piece's pixels, and of its products: what a cache holds, but
            not so few that products become narrow. As large a kernel passes through
            memory once for a piece, which may then be of its size.
    """

    side: int
    pixels: np.ndarray
    kernel: np.ndarray
    result: np.ndarray
    min_tiles: int
    min_channels: int
    piece: int

    @property
    def parities(self) -> int:
        """2 of a way that doubles a line: results between each two of others."""
        return len(self.kernel) // self.result.shape[1]

    def fits(self, shape, kernel) -> bool:
        """Whether it is quicker than a direct convolution, for these shapes."""
        channels, filters = kernel[2:]
        tiles = math.prod(-(-n // self.side) for n in shape[1:3])
        least = self.min_channels * (channels + filters)
        return shape[0] * tiles >= self.min_tiles and channels * filters >= least


def way(*points: float, taps: int = 3, **limits: int) -> Way:
    """Winograd's way for a kernel's lines, by Toom's and Cook's polynomials.

    Two polynomials are multiplied by multiplying their values at some points, and at
    infinity. The transpose of that is a convolution.

    Args:
        points: As many as a line has results, and taps less two. Those of a size near
            1 lose the fewest digits.
        taps: Of a kernel's line.
        limits: `min_tiles`, `min_channels` and `piece` of `Way`.

    Returns:
        It.

    Reference:
        Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks",
        section 4; Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of
        Winograd Convolution for Deep Neural Networks", section 3.
    """
    side = len(points) + 2 - taps
    powers = np.vander(points, max(side, taps), increasing=True)
    end = np.eye(max(side, taps))
    others = [[q for q in points if q != p] for p in points]
    scale = [[math.prod(p - q for q in points if q != p)] for p in points]
    roots = [np.poly(each)[::-1] for each in (*others, points)]
    seen = side + taps - 1
    pixels = np.stack([np.pad(each, (0, seen - len(each))) for each in roots])
    kernel = np.vstack([powers[:, :taps] / scale, end[taps - 1, :taps]])
    result = np.vstack([powers[:, :side], end[side - 1, :side]]).T
    return Way(side, pixels, kernel, result, **limits)


def doubling(*points: float, **limits: int) -> Way:
    """Winograd's way for lines of which each pixel is there twice.

    Of three such pixels, as a kernel sees them, two are the same: the last two of an
    even result, and the first two of an odd one. So there are two kernels of two.

    Args:
        points: As many as a line has pixels.
        limits: As `way` takes them.

    Returns:
        It.
    """
    own = way(*points, taps=2, **limits)
    halves = [[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]
    pixels = [np.pad(own.pixels, ((0, 0), ends)) for ends in ((0, 1), (1, 0))]
    kernels = [own.kernel @ half for half in halves]
    return own._replace(pixels=np.vstack(pixels), kernel=np.vstack(kernels))


#: F(2x2, 3x3), off by half as much again as a direct convolution.
SMALL = way(0, 1, -1, min_tiles=256, min_channels=96, piece=2**23)
#: F(4x4, 3x3), off by five times as much, in the sixth digit. Of 64 MiB the allocator
#: gives a piece's memory back and asks for it anew: that takes up to as long again.
LARGE = way(
    *(0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)),
    **{"min_tiles": 128, "min_channels": 64, "piece": 2**24},
)
#: The quickest first.
WAYS = (LARGE, SMALL)
#: F(2x2, 2x2), four times: 9 of 16 multiplications of four direct ones, and off by
#: twice as much. Of fewer tiles it is quicker too, but takes more memory.
DOUBLED = doubling(0, 1, min_tiles=1024, min_channels=96, piece=2**23)


def takes(x, kernel, doubled: bool = False) -> bool:
    """Whether `convolve` is for tensors of these dtypes and shapes, here and now.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(rows, columns, channels, filters)`.
        doubled: Whether each pixel is to be there twice, by `DOUBLED`.
    """
    if not tensorflow_cpu.are_active() or None in x.shape:
        return False
    if {keras.backend.standardize_dtype(each.dtype) for each in (x, kernel)} != {
        "float32"
    }:
        return False
    if doubled:
        return is_quicker() and DOUBLED.fits(x.shape, kernel.shape)
    return fits(x.shape, kernel.shape)


def fits(shape, kernel) -> bool:
    """Whether it is quicker for images and a kernel of these shapes, on this CPU."""
    return chosen(shape, kernel) is not None


def chosen(shape, kernel) -> Way | None:
    """The quickest way for images and a kernel of these shapes, on this CPU."""
    if tuple(kernel[:2]) != (3, 3) or not is_quicker():
        return None
    return next((way for way in WAYS if way.fits(shape, kernel)), None)


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


def convolve(
    x,
    kernel,
    ahead: Callable | None = None,
    backward: bool = False,
    way: Way | None = None,
):
    """A convolution of stride 1 that keeps height and width, in float32.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(3, 3, channels, filters)`.
        ahead: What is done to each number ahead of the convolution, piece by piece, so
            that it is nowhere whole. Takes some rows of an image, a tensor of shape
            `(1, some rows, width, channels)`, and which of the images it is.
        backward: Whether by the kernel turned round, of filters by channels.
        way: Of `WAYS`, or `DOUBLED`; if `None`, the quickest.

    Returns:
        Tensor of shape `(batch, height, width, filters)`, or with both sides doubled.

    Reference:
        Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks",
        section 4.
    """
    import tensorflow as tf

    batch, height, width, channels = x.shape
    sides, kernel = kernel.shape[2:], tf.convert_to_tensor(kernel)
    filters = sides[0 if backward else 1]
    way = way or chosen(x.shape, (3, 3, channels, filters)) or WAYS[-1]
    side = way.side
    down, across = -(-height // side), -(-width // side)
    images = 1 if ahead else batch  # of a piece, at most
    group, rows = piece(way, images, down, across, channels, filters)
    parts = -(-down // rows)
    x = tf.reshape(x, (-1, group, *x.shape[1:]))
    turned = way.kernel[:, ::-1] if backward else way.kernel
    with tf.control_dependencies([x]):  # not all layers' at once, ahead of the first
        kernel = _multiplied(turned, tf.reshape(kernel, (9, -1)), way.parities)
    kernel = tf.reshape(kernel, (-1, *sides))

    def convolved(i):
        place = i // parts, side * rows * (i % parts)
        seen = tensorflow_rows.seen(x, *place, side * rows, side * across, ahead)
        return _piece(way, seen, kernel, group, rows, across, backward)

    times = way.parities
    shape = group, times * side * rows, times * side * across, filters
    count = batch // group * parts
    found = tensorflow_pieces.together(convolved, x, count, shape, x.dtype)
    found = tensorflow_rows.whole(found, batch, times * height)
    wide = times * width
    return found if found.shape[2] == wide else found[:, :, :wide]


def piece(way: Way, batch: int, down: int, across: int, channels: int, filters: int):
    """How many images, and how many rows of their tiles, are a piece.

    Args:
        way: How tiles are made.
        batch: Images.
        down: Rows of tiles of an image.
        across: Tiles of a row.
        channels: Of a pixel.
        filters: Of the kernel.

    Returns:
        A divisor of `batch`, and 1 with fewer rows than there are.

    Example:

    >>> piece(SMALL, 2, 8, 8, 1280, 1280)
    (2, 8)
    """
    size = 4 * len(way.kernel) ** 2
    least = channels * filters // (channels + filters)  # of the kernel's size
    tiles = max(1, least, way.piece // (size * max(channels, filters)))
    if down * across > tiles:
        parts = -(-down // max(1, tiles // across))
        return 1, -(-down // parts)
    fitting = (n for n in range(1, batch + 1) if n * down * across <= tiles)
    return max(n for n in fitting if batch % n == 0), down


def _piece(way: Way, x, kernel, group: int, rows: int, across: int, backward: bool):
    """Of images with a pixel around them: the convolution.

    Args:
        way: How tiles are made.
        x: Tensor of shape `(group, side * rows + 2, side * across + 2, channels)`.
        kernel: Tensor of shape `(products ** 2, channels, filters)`.
        group: Images.
        rows: Of tiles.
        across: Tiles of a row.
        backward: Whether the kernel is `(products ** 2, filters, channels)`.

    Returns:
        Tensor of shape `(group, side * rows, side * across, filters)`, or with both
        sides doubled.
    """
    import tensorflow as tf

    side, times, channels = way.side, way.parities, x.shape[-1]
    filters = kernel.shape[1 if backward else 2]
    pixels = tf.gather(tf.reshape(x, (-1, channels)), _seen(side, group, rows, across))
    pixels = tf.reshape(pixels, ((side + 2) ** 2, -1))
    pixels = _multiplied(way.pixels, pixels, times)
    pixels = tf.reshape(pixels, (len(way.kernel) ** 2, -1, channels))
    products = matmul(pixels, kernel, transpose_b=backward)
    products = tf.reshape(products, (way.result.shape[1] ** 2, -1))
    found = _multiplied(way.result, products)
    found = tf.reshape(found, (side, side, times, times, group, rows, across, filters))
    found = tf.transpose(found, (4, 5, 0, 2, 6, 1, 3, 7))
    return tf.reshape(found, (group, times * side * rows, -1, filters))


def _seen(side: int, group: int, rows: int, across: int) -> np.ndarray:
    """Which pixel is at each place of each tile, of images with pixels around them.

    To gather them is one operation, quick to trace, and one pass through memory.
    """
    line, height, width = np.arange(side + 2), side * rows + 2, side * across + 2
    down = side * np.arange(rows) + line[:, None]
    right = side * np.arange(across) + line[:, None]
    image = height * width * np.arange(group)[:, None, None]
    found = width * down[:, None, None, :, None] + right[:, None, None, :]
    return (image + found).reshape(len(line) ** 2, -1).astype("int32")


def _multiplied(matrix: np.ndarray, x, parities: int = 1):
    """What a matrix makes of rows and columns that lie one behind the other in `x`.

    Those of all parities, of both, lie one behind the other in the result.
    """
    import tensorflow as tf

    both = np.kron(matrix, matrix)
    own = both.reshape(*2 * (parities, len(matrix) // parities), -1)
    own = own.transpose(1, 3, 0, 2, 4).reshape(both.shape)
    return tf.matmul(tf.constant(own, "float32"), x)
