"""Gradients of our own against those of the definitions."""

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import operations, tensorflow_gradients
from kerasdiffusion.compute.changed import Changed
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.models import layers as models

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


def kept_for_gradient(function, x):
    """Tensors of the forward pass that the backward pass takes."""

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape, tensorflow_gradients.gradients():
            tape.watch(x)
            found = function(x)
            tf.no_op(name="between")
        return tape.gradient(found, x)

    graph = run.get_concrete_function(x).graph
    order = [each.name for each in graph.get_operations()]
    end = order.index("between")
    forward = set(order[:end])
    return [
        tensor
        for operation in graph.get_operations()[end:]
        for tensor in operation.inputs
        if tensor.op.name in forward
    ]


def test_attention_keeps_no_map():
    """The gradient needs no tensor that has queries times keys numbers."""

    def attend(x):
        return operations.attention(x, x, x)

    kept = kept_for_gradient(attend, normal(1, 64, 2, 4))
    sizes = [each.shape.num_elements() or 0 for each in kept]
    assert max(sizes) <= 64 * 2 * 4, kept


FROZEN = {
    "product": (keras.layers.Dense, models.Dense, (5,)),
    "convolution": (keras.layers.Conv2D, models.Conv, (5, 3)),
    "strided": (keras.layers.Conv2D, models.Conv, (5, 3)),
}


def frozen(kind, dtype="float32"):
    """A layer of ours and Keras's own, of the same numbers, and an input."""
    plain, own, sizes = FROZEN[kind]
    more = {} if kind == "product" else {"padding": "same"}
    if kind == "strided":
        more = {"strides": 2, "padding": "valid"}
    one = own(*sizes, dtype=policy(dtype), **more)
    other = plain(*sizes, **more)
    x = normal(2, 6, 4) if kind == "product" else normal(2, 7, 7, 4)
    for layer in (one, other):
        layer.build(x.shape)
    for variable, like in zip(one.variables, other.variables, strict=True):
        variable.assign(RANDOM.normal(size=variable.shape))
        like.assign(tf.cast(variable._value, "float32"))
    return one, other, x


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize("dtype", ["float32", "float16_weights"])
def test_frozen_layers_have_the_gradient_of_keras(kind, dtype):
    one, other, x = frozen(kind, dtype)

    def run(x):
        with Changed(one, ()):
            return one(x)

    results = []
    for function in (run, other):
        with tf.GradientTape() as tape, tensorflow_gradients.gradients():
            tape.watch(x)
            found = function(x)
            total = tf.reduce_sum(tf.square(found))
        results.append([found, tape.gradient(total, x)])
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", FROZEN)
def test_frozen_layers_keep_neither_input_nor_widened_weights(kind):
    one, _, x = frozen(kind, "float16_weights")

    def run(x):
        y = tf.tanh(x)  # its gradient needs `y`, and the layer's would not
        with Changed(one, ()):
            return one(tf.cast(y, "float32") * 2.0)

    dtypes = {each.dtype for each in kept_for_gradient(run, x) if len(each.shape) > 1}
    sizes = {tuple(each.shape) for each in kept_for_gradient(run, x)}
    assert tf.float16 in dtypes and tuple(one.kernel.shape) in sizes
    wide = [
        each
        for each in kept_for_gradient(run, x)
        if each.dtype == "float32" and tuple(each.shape) == tuple(one.kernel.shape)
    ]
    assert not wide
    inputs = [each for each in kept_for_gradient(run, x) if each.shape == x.shape]
    assert {each.op.type for each in inputs} <= {"Tanh"}
