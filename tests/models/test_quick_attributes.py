"""Plain attributes are set at once; what may be a weight is Keras's to keep."""

import keras
import numpy as np
import pytest

from kerasdiffusion.models.layers import Block, Dense, GroupNorm
from kerasdiffusion.models.quick_attributes import QuickAttributes
from tests.tiny import tiny_model


class Holder(Block):
    """Layers, variables and lists of them beside plain values."""

    def __init__(self):
        super().__init__()
        self.size, self.names = 3, ("a", "b")
        self.inner = Dense(2)
        self.more = [Dense(2), Dense(2)]

    def call(self, x):
        return self.inner(x) + sum(each(x) for each in self.more)


@pytest.mark.every_backend
def test_layers_and_variables_are_found_and_let_go():
    layer = Holder()
    assert (layer.size, layer.names) == (3, ("a", "b"))
    layer.size = keras.Variable(np.zeros(1, "float32"))  # where a plain value was
    layer(np.ones((1, 2), "float32"))
    assert len(layer.weights) == 7
    assert any(each is layer.size for each in layer.weights)
    layer.names = None
    layer.size = 4  # and the other way about
    assert (layer.size, layer.names) == (4, None)
    layer.inner = None
    assert layer.inner is None
    # (PyTorch's modules keep layers in a place of their own.)
    assert getattr(layer, "_modules", {}).get("inner") is None


@pytest.mark.every_backend
def test_properties_are_properties():
    layer = Holder()
    layer(np.ones((1, 2), "float32"))
    layer.trainable = False
    assert not layer.trainable and not layer.inner.trainable
    assert not layer.trainable_variables


@pytest.mark.every_backend
def test_networks_have_the_weights_that_keras_alone_would_track(monkeypatch):
    quick = [each.path for each in tiny_model().diffusion_model.weights]
    monkeypatch.delattr(QuickAttributes, "__setattr__")
    usual = [each.path for each in tiny_model().diffusion_model.weights]
    assert quick == usual
    assert "__setattr__" not in vars(QuickAttributes)
    assert GroupNorm(2, 1e-5).groups == 2
