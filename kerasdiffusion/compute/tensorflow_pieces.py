"""Tensors that are made piece by piece on TensorFlow and a CPU.

What a piece is made of is small then, and may stay in a core's cache. Each is written
to its place: a list of pieces would have to be copied into one tensor in the end, and
both be in memory.

For programs that are not differentiated, and for the inside of gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def together(make: Callable, x, count: int, shape: Sequence[int], dtype):
    """Pieces one behind the other, of which one at a time is made.

    Args:
        make: Takes the number of a piece, and gives it, in any shape.
        x: Tensor that pieces are made of. As a program begins, TensorFlow would make
            all that waits for nothing: room, and what is made of weights alone.
        count: How many there are.
        shape: Of each.
        dtype: TensorFlow's, or its name.

    Returns:
        Tensor of shape `(count, *shape)`.
    """
    import tensorflow as tf

    if count == 1:
        return tf.reshape(make(0), (1, *shape))

    def step(i, whole):
        piece = tf.reshape(make(i), (1, *shape))
        return i + 1, tf.raw_ops.InplaceUpdate(x=whole, i=tf.reshape(i, (1,)), v=piece)

    with tf.control_dependencies([x]):
        first = tf.identity(0)
        whole = tf.raw_ops.Empty(shape=(count, *shape), dtype=dtype)
    return tf.while_loop(
        lambda i, _: i < count, step, (first, whole), parallel_iterations=1
    )[1]


def in_rows(function: Callable, x, channels: int, most: int):
    """As `kernels.in_rows`, for a tensor of a known shape."""
    import tensorflow as tf

    rows = math.prod(x.shape[:-1])
    if rows <= most:
        return function(x)
    at_once = -(-rows // -(-rows // most))
    flat, whole = tf.reshape(x, (rows, -1)), rows // at_once

    def part(i):  # what is cut out of the first axis is not copied
        return function(tf.slice(flat, (i * at_once, 0), (at_once, x.shape[-1])))

    found = together(part, x, whole, (at_once, channels), x.dtype)
    found = tf.reshape(found, (-1, channels))
    if rows % at_once:
        rest = function(flat[whole * at_once :])
        found = tf.concat([found, rest], axis=0)
    return tf.reshape(found, (*x.shape[:-1], channels))
