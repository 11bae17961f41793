"""Attention on TensorFlow and a CPU whose scores stay in the processor's cache.

Of a layer over 4,096 tokens the scores are a gigabyte: made whole, or in pieces of many
megabytes, they pass through memory once for each step of a softmax. Here a piece is as
large as the cores' caches, and is gone over once between its two products.

For programs that are not differentiated, for which `operations` asks, and for the
forward pass of a training step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kerasdiffusion.compute import processor, tensorflow_cpu
from kerasdiffusion.compute.tensorflow_products import matmul

#: Bytes of the scores that are at work at once, for each core: its share of a cache.
SHARE = 2**20
#: Below these, keys of a query and scores of a layer fit a cache anyway, more or less,
#: and what is done ahead of them here and behind them costs more than it saves.
MIN_KEYS, MIN_SCORES = 512, 2**23
#: The same of keys where products are oneDNN's, which lose less by large pieces.
MIN_KEYS_ONEDNN = 4096
#: The exponents that a query's scores are kept below, and how small the sum of its
#: exponentials may then be: far from the largest and the smallest of float32.
MOST, LEAST = 60.0, 1e-26


def takes(query, key) -> bool:
    """Whether `attention` is for tensors of these dtypes and shapes."""
    keys = MIN_KEYS_ONEDNN if tensorflow_cpu.has_onednn() else MIN_KEYS
    if query.dtype.name != "float32" or key.shape[1] < keys:
        return False
    return math.prod(query.shape[:3]) * key.shape[1] >= MIN_SCORES


def attention(query, key, value):
    """Attention in float32, piece by piece.

    A softmax does not change with what all scores of a query have in common. So keys
    are taken from their mean: then a query's scores have the mean 0, and their
    exponentials, as they are, add up to no less than the number of keys. Where products
    of lengths say that a score might exceed `MOST`, what it might exceed it by is
    subtracted, as one more channel of the product. Another channel of the values adds
    the exponentials up. There is nothing left to do with scores but one exponential.

    Where the sum is too small all the same, for want of a score near what the lengths
    say, the layer is done again by softmax.

    Args:
        query: float32 tensor of shape `(batch, queries, heads, head_width)`.
        key: float32 tensor of shape `(batch, keys, heads, head_width)`.
        value: float32 tensor of the shape of `key`.

    Returns:
        Tensor of the shape of `query`.

    Reference:
        Rabe and Staats 2021, "Self-attention Does Not Need O(n^2) Memory", for pieces.
    """
    return with_sums(query, key, value)[0]


def with_sums(query, key, value) -> tuple:
    """As `attention`, and the logarithm of the sum of each query's exponentials.

    Returns:
        Tensor of the shape of `query`; and one of shape `(batch, heads, queries)`, of
        scores by keys from their mean.
    """
    import tensorflow as tf

    batch, queries, heads, width = query.shape
    query, key, value = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    query = query * (1.0 / math.sqrt(width))
    key = key - tf.reduce_mean(key, axis=2, keepdims=True)
    longest = tf.reduce_max(tf.norm(key, axis=3, keepdims=True), axis=2, keepdims=True)
    beyond = tf.nn.relu(tf.norm(query, axis=3, keepdims=True) * longest - MOST)
    query = tf.concat([query, -beyond], axis=3)
    key = tf.concat([key, tf.ones_like(key[..., :1])], axis=3)
    value = tf.concat([value, tf.ones_like(value[..., :1])], axis=3)

    value = tf.transpose(value, (0, 1, 3, 2))

    def plain(query, key, value):
        # The keys' rows ahead, so that what is summed over is not the last axis: both
        # products are a third faster than of scores in the order of a softmax.
        return matmul(value, tf.exp(matmul(key, query, transpose_b=True)))

    def careful(query, key, value):
        scores = matmul(query[..., :-1], key[..., :-1], transpose_b=True)
        found = matmul(value[:, :-1], tf.nn.softmax(scores), transpose_b=True)
        return tf.concat([found, tf.reduce_logsumexp(scores, 2)[:, None]], axis=1)

    def apart(found):
        channels, sums = tf.split(found, (width, 1), axis=3)
        return channels, tf.reshape(sums, (batch, heads, -1))[:, :, :queries]

    def divided():
        channels, sums = apart(found)
        return channels / found[..., -1:, :], tf.math.log(sums) + beyond

    def done_again():
        return apart(_in_pieces(careful, query, key, value))

    found, beyond = _in_pieces(plain, query, key, value), beyond[..., 0]
    is_safe = tf.reduce_min(found[..., -1, :]) >= LEAST
    found, sums = tf.cond(is_safe, divided, done_again)
    found = tf.transpose(found, (0, 2, 4, 1, 3))
    found = tf.reshape(found, (batch, -1, heads, width))
    return found[:, :queries], sums


def _in_pieces(attend: Callable, query, key, value):
    """Of some heads, or of some queries of a head, after the others.

    Args:
        attend: Takes queries `(heads, queries, channels)`, keys `(heads, keys,
            channels)` and values `(heads, channels, keys)`; gives what becomes of the
            queries, `(heads, channels, queries)`.
        query: Tensor of shape `(batch, heads, queries, channels)`.
        key: Tensor of shape `(batch, heads, keys, channels)`.
        value: Tensor of shape `(batch, heads, channels, keys)`.

    Returns:
        Tensor of shape `(batch, heads, parts, channels, rows)`: queries in parts, with
        something behind the last of them.
    """
    import tensorflow as tf

    batch, heads, queries, _ = query.shape
    group, rows = piece(batch * heads, queries, key.shape[2])
    parts = -(-queries // rows)
    query = tf.pad(query, ((0, 0), (0, 0), (0, parts * rows - queries), (0, 0)))
    query = tf.reshape(query, (-1, group, rows, query.shape[3]))
    key, value = (tf.reshape(x, (-1, group, *x.shape[2:])) for x in (key, value))
    count, channels = query.shape[0], value.shape[2]
    if count == 1:
        found = attend(query[0], key[0], value[0])
    else:

        def step(i, found):
            own = i // parts
            return i + 1, found.write(i, attend(query[i], key[own], value[own]))

        shape = (group, channels, rows)
        found = tf.TensorArray("float32", count, element_shape=shape)
        _, found = tf.while_loop(
            lambda i, _: i < count, step, (0, found), parallel_iterations=1
        )
        found = found.stack()
    return tf.reshape(found, (batch, heads, parts, channels, rows))


def piece(heads: int, queries: int, keys: int, maps: int = 1) -> tuple[int, int]:
    """How many heads, and how many of their queries, are a piece.

    Args:
        heads: Of all images.
        queries: Of a head.
        keys: Of a head.
        maps: How many matrices of queries by keys are at work at once.

    Returns:
        A divisor of `heads`, and 1 with fewer queries than there are.

    Example:

    >>> piece(16, 77, 77)
    (16, 77)
    """
    scores = max(1, processor.cores() * SHARE // 4 // maps)
    if queries * keys > scores:
        parts = -(-queries // max(1, scores // keys))
        return 1, -(-queries // parts)
    fitting = (n for n in range(1, heads + 1) if n * queries * keys <= scores)
    return max(n for n in fitting if heads % n == 0), queries
