"""Matrix products one by one by oneDNN, against NumPy's in float64."""

import platform
import sys

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import (
    backend,
    kernels,
    processor,
    tensorflow_cpu,
    tensorflow_products,
)
from kerasdiffusion.models.layers import Dense

if keras.backend.backend() != "tensorflow":
    pytest.skip("these are TensorFlow's products", allow_module_level=True)
import tensorflow as tf  # noqa: E402

X86 = sys.platform == "linux" and platform.machine() == "x86_64"
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return tf.constant(RANDOM.normal(size=shape), "float32")


def in_program(function):
    """What a function gives in a graph, and the operations of that."""
    traced = tf.function(function, autograph=False).get_concrete_function()
    found = traced()
    return found.numpy(), {each.type for each in traced.graph.get_operations()}


@pytest.fixture
def there(monkeypatch):
    """On any x86, whichever way TensorFlow multiplies there."""
    if not X86:
        pytest.skip("TensorFlow has these operations in its builds for x86")
    monkeypatch.setattr(processor, "here", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(tensorflow_cpu, "has_onednn", lambda: False)
    monkeypatch.setattr(backend, "has_accelerator", lambda: False)
    assert tensorflow_products.are_there()


@pytest.mark.parametrize("pile", [(), (3,), (2, 3)])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_it_is_the_product(there, pile, transpose_a, transpose_b):
    a = normal(*pile, *((7, 5) if transpose_a else (5, 7)))
    b = normal(*pile, *((6, 7) if transpose_b else (7, 6)))
    found, kinds = in_program(
        lambda: tensorflow_products.matmul(a, b, transpose_a, transpose_b)
    )
    left = np.swapaxes(a, -1, -2) if transpose_a else a.numpy()
    right = np.swapaxes(b, -1, -2) if transpose_b else b.numpy()
    expected = left.astype("float64") @ right.astype("float64")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert kinds >= {"_MklBatchMatMulV2" if pile else "_MklMatMul"}
    assert not kinds & {"MatMul", "BatchMatMulV2"}


def test_a_dense_layer_in_a_program_has_it(there):
    layer = Dense(6)
    layer.build((2, 3, 5))
    layer.kernel.assign(normal(5, 6))
    x = normal(2, 3, 5)
    with tensorflow_cpu.kernels():
        found, kinds = in_program(lambda: layer(x))
    np.testing.assert_allclose(found, layer(x), atol=1e-5)
    assert "_MklMatMul" in kinds


def test_what_keras_differentiates_or_compiles_has_none(there):
    x, kernel = normal(3, 5), normal(5, 6)
    found, kinds = in_program(lambda: kernels.product(x, kernel))
    np.testing.assert_allclose(found, x @ kernel, atol=1e-5)
    assert "_MklMatMul" not in kinds


@pytest.mark.parametrize(
    "a, b, transpose_b, expected",
    [
        ((8, 5), (5, 2048), False, False),  # few rows of a wide matrix
        ((8, 5), (2048, 5), True, True),  # the same, transposed
        ((257, 5), (5, 2048), False, True),
        ((8, 5), (5, 2047), False, True),
        ((2, 8, 5), (2, 5, 2048), False, True),
        ((2, 8, 5), (5, 6), False, False),  # one pile, one matrix
    ],
)
def test_which_it_takes(there, a, b, transpose_b, expected):
    with tf.Graph().as_default():
        a, b = tf.zeros(a), tf.zeros(b)
        assert tensorflow_products.takes(a, b, False, transpose_b) == expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_it_is_for_float32(there, dtype):
    with tf.Graph().as_default():
        a, b = tf.zeros((8, 5), dtype), tf.zeros((5, 6), dtype)
        assert not tensorflow_products.takes(a, b)


def test_without_a_graph_it_is_tensorflows_own(there):
    a, b = normal(3, 5), normal(5, 6)
    assert not tensorflow_products.takes(a, b)
    np.testing.assert_allclose(tensorflow_products.matmul(a, b), a @ b, atol=1e-5)


@pytest.mark.parametrize(
    "known, onednn, accelerator",
    [({"avx"}, False, False), ({"avx2"}, True, False), ({"avx2"}, False, True)],
)
def test_it_is_for_cpus_that_multiply_by_eigen(
    there, monkeypatch, known, onednn, accelerator
):
    monkeypatch.setattr(processor, "here", lambda: frozenset(known))
    monkeypatch.setattr(tensorflow_cpu, "has_onednn", lambda: onednn)
    monkeypatch.setattr(backend, "has_accelerator", lambda: accelerator)
    assert not tensorflow_products.are_there()


@pytest.mark.parametrize("name, value", [("MATRICES", "_NoSuch"), ("PILES", "_NoSuch")])
def test_a_build_without_them_multiplies_as_ever(monkeypatch, there, name, value):
    own = value, *getattr(tensorflow_products, name)[1:]
    monkeypatch.setattr(tensorflow_products, name, own)
    _is_refused(monkeypatch)


def test_wrong_products_are_not_taken(monkeypatch, there):
    one = tensorflow_products._by_onednn
    monkeypatch.setattr(
        tensorflow_products, "_by_onednn", lambda *args: 1.001 * one(*args)
    )
    _is_refused(monkeypatch)


def _is_refused(monkeypatch):
    tried = tensorflow_products.are_right.__wrapped__
    monkeypatch.setattr(tensorflow_products, "are_right", tried)
    a, b = normal(3, 5), normal(5, 6)
    found, kinds = in_program(lambda: tensorflow_products.matmul(a, b))
    np.testing.assert_allclose(found, a @ b, atol=1e-5)
    assert "MatMul" in kinds and not tensorflow_products.are_there()
