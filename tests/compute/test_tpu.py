"""What only TPUs have, on a CPU: the kernel is interpreted."""

import functools

import numpy as np
import pytest

from kerasdiffusion.compute import tpu

jax = pytest.importorskip("jax")
if jax.__version_info__ < (0, 7):
    pytest.skip("the kernel needs jax 0.7", allow_module_level=True)

attention = functools.partial(tpu.attention, interpret=True)


def normal(*shape):
    random = np.random.default_rng(sum(shape))
    return jax.numpy.asarray(random.normal(size=shape), "bfloat16")


def plain(query, key, value):
    """Attention in float32, written out."""
    query, key, value = (x.astype("float32") for x in (query, key, value))
    logits = jax.numpy.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    return jax.numpy.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), value)


@pytest.mark.parametrize(
    ("queries", "keys", "heads", "width"),
    [(256, 256, 2, 40), (384, 77, 3, 24), (128, 300, 1, 160)],
)
def test_the_kernel_gives_what_attention_is(queries, keys, heads, width):
    query, key = normal(2, queries, heads, width), normal(2, keys, heads, width)
    value = 2 + normal(2, keys, heads, width)[:, ::-1]
    found = attention(query, key, value, plain)
    assert found.shape == query.shape and found.dtype == "bfloat16"
    expected = np.asarray(plain(query, key, value))
    assert np.abs(expected - expected.mean()).max() > 0.3
    # A bfloat16 near 2 or 4 is right to 1/128.
    assert np.asarray(found, "float32") == pytest.approx(expected, abs=2e-2)


def test_large_scores_do_not_overflow():
    query = 200 * normal(1, 128, 1, 8)
    found = np.asarray(attention(query, query, query, plain), "float32")
    assert np.isfinite(found).all() and np.abs(found).max() > 100


def test_the_kernel_has_the_gradients_of_plain_attention():
    tensors = [normal(1, 128, 2, 8), normal(1, 10, 2, 8), normal(1, 10, 2, 8) + 1]

    def loss(function, *tensors):
        return (function(*tensors).astype("float32") ** 2).sum()

    def rounded(*tensors):
        return plain(*tensors).astype("bfloat16")

    kernel = functools.partial(attention, plain=rounded)
    found, expected = (
        jax.grad(functools.partial(loss, each), argnums=(0, 1, 2))(*tensors)
        for each in (kernel, plain)
    )
    for one, other in zip(found, expected, strict=True):
        other = np.asarray(other, "float32")
        size = float(np.abs(other).max())
        assert size > 0.1
        assert np.asarray(one, "float32") == pytest.approx(other, abs=2e-2 * size)


def test_the_kernel_is_for_long_bfloat16_on_tpus(monkeypatch):
    long, short = normal(2, 256, 2, 8), normal(2, 64, 2, 8)
    assert not tpu.has_kernel(long, long)  # this is a CPU
    monkeypatch.setattr(tpu, "_target", "some mesh")
    assert tpu.has_kernel(long, short)
    assert not tpu.has_kernel(short, long)
    assert not tpu.has_kernel(long.astype("float32"), long)
    # All keys of a picture at a time must fit into the chip's own memory.
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=long.dtype)
    assert tpu.has_kernel(shape((2, 9216, 8, 40)), shape((2, 9216, 8, 40)))
    assert not tpu.has_kernel(shape((2, 65536, 8, 40)), shape((2, 65536, 8, 40)))
