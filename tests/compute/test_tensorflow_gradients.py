"""Gradients of our own against those of the definitions."""

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import operations, tensorflow_gradients

if keras.backend.backend() != "tensorflow":
    pytest.skip("these are TensorFlow's", allow_module_level=True)

import tensorflow as tf

RANDOM = np.random.default_rng(0)


def normal(*shape, mean=0.0):
    return tf.constant(RANDOM.normal(mean, size=shape), "float32")


def check(function, *tensors, error=1e-4):
    """Value and gradients with ours and by the definition."""
    weight = None
    results = []
    for ours in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            if ours:
                with tensorflow_gradients.gradients():
                    found = function(*tensors)
            else:
                found = function(*tensors)
            weight = normal(*found.shape) if weight is None else weight
            total = tf.reduce_sum(weight * found)
        results.append([found, *tape.gradient(total, tensors)])
    for plain, own in zip(*results, strict=True):
        assert float(tf.reduce_max(tf.abs(plain))) > 0.05
        size = float(tf.reduce_max(tf.abs(plain)))
        np.testing.assert_allclose(own, plain, atol=error * max(size, 1.0))


@pytest.mark.parametrize("then_silu", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_group_norm(batch, then_silu):
    x, gamma, beta = normal(batch, 5, 3, 8, mean=2), normal(8, mean=1), normal(8)

    def norm(*tensors):
        return operations.group_norm(*tensors, 4, 1e-5, then_silu)

    check(norm, x, gamma, beta)


def test_layer_norm():
    x, gamma, beta = normal(2, 5, 8, mean=2), normal(8, mean=1), normal(8)
    check(lambda *tensors: operations.layer_norm(*tensors, 1e-5), x, gamma, beta)


def test_gated_gelu():
    check(operations.gated_gelu, 2 * normal(2, 5, 8))


@pytest.mark.parametrize("piece", [2**24, 2 * 3 * 2 * 5])
def test_attention(piece, monkeypatch):
    """Whole, and in four pieces of its queries."""
    monkeypatch.setattr(tensorflow_gradients, "PIECE", piece)
    query, key, value = normal(2, 8, 3, 4), normal(2, 5, 3, 4), normal(2, 5, 3, 4)
    check(operations.attention, query, key, value)


def test_attention_keeps_no_map():
    """The gradient needs no tensor that has queries times keys numbers."""
    query = normal(1, 64, 2, 4)

    @tf.function(autograph=False)
    def run(query):
        with tf.GradientTape() as tape, tensorflow_gradients.gradients():
            tape.watch(query)
            found = operations.attention(query, query, query)
            tf.no_op(name="between")
        return tape.gradient(found, query)

    graph = run.get_concrete_function(query).graph
    order = [each.name for each in graph.get_operations()]
    end = order.index("between")
    forward = set(order[:end])
    kept = {
        tensor.name: tensor.shape.num_elements()
        for operation in graph.get_operations()[end:]
        for tensor in operation.inputs
        if tensor.op.name in forward
    }
    assert max(filter(None, kept.values())) <= 64 * 2 * 4, kept
