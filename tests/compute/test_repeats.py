"""Layers that are alike are traced once, and each computes with its own weights."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.kept_traces import KeptTraces
from kerasdiffusion.compute.repeats import Repeated, traced_once
from kerasdiffusion.models.taps import Tap, tapping
from kerasdiffusion.models.tiles import Whole, tile_of
from kerasdiffusion.models.token_merging import merging
from tests.tiny import tiny_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="they are TensorFlow's"
)
X = np.linspace(-1.0, 1.0, 12, dtype="float32").reshape(4, 3)
CALLS = []


class Scaled(Repeated, keras.layers.Layer):
    """Says whenever Python runs through it."""

    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def build(self, x_shape, other_shape=None):
        self.scale = self.add_weight((x_shape[-1],), "ones", name="scale")

    def call(self, x, other=None):
        CALLS.append(self.name)
        y = self.scale * x**self.power
        return y if other is None else {"sum": y + other, "both": (y, other)}


class Holding(Repeated, keras.layers.Layer):
    """Computes with a tensor that is no weight."""

    def __init__(self, value, **kwargs):
        super().__init__(**kwargs)
        self.held = ops.convert_to_tensor(np.full(3, value, "float32"))

    def call(self, x):
        CALLS.append(self.name)
        return x + self.held


def scaled(*scales, width=3, **options):
    """Layers of these weights."""
    CALLS.clear()
    layers = [Scaled(**options) for _ in scales]
    for layer, scale in zip(layers, scales, strict=True):
        layer.build((None, width))
        layer.scale.assign(np.full(width, scale))
    return layers


def run(function, layers, *args):
    kept = KeptTraces(function, layers, None, None)
    args = keras.tree.map_structure(ops.convert_to_tensor, args)
    return keras.tree.map_structure(ops.convert_to_numpy, kept(*args)), kept


def test_one_of_a_kind_is_traced():
    layers = scaled(2.0, 3.0, 5.0)

    def function(x):
        for layer in layers:
            x = layer(x)
        return x

    found, kept = run(function, layers, X)
    assert len(CALLS) == 1
    np.testing.assert_allclose(found, 30.0 * X, rtol=1e-6)
    layers[1].scale.assign(np.full(3, -1.0))
    np.testing.assert_allclose(kept(ops.convert_to_tensor(X)), -10.0 * X, rtol=1e-6)
    assert len(CALLS) == 1


def test_layers_of_mixed_precision_read_weights_of_their_own():
    layers = scaled(2.0, 3.0, dtype="mixed_bfloat16")

    class Both(keras.layers.Layer):
        def build(self, shape):
            pass

        def call(self, x):
            return layers[1](layers[0](x))

    both = Both(dtype="mixed_bfloat16")
    both.build((None, 3))
    found, _ = run(both, layers, X)
    assert len(CALLS) == 1 and found.dtype.name == "bfloat16"
    np.testing.assert_allclose(found.astype("float32"), 6.0 * X, rtol=1e-2)


def test_outside_of_a_trace_each_is_called():
    layers = scaled(2.0, 3.0)
    found = layers[1](layers[0](ops.convert_to_tensor(X)))
    assert len(CALLS) == 2
    np.testing.assert_allclose(found, 6.0 * X, rtol=1e-6)


def test_other_settings_shapes_and_arguments_are_other_kinds():
    first, second = scaled(2.0, 3.0)
    (squared,) = scaled(1.0, power=2)

    def function(x):
        narrow = squared(second(first(x)))
        rows = second(x[:2])
        return narrow, rows, second(x, x), second(x, other=x)

    found, _ = run(function, [first, second, squared], X)
    assert len(CALLS) == 5
    np.testing.assert_allclose(found[0], 36.0 * X**2, rtol=1e-6)
    np.testing.assert_allclose(found[1], 3.0 * X[:2], rtol=1e-6)
    for each in found[2:]:
        np.testing.assert_allclose(each["sum"], 4.0 * X, rtol=1e-6)
        np.testing.assert_allclose(each["both"][0], 3.0 * X, rtol=1e-6)


def test_a_tensorflow_that_always_looks_for_effects_traces_all_the_same(monkeypatch):
    import tensorflow as tf

    plain = tf.function

    def function(*args, experimental_attributes=None, **kwargs):
        if experimental_attributes:
            raise ValueError("no such attribute")
        return plain(*args, **kwargs)

    monkeypatch.setattr(tf, "function", function)
    layers = scaled(2.0, 3.0)
    found, _ = run(lambda x: layers[1](layers[0](x)), layers, X)
    assert len(CALLS) == 1
    np.testing.assert_allclose(found, 6.0 * X, rtol=1e-6)


def test_shapes_are_known_behind_one():
    layers, shapes = scaled(2.0, 3.0), []

    def function(x):
        for layer in layers:
            x = layer(x)
            shapes.append(tuple(x.shape))
        return x

    run(function, layers, X)
    assert shapes == [(4, 3)] * 2


def test_what_holds_a_tensor_computes_with_its_own():
    CALLS.clear()
    layers = [Holding(1.0), Holding(10.0)]
    for layer in layers:
        layer.build((None, 3))

    def function(x):
        return [layer(x) for layer in layers]

    found, _ = run(function, layers, X)
    np.testing.assert_allclose(found, [X + 1.0, X + 10.0], rtol=1e-6)
    assert len(CALLS) >= 2


@pytest.mark.parametrize(
    "telling_apart",
    [
        lambda: tapping(Tap()),
        lambda: tile_of(Whole(None, None, ())),
        lambda: merging(0.5, 2, 2),
    ],
    ids=["taps", "tiles", "token merging"],
)
def test_each_is_traced_where_like_layers_differ(telling_apart):
    layers = scaled(2.0, 3.0)
    with traced_once(), telling_apart():
        for layer in layers:
            layer(ops.convert_to_tensor(X))
    assert len(CALLS) == 2


def test_programs_run_through_fewer_layers_than_they_have(monkeypatch):
    """Transformers, residual blocks and layers of the text encoder are repeated."""
    counts = {}
    model = tiny_model()
    model.build()
    repeated = [
        layer
        for part in model._parts.values()
        for layer in part._flatten_layers()
        if isinstance(layer, Repeated)
    ]
    for kind in {type(layer) for layer in repeated}:
        counts[kind.__name__] = 0

        def call(self, *args, plain=kind.call, **kwargs):
            counts[type(self).__name__] += 1
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(kind, "call", call)
    model.text_to_image("a cat", num_steps=1, seed=0, progress_bar=False)
    assert {"ResidualBlock", "Transformer", "TextEncoderLayer"} <= set(counts)
    for name, count in counts.items():
        of_kind = [x for x in repeated if type(x).__name__ == name]
        assert 0 < count < len(of_kind), name
