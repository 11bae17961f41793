"""The kernels against the definitions, and when they are used."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import backend, operations, tensorflow_cpu
from kerasdiffusion.models.layers import GroupNorm, Upsample
from tests.compute.test_backend import attended
from tests.models.test_layers import grouped

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="these are TensorFlow's kernels"
)
RANDOM = np.random.default_rng(0)


def normal(*shape, mean=0.0):
    return RANDOM.normal(mean, size=shape).astype("float32")


def program(function, *layers):
    return backend.Program(function, layers, jit_compile=False)


def kernels_of(function, *args):
    """Names of the operations in the function's program."""
    import tensorflow as tf

    args = [tf.convert_to_tensor(each) for each in args]
    traced = tf.function(tensorflow_cpu.kernels()(function), autograph=False)
    return {
        each.type for each in traced.get_concrete_function(*args).graph.get_operations()
    }


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    for name in ("MIN_ELEMENTS", "MIN_SCORES", "MIN_PIXELS"):
        monkeypatch.setattr(tensorflow_cpu, name, 0)


@pytest.mark.parametrize("dtype, error", [("float32", 1e-5), ("bfloat16", 0.03)])
def test_attention(dtype, error):
    query, key, value = normal(2, 6, 3, 4), normal(2, 5, 3, 4), normal(2, 5, 3, 4)

    def attention(*tensors):
        return operations.attention(*(ops.cast(each, dtype) for each in tensors))

    found = program(attention)(query, key, value)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    found = backend.to_numpy(ops.cast(found, "float32"))
    assert found == pytest.approx(attended(query, key, value, False), abs=error)
    # Keras' own would be an einsum.
    found = kernels_of(attention, query, key, value)
    assert "Einsum" not in found
    assert found & {"BatchMatMulV2", "_MklBatchMatMulV2"}


def test_a_large_attention_in_bfloat16_goes_in_pieces(monkeypatch):
    query, key, value = normal(2, 8, 3, 4), normal(2, 5, 3, 4), normal(2, 5, 3, 4)
    monkeypatch.setattr(tensorflow_cpu, "MAX_SCORES", 2 * 8 * 3 * 5 - 1)
    monkeypatch.setattr(tensorflow_cpu, "PIECE", 2 * 2 * 3 * 5)

    def attention(*tensors):
        return operations.attention(*(ops.cast(each, "bfloat16") for each in tensors))

    found = program(attention)(query, key, value)
    found = backend.to_numpy(ops.cast(found, "float32"))
    assert found == pytest.approx(attended(query, key, value, False), abs=0.03)
    assert "While" in " ".join(kernels_of(attention, query, key, value))


@pytest.mark.parametrize("shape", [(1, 1, 1, 6), (3, 4, 5, 6), (2, 7, 3, 12)])
def test_group_norm(shape):
    x, gamma, beta = normal(*shape, mean=4), normal(shape[-1]), normal(shape[-1])

    def norm(*tensors):
        return operations.group_norm(*tensors, 3, 1e-5)

    found = backend.to_numpy(program(norm)(x, gamma, beta))
    assert found == pytest.approx(grouped(x, 3, 1e-5) * gamma + beta, abs=1e-4)
    assert "FusedBatchNormV3" in kernels_of(norm, x, gamma, beta)


def test_group_norm_in_bfloat16_reckons_in_float32():
    x = ops.cast(normal(1, 32, 32, 8, mean=30), "bfloat16")
    layer = GroupNorm(2, 1e-5, dtype="bfloat16")
    layer.build(x.shape)
    found = program(layer, layer)(x)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    expected = grouped(backend.to_numpy(ops.cast(x, "float32")), 2, 1e-5)
    found = backend.to_numpy(ops.cast(found, "float32"))
    assert found == pytest.approx(expected, abs=2e-2)


def test_upsample():
    """Each of the four kernels sees what the one would see."""
    layer, x = Upsample(5), normal(2, 4, 3, 6)
    plain = backend.to_numpy(layer(x))  # not within a program
    assert plain.shape == (2, 8, 6, 5)
    layer.conv.bias.assign(normal(5))
    plain = backend.to_numpy(layer(x))
    assert backend.to_numpy(program(layer, layer)(x)) == pytest.approx(plain, abs=1e-5)
    assert "Pack" in kernels_of(layer, x)


def test_upsample_to_an_odd_size_is_the_plain_one():
    layer, x, like = Upsample(5), normal(1, 4, 3, 6), normal(1, 7, 6, 1)
    plain = backend.to_numpy(layer(x, like))
    assert plain.shape == (1, 7, 6, 5)
    found = backend.to_numpy(program(layer, layer)(x, like))
    assert found == pytest.approx(plain, abs=1e-6)


def test_gradients_do_not_go_through_kernels():
    """TensorFlow knows no gradient of a batch's mean and variance."""
    import tensorflow as tf

    x = tf.constant(normal(1, 4, 4, 6))
    assert not tensorflow_cpu.has_group_norm(x)
    with tensorflow_cpu.kernels():
        assert tensorflow_cpu.has_group_norm(x)
        assert not tensorflow_cpu.has_group_norm(tf.cast(x, "float16"))
    assert not tensorflow_cpu.has_group_norm(x)


def test_small_tensors_are_left_to_keras(monkeypatch):
    monkeypatch.undo()
    x = normal(1, 8, 8, 32)
    with tensorflow_cpu.kernels():
        x = ops.convert_to_tensor(x)
        assert not tensorflow_cpu.has_group_norm(x)
        assert not tensorflow_cpu.has_upsample(x)
        assert not tensorflow_cpu.has_attention(x, x)


def test_silu_is_kerass():
    x = np.linspace(-20.0, 20.0, 81, dtype="float32")
    found = backend.to_numpy(program(operations.silu)(x))
    np.testing.assert_allclose(found, ops.silu(x), rtol=1e-6)
    assert "IdentityN" not in kernels_of(operations.silu, x)
