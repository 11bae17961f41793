"""Attention in a training step on TensorFlow and a CPU, which keeps no map.

Its gradient makes the map anew, piece by piece.
"""

from __future__ import annotations

import math

from kerasdiffusion.compute import tensorflow_attention
from kerasdiffusion.compute.tensorflow_products import matmul

#: The largest map that is made at once where it is not in float32: queries times keys
#: times heads times the batch. Its gradient has three of them.
PIECE = 2**24


def attention(query, key, value):
    """Attention that keeps its arguments and its result.

    Args:
        query: Tensor of shape `(batch, queries, heads, head_width)`.
        key: Tensor of shape `(batch, keys, heads, head_width)`.
        value: Tensor of the shape of `key`.

    Returns:
        Tensor of the shape of `query`.

    Reference:
        Dao et al. 2022, "FlashAttention", appendix B.4.
    """
    made = _in_cache if query.dtype == "float32" else _in_memory
    return made(query, key, value)


def _in_cache(query, key, value):
    """Of float32, in pieces as `tensorflow_attention` makes them.

    Maps have keys for rows: then the gradient's products transpose none of them, which
    takes longer than the products do. What is subtracted of a score, and of a weight's
    gradient, is one more channel of the product that it comes from.
    """
    import tensorflow as tf

    batch, queries, heads, width = query.shape
    keys, scale = key.shape[1], 1.0 / math.sqrt(width)
    takes = tensorflow_attention.takes(query, key)
    takes = takes or batch * queries * heads * keys > PIECE

    def attend(query, key, value):
        if takes:
            return tensorflow_attention.with_sums(query, key, value)
        query, key, value = map(_by_heads, (query * scale, key, value))
        key = key - tf.reduce_mean(key, axis=2, keepdims=True)
        scores = matmul(query, key, transpose_b=True)
        weights = tf.nn.softmax(scores)
        # The largest weight is one over the sum that its score makes 1 of.
        most, largest = (tf.reduce_max(each, axis=3) for each in (scores, weights))
        return _by_heads(matmul(weights, value)), most - tf.math.log(largest)

    def flat(x):
        return tf.reshape(x, (batch * heads, *x.shape[2:]))

    def beside(x, channel):
        return tf.concat([x, channel], axis=3)

    @tf.custom_gradient
    def run(query, key, value):
        out, sums = attend(query, key, value)

        def gradient(dout):
            q, k, v, do = map(_by_heads, (query * scale, key, value, dout))
            k = k - tf.reduce_mean(k, axis=2, keepdims=True)
            along = _by_heads(tf.reduce_sum(dout * out, axis=3, keepdims=True))
            one = tf.ones_like(k[..., :1])
            found = _differentiated(
                flat(q),
                flat(beside(q, -sums[..., None])),
                flat(do),
                flat(beside(do, -along)),
                flat(tf.transpose(k, (0, 1, 3, 2))),
                flat(beside(k, one)),
                flat(beside(v, one)),
            )
            dq, dk, dv = (
                _by_heads(tf.reshape(each, (batch, heads, *each.shape[1:])))
                for each in found
            )
            return dq * scale, dk, dv

        return out, gradient

    return run(query, key, value)


def _differentiated(q, q_less, do, do_less, k, k_one, v_one) -> tuple:
    """The gradients of queries, keys and values, of some heads after the others.

    Args:
        q: Queries, scaled, of shape `(heads, queries, channels)`.
        q_less: They, and less the logarithm of the sum of their exponentials.
        do: The result's gradient, of the shape of `q`.
        do_less: It, and less what it has in common with the result.
        k: Keys, `(heads, channels, keys)`.
        k_one: They, `(heads, keys, channels)`, and ones.
        v_one: Values and ones, of the shape of `k_one`.

    Returns:
        Tensors of shape `(heads, queries or keys, channels)`.
    """
    import tensorflow as tf

    heads, queries, width = q.shape
    keys = k.shape[2]
    group, rows = tensorflow_attention.piece(heads, queries, keys, maps=2)
    parts = -(-queries // rows)
    more = ((0, 0), (0, parts * rows - queries), (0, 0))  # of no gradient
    by_query = [
        tf.reshape(tf.pad(x, more), (-1, group, rows, x.shape[2]))
        for x in (q, q_less, do, do_less)
    ]
    by_key = [tf.reshape(x, (-1, group, *x.shape[1:])) for x in (k, k_one, v_one)]
    count = by_query[0].shape[0]

    def differentiate(i):
        q, q_less, do, do_less = (x[i] for x in by_query)
        k, k_one, v_one = (x[i // parts] for x in by_key)
        weights = tf.exp(matmul(k_one, q_less, transpose_b=True))
        dscores = weights * matmul(v_one, do_less, transpose_b=True)
        dq = matmul(k, dscores)
        return dq, matmul(dscores, q), matmul(weights, do)

    if count == 1:
        dq, dk, dv = differentiate(0)
        return tf.transpose(dq, (0, 2, 1))[:, :queries], dk, dv

    def step(i, dqs, dks, dvs, dk, dv):
        found = differentiate(i)
        is_next = tf.cast(i % parts > 0, "float32")
        dk, dv = dk * is_next + found[1], dv * is_next + found[2]
        dks, dvs = dks.write(i // parts, dk), dvs.write(i // parts, dv)
        return i + 1, dqs.write(i, found[0]), dks, dvs, dk, dv

    def array(size, *shape):
        return tf.TensorArray("float32", size, element_shape=(group, *shape))

    nothing = tf.zeros((group, keys, width))
    each_key = count // parts, keys, width
    _, dq, dk, dv, _, _ = tf.while_loop(
        lambda i, *_: i < count,
        step,
        (0, array(count, width, rows), array(*each_key), array(*each_key))
        + (nothing, nothing),
        parallel_iterations=1,
    )
    dq = tf.reshape(dq.stack(), (-1, parts, group, width, rows))
    dq = tf.reshape(tf.transpose(dq, (0, 2, 1, 4, 3)), (heads, parts * rows, width))
    dk, dv = (tf.reshape(each.stack(), (heads, keys, width)) for each in (dk, dv))
    return dq[:, :queries], dk, dv


def _by_heads(x):
    """Second and third axis exchanged."""
    import tensorflow as tf

    return tf.transpose(x, (0, 2, 1, 3))


def _in_memory(query, key, value):
    """Of any float dtype, in pieces of the queries where a map would be large."""
    import tensorflow as tf

    batch, queries, heads, width = query.shape
    pieces, scores = 1, batch * queries * heads * key.shape[1]
    while scores > PIECE * pieces and queries % (2 * pieces) == 0:
        pieces *= 2
    scale = 1.0 / math.sqrt(width)

    def in_pieces(x):
        x = tf.reshape(x, (batch, pieces, -1, heads, x.shape[-1]))
        return tf.transpose(x, (1, 0, 3, 2, 4))

    def whole(x):
        x = tf.transpose(x, (1, 0, 3, 2, 4))
        return tf.reshape(x, (batch, queries, heads, width))

    def weights(query, key):
        """Of queries that are scaled."""
        scores = matmul(query, key, transpose_b=True)
        return tf.cast(tf.nn.softmax(tf.cast(scores, "float32")), key.dtype)

    def attend(query, key, value):
        key, value = _by_heads(key), _by_heads(value)
        if pieces == 1:
            return _by_heads(matmul(weights(_by_heads(query) * scale, key), value))

        def step(query):
            return matmul(weights(query * scale, key), value)

        return whole(tf.map_fn(step, in_pieces(query), parallel_iterations=1))

    def differentiate(query, key, value, out, dout):
        """Of a piece of the queries: their gradients, and shares of the others'."""
        query, dtype = query * scale, query.dtype
        p = weights(query, key)
        dvalue = matmul(p, dout, transpose_a=True)
        d = matmul(dout, value, transpose_b=True)
        d -= tf.reduce_sum(dout * out, axis=-1, keepdims=True)
        d = tf.cast(d, dtype) * p
        return matmul(d, key) * scale, matmul(d, query, transpose_a=True), dvalue

    @tf.custom_gradient
    def run(query, key, value):
        out = attend(query, key, value)

        def gradient(dout):
            k, v = _by_heads(key), _by_heads(value)
            if pieces == 1:
                args = _by_heads(query), k, v, _by_heads(out), _by_heads(dout)
                return tuple(map(_by_heads, differentiate(*args)))
            parts = [in_pieces(x) for x in (query, out, dout)]
            found = tf.TensorArray(
                query.dtype, pieces, element_shape=parts[0].shape[1:]
            )

            def step(i, found, dkey, dvalue):
                q, o, do = (x[i] for x in parts)
                dq, dk, dv = differentiate(q, k, v, o, do)
                return i + 1, found.write(i, dq), dkey + dk, dvalue + dv

            _, found, dkey, dvalue = tf.while_loop(
                lambda i, *_: i < pieces,
                step,
                (0, found, tf.zeros_like(k), tf.zeros_like(v)),
                parallel_iterations=1,
            )
            return whole(found.stack()), _by_heads(dkey), _by_heads(dvalue)

        return out, gradient

    return run(query, key, value)
