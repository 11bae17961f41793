"""Gradients of our own against those of the definitions."""

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import (
    operations,
    tensorflow_attention,
    tensorflow_attention_gradients,
    tensorflow_cpu,
    tensorflow_frozen,
    tensorflow_gradients,
    tensorflow_products,
    tensorflow_winograd,
)
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
    check_against(function, function, *tensors, error=error)


def check_against(definition, function, *tensors, error=1e-4):
    """Value and gradients with ours and by a definition."""
    weight = None
    results = []
    for ours in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            if ours:
                with tensorflow_gradients.gradients():
                    found = function(*tensors)
            else:
                found = definition(*tensors)
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


def attended(query, key, value):
    """Attention as it is defined."""
    scores = tf.einsum("bqhc,bkhc->bhqk", query, key) / query.shape[-1] ** 0.5
    return tf.einsum("bhqk,bkhc->bqhc", tf.nn.softmax(scores), value)


@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
@pytest.mark.parametrize("way", ["softmax", "exponentials"])
@pytest.mark.parametrize(
    "scores, piece",
    [
        (2 * 3 * 7 * 5, (6, 7)),  # both images' heads at once
        (3 * 7 * 5, (3, 7)),  # one image's
        (3 * 5, (1, 3)),  # three queries of a head, then three, then one
    ],
)
def test_attention(scores, piece, way, far, monkeypatch):
    """Also where a score is so large that its exponential is none."""
    own = tensorflow_attention
    monkeypatch.setattr(own.processor, "cores", lambda: 1)
    monkeypatch.setattr(own, "SHARE", 4 * 2 * scores)
    monkeypatch.setattr(own, "takes", lambda query, key: way == "exponentials")
    assert own.piece(6, 7, 5, maps=2) == piece
    query, key, value = normal(2, 7, 3, 4), normal(2, 5, 3, 4), normal(2, 5, 3, 4)
    if far:
        query, key = 10 * query, 10 * key + 20
    check_against(attended, operations.attention, query, key, value, error=5e-4)


def test_attention_whose_bound_is_far_off_is_done_again(monkeypatch):
    """No key is near a query whose length is large: all exponentials would be none."""
    monkeypatch.setattr(tensorflow_attention, "takes", lambda query, key: True)
    query, key, value = (np.zeros((1, 2, 1, 2), "float32") for _ in range(3))
    query[..., 0], key[0, :, 0, 1], value[0, :, 0] = 1e4, (100, -100), ((1, 2), (3, 5))
    query[0, 1, 0] = 0.0, 0.01
    tensors = map(tf.constant, (query, key, value))
    check_against(attended, operations.attention, *tensors)


@pytest.mark.parametrize("piece", [2**24, 2 * 3 * 2 * 5])
def test_attention_in_half_precision(piece, monkeypatch):
    """Whole, and in four pieces of its queries."""
    monkeypatch.setattr(tensorflow_attention_gradients, "PIECE", piece)
    tensors = normal(2, 8, 3, 4), normal(2, 5, 3, 4), normal(2, 5, 3, 4)

    def attend(*tensors):
        tensors = (tf.cast(each, "bfloat16") for each in tensors)
        return tf.cast(operations.attention(*tensors), "float32")

    check_against(attended, attend, *tensors, error=3e-2)


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


def test_narrow_products():
    def defined(x, down, up):
        return tf.matmul(tf.matmul(x, down), up)

    tensors = normal(2, 5, 8), normal(8, 3), normal(3, 6)
    check_against(defined, tensorflow_frozen.narrow_product, *tensors)


FROZEN = {
    "product": (keras.layers.Dense, models.Dense, (5,)),
    "convolution": (keras.layers.Conv2D, models.Conv, (5, 3)),
    "1x1": (keras.layers.Conv2D, models.Conv, (5, 1)),
    "2x2": (keras.layers.Conv2D, models.Conv, (5, 2)),
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


WAYS = [
    *("few pixels", "many", "by Winograd's way", "by oneDNN"),
    "by single products",
]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """How the gradient of a frozen layer is made, whatever the processor."""
    most = 10**9 if request.param == "few pixels" else 0
    single = request.param == "by single products" and tensorflow_products.are_right()
    monkeypatch.setattr(tensorflow_products, "are_there", lambda: single)
    monkeypatch.setattr(tensorflow_frozen, "MOST_PIXELS", most)
    has_onednn = request.param == "by oneDNN"
    monkeypatch.setattr(tensorflow_cpu, "has_onednn", lambda: has_onednn)
    if request.param == "by Winograd's way":
        any_size = tensorflow_winograd.SMALL._replace(min_tiles=0, min_channels=0)
        monkeypatch.setattr(tensorflow_winograd, "WAYS", (any_size,))
    quicker = request.param == "by Winograd's way"
    monkeypatch.setattr(tensorflow_winograd, "is_quicker", lambda: quicker)
    return request.param


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize("dtype", ["float32", "float16_weights"])
def test_frozen_layers_have_the_gradient_of_keras(kind, dtype, way):
    one, other, x = frozen(kind, dtype)

    def run(x):
        with Changed(one, ()):
            return one(x)

    def differentiated(function):
        with tf.GradientTape() as tape, tensorflow_gradients.gradients():
            tape.watch(x)
            found = function(x)
            total = tf.reduce_sum(tf.square(found))
        return found, tape.gradient(total, x)

    results = [differentiated(run), differentiated(other)]
    if way == "by single products":  # which are of graphs
        results[0] = tf.function(differentiated, autograph=False)(run)
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
