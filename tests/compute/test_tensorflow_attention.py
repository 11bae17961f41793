"""Attention in pieces of the cache's size, against the definition in float64."""

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import backend, operations, tensorflow_attention

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="this is TensorFlow's attention"
)
RANDOM = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return (scale * RANDOM.normal(size=shape)).astype("float32")


def defined(query, key, value):
    """Vaswani et al. 2017, equation 1, in float64."""
    query, key, value = (x.astype("float64") for x in (query, key, value))
    scores = np.einsum("bqhc,bkhc->bhqk", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhc->bqhc", weights, value)


def found(*given):
    program = backend.Program(operations.attention, [], jit_compile=False)
    return backend.to_numpy(program(*given))


@pytest.fixture
def small(monkeypatch):
    """Pieces of 60 scores, of any attention."""
    monkeypatch.setattr(tensorflow_attention, "MIN_KEYS_ONEDNN", 0)
    monkeypatch.setattr(tensorflow_attention, "MIN_KEYS", 0)
    monkeypatch.setattr(tensorflow_attention, "MIN_SCORES", 0)
    monkeypatch.setattr("kerasdiffusion.compute.tensorflow_cpu.MIN_SCORES", 0)
    monkeypatch.setattr(tensorflow_attention, "SHARE", 240)
    monkeypatch.setattr("kerasdiffusion.compute.processor.cores", lambda: 1)


def spied(monkeypatch):
    """The shapes of the queries of the pieces that are traced."""
    shapes, in_pieces = [], tensorflow_attention._in_pieces

    def spy(attend, query, key, value):
        def seen(query, key, value):
            shapes.append(tuple(query.shape))
            return attend(query, key, value)

        return in_pieces(seen, query, key, value)

    monkeypatch.setattr(tensorflow_attention, "_in_pieces", spy)
    return shapes


@pytest.mark.parametrize(
    "batch, queries, heads, keys, width, group, rows",
    [
        (1, 1, 1, 1, 1, 1, 1),
        (1, 6, 1, 10, 3, 1, 6),  # all at once
        (2, 3, 3, 5, 4, 3, 3),  # half of the heads
        (2, 12, 3, 10, 4, 1, 6),  # half of the queries of one
        (3, 13, 1, 7, 5, 1, 7),  # which is odd: 7 and 6
        (1, 3, 7, 30, 2, 1, 2),  # a number of heads that is prime
        (2, 3, 1, 61, 8, 1, 1),  # more keys than a piece holds
    ],
)
def test_pieces_are_whatever_fits(
    small, monkeypatch, batch, queries, heads, keys, width, group, rows
):
    shapes = spied(monkeypatch)
    given = [normal(batch, n, heads, width) for n in (queries, keys, keys)]
    np.testing.assert_allclose(found(*given), defined(*given), atol=1e-5)
    assert {shape[:2] for shape in shapes} == {(group, rows)}


@pytest.mark.parametrize(
    "scale, offset",
    [
        (0.0, 0.0),
        (1.0, 0.0),
        (1.0, 300.0),  # keys with much in common, which makes no difference
        (8.0, 0.0),  # scores beyond what an exponential in float32 can be
        (60.0, 5.0),  # and where the lengths tell nothing of how large they are
    ],
)
def test_no_score_is_too_large(small, scale, offset):
    query, key = normal(2, 9, 2, 16, scale=scale), normal(2, 11, 2, 16, scale=scale)
    value, key = normal(2, 11, 2, 16), key + np.float32(offset)
    expected = defined(query, key, value)
    # What products in float32 are off by, of scores as large.
    error = 1e-5 + 1e-5 * scale * (scale + offset)
    np.testing.assert_allclose(found(query, key, value), expected, atol=error)


def test_where_lengths_tell_too_little_it_is_done_by_softmax(small):
    """Two long keys across the query: no sum of exponentials but is 0 in float32."""
    query, key = np.zeros((1, 2, 1, 2), "float32"), np.zeros((1, 3, 1, 2), "float32")
    query[..., 0], key[0, :2, 0, 1], key[0, :, 0, 0] = 40.0, (60.0, -60.0), (1, 2, 3)
    value = normal(1, 3, 1, 2)
    assert 40.0 * 60.0 / np.sqrt(2.0) - tensorflow_attention.MOST > 104.0
    expected = defined(query, key, value)
    np.testing.assert_allclose(found(query, key, value), expected, atol=1e-5)


def test_what_is_no_number_stays_none(small):
    query, key, value = (normal(1, 4, 1, 2) for _ in range(3))
    query[0, 1] = np.nan
    result = found(query, key, value)
    assert np.isnan(result[0, 1]).all()
    others = [0, 2, 3]
    expected = defined(query[:, others], key, value)
    np.testing.assert_allclose(result[:, others], expected, atol=1e-5)


def test_pieces_share_the_caches_of_the_cores(monkeypatch):
    monkeypatch.setattr("kerasdiffusion.compute.processor.cores", lambda: 2)
    monkeypatch.setattr(tensorflow_attention, "SHARE", 2**20)
    assert tensorflow_attention.piece(16, 4096, 4096) == (1, 128)
    assert tensorflow_attention.piece(16, 256, 256) == (8, 256)
    assert tensorflow_attention.piece(16, 64, 64) == (16, 64)
    monkeypatch.setattr("kerasdiffusion.compute.processor.cores", lambda: 8)
    assert tensorflow_attention.piece(16, 4096, 4096) == (1, 512)


def test_few_keys_and_few_scores_are_left_to_others(monkeypatch):
    import tensorflow as tf

    def takes(batch, queries, heads, keys, dtype="float32"):
        query, key = (
            tf.TensorSpec((batch, n, heads, 40), dtype) for n in (queries, keys)
        )
        return tensorflow_attention.takes(query, key)

    assert (
        takes(2, 4096, 8, 4096) and takes(2, 1024, 8, 1024) and takes(1, 4096, 1, 4096)
    )
    assert not takes(2, 4096, 8, 77) and not takes(2, 256, 8, 256)
    assert not takes(2, 4096, 8, 4096, "bfloat16")


@pytest.mark.heavy
def test_at_the_size_of_stable_diffusion(monkeypatch):
    shapes = spied(monkeypatch)
    given = [normal(1, 4096, 2, 40) for _ in range(3)]
    np.testing.assert_allclose(found(*given), defined(*given), atol=1e-6)
    assert shapes
