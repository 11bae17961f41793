"""Images and rows that go through a program in pieces, against whole ones."""

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import (
    backend,
    kernels,
    tensorflow_cpu,
    tensorflow_pieces,
    tensorflow_rows,
)
from kerasdiffusion.compute import tensorflow_winograd as winograd
from kerasdiffusion.models.layers import ResidualBlock
from kerasdiffusion.models.transformer import GatedPerceptron
from tests.tiny import lively

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="these are TensorFlow's kernels"
)
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def filled(layer, *shape):
    layer.build(shape)
    for variable in layer.variables:
        variable.assign(lively(RANDOM, variable.path, tuple(variable.shape)))
    return layer


def run(layer, x):
    program = backend.Program(layer, [layer], jit_compile=False)
    return backend.to_numpy(program(x))


@pytest.mark.parametrize("by_winograd", [False, True])
@pytest.mark.parametrize("shape", [(1, 7, 5, 4), (2, 6, 6, 4), (1, 1, 1, 4)])
def test_a_large_image_is_normalised_as_it_is_convolved(
    monkeypatch, shape, by_winograd
):
    block = filled(ResidualBlock(8, 2, 1e-5), *shape)
    x = normal(*shape)
    expected = backend.to_numpy(block(x))
    monkeypatch.setattr(kernels, "LARGE", 0)
    monkeypatch.setattr(tensorflow_cpu, "MIN_ELEMENTS", 0)
    monkeypatch.setattr(
        winograd, "takes", lambda _, kernel: by_winograd and kernel.shape[0] == 3
    )
    for most in (1, 64, 2**20):  # a row, some rows and all of them
        monkeypatch.setattr(tensorflow_rows, "PIECE", most)
        monkeypatch.setattr(winograd, "WAYS", (winograd.SMALL._replace(piece=most),))
        found = run(block, x)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    seen = []
    monkeypatch.setattr(block.norm1, "call", lambda x: seen.append(x) or x)
    run(block, x)
    assert not seen  # the normalised image is nowhere whole


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 12, 100])
def test_a_perceptron_goes_through_its_tokens_in_pieces(monkeypatch, rows):
    layer, x = GatedPerceptron(4), normal(2, 6, 4)
    layer(x)
    expected = backend.to_numpy(layer(x))
    of_rows = tensorflow_pieces.in_rows
    monkeypatch.setattr(
        tensorflow_pieces,
        "in_rows",
        lambda f, x, channels, _: of_rows(f, x, channels, rows),
    )
    np.testing.assert_allclose(run(layer, x), expected, atol=1e-6)
