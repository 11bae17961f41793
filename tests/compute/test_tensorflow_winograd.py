"""3x3 convolutions by Winograd's way, against the definition in float64."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import (
    backend,
    kernels,
    processor,
    tensorflow_cpu,
    tensorflow_winograd,
)
from kerasdiffusion.models.layers import Conv, Upsample

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="this is TensorFlow's convolution"
)
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def defined(x, kernel):
    """Sums of shifted pixels times a kernel, in float64."""
    height, width = x.shape[1:3]
    x = np.pad(x.astype("float64"), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j].astype("float64")
        for i in range(3)
        for j in range(3)
    )


@pytest.fixture(params=["SMALL", "LARGE"])
def any_size(request, monkeypatch):
    """Convolutions of any size, on any processor, are made this way."""
    way = getattr(tensorflow_winograd, request.param)
    way = way._replace(min_tiles=0, min_channels=0)
    monkeypatch.setattr(tensorflow_winograd, "WAYS", (way,))
    monkeypatch.setattr(tensorflow_winograd, "is_quicker", lambda: True)
    return way


@pytest.fixture
def pieces(monkeypatch):
    """The groups and rows of the pieces that are traced."""
    found, one = [], tensorflow_winograd._piece

    def spy(way, x, kernel, group, rows, *more):
        found.append((group, rows))
        return one(way, x, kernel, group, rows, *more)

    monkeypatch.setattr(tensorflow_winograd, "_piece", spy)
    return found


def by_layer(x, filters, **options):
    """A layer's kernel and bias, and what it makes of `x` in a program."""
    layer = Conv(filters, **options)
    layer.build(x.shape)
    layer.bias.assign(normal(filters))
    layer.kernel.assign(normal(*layer.kernel.shape))
    result = backend.Program(layer, [layer], jit_compile=False)(
        ops.convert_to_tensor(x)
    )
    return *map(backend.to_numpy, (layer.kernel, layer.bias)), backend.to_numpy(result)


@pytest.mark.parametrize(
    "shape, filters, tiles, group, rows",
    [
        ((1, 1, 1, 1), 1, 9, 1, 1),
        ((1, 2, 3, 3), 2, 9, 1, 2),
        ((3, 3, 2, 4), 5, 9, 1, 3),
        ((4, 2, 2, 2), 3, 9, 2, 2),  # images in groups of two
        ((2, 5, 2, 3), 3, 7, 1, 3),  # three rows of tiles, then two
        ((1, 3, 4, 2), 2, 1, 1, 1),  # more tiles in a row than a piece holds
    ],
)
@pytest.mark.parametrize("cut", [0, 1])  # a row and a column of the last tiles
def test_pieces_are_whatever_fits(
    any_size, pieces, monkeypatch, shape, filters, tiles, group, rows, cut
):
    side = any_size.side
    most = tiles * 4 * (side + 2) ** 2 * max(shape[-1], filters)
    ways = (any_size._replace(piece=most),)
    monkeypatch.setattr(tensorflow_winograd, "WAYS", ways)
    x = normal(shape[0], *(side * n - cut for n in shape[1:3]), shape[-1])
    kernel, bias, found = by_layer(x, filters)
    np.testing.assert_allclose(found, defined(x, kernel) + bias, atol=5e-5)
    assert set(pieces) == {(group, rows)}


@pytest.mark.parametrize(
    "bits, wide, is_so", [(8, 11, False), (8, 12, True), (32, 0, True)]
)
def test_a_large_kernel_of_8_bits_is_not_laid_out_for_it(
    any_size, pieces, monkeypatch, bits, wide, is_so
):
    monkeypatch.setattr(kernels, "WIDE", wide)
    x, layer = normal(1, 4, 4, 3), Conv(4)
    layer.build(x.shape)
    layer.kernel.assign(normal(*layer.kernel.shape))
    if bits == 8:
        layer.quantize("int8")
    kernel = backend.to_numpy(layer._kernel)
    if bits == 8:
        kernel = kernel / backend.to_numpy(layer.kernel_scale)
    found = backend.Program(layer, [layer], jit_compile=False)(x)
    np.testing.assert_allclose(found, defined(x, kernel), atol=5e-5)
    assert bool(pieces) == is_so


@pytest.mark.parametrize("points", [(0, 1), (0, 1, -1), (0, 1, -1, 2, -2, 0.5, -0.5)])
def test_any_points_make_a_way(points):
    way = tensorflow_winograd.way(*points, min_tiles=0, min_channels=0, piece=1)
    line, kernel = normal(way.side + 2), normal(3)
    found = way.result @ ((way.kernel @ kernel) * (way.pixels @ line))
    np.testing.assert_allclose(found, np.correlate(line, kernel), atol=1e-5)


@pytest.mark.parametrize(
    "shape, filters, most",
    [((1, 1, 1, 1), 1, 1), ((2, 5, 4, 3), 6, 2**11), ((3, 8, 7, 4), 2, 2**20)],
)
@pytest.mark.parametrize("points", [(0, 1), (0, 1, -1, 0.5)])
def test_an_image_is_doubled_and_convolved(
    monkeypatch, pieces, shape, filters, points, most
):
    limits = dict.fromkeys(("min_tiles", "min_channels"), 0)
    way = tensorflow_winograd.doubling(*points, **limits, piece=most)
    monkeypatch.setattr(tensorflow_winograd, "DOUBLED", way)
    monkeypatch.setattr(tensorflow_winograd, "is_quicker", lambda: True)
    monkeypatch.setattr(tensorflow_cpu, "MIN_PIXELS", 0)
    layer, x = Upsample(filters), normal(*shape)
    layer(x)
    layer.conv.bias.assign(normal(filters))
    kernel, bias = map(backend.to_numpy, (layer.conv.kernel, layer.conv.bias))
    found = backend.Program(layer, [layer], jit_compile=False)(x)
    expected = defined(x.repeat(2, axis=1).repeat(2, axis=2), kernel) + bias
    np.testing.assert_allclose(found, expected, atol=5e-5)
    assert pieces


def test_the_gradient_of_its_input_is_made_by_the_kernel_turned_round(any_size, pieces):
    import tensorflow as tf

    x, kernel, dy = normal(2, 5, 3, 4), normal(3, 3, 4, 6), normal(2, 5, 3, 6)
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    found = tensorflow_winograd.gradient(tf.constant(dy), kernel)
    assert pieces and found.shape == x.shape
    np.testing.assert_allclose(found, defined(dy, turned), atol=2e-5)


def test_a_kernel_is_made_ready_when_its_pixels_are_there(any_size):
    """Else those of all layers are, ahead of the first: two thirds of a gigabyte."""
    import tensorflow as tf

    kernel = tf.Variable(normal(3, 3, 4, 4))
    twice = tf.function(
        lambda x: tensorflow_winograd.convolve(
            tf.tanh(tensorflow_winograd.convolve(x, kernel)), kernel
        )
    )
    graph = twice.get_concrete_function(tf.TensorSpec((1, 4, 4, 4))).graph
    waits = [each.control_inputs for each in graph.get_operations()]
    assert sum(map(len, waits)) >= 2
    assert any("Tanh" in str(op.inputs) for ops in waits for op in ops)


@pytest.mark.parametrize(
    "options",
    [{"size": 1}, {"padding": "valid"}, {"strides": 2}, {"dtype": "bfloat16"}],
)
def test_other_convolutions_are_kerass(any_size, pieces, options):
    x = normal(1, 6, 6, 4)
    kernel, bias, found = by_layer(x, 4, **options)
    assert not pieces
    if options == {"size": 1}:
        np.testing.assert_allclose(found, x @ kernel[0, 0] + bias, atol=1e-5)


def test_kernels_of_8_bits_too(any_size, pieces):
    layer, x = Conv(4), normal(1, 6, 6, 4)
    layer.build(x.shape)
    layer.quantize("int8")
    expected = backend.to_numpy(layer(x))
    found = backend.Program(layer, [layer], jit_compile=False)(x)
    np.testing.assert_allclose(backend.to_numpy(found), expected, atol=1e-5)
    assert pieces


@pytest.mark.parametrize(
    "shape, filters, side",
    [
        ((2, 64, 64, 320), 320, 4),
        ((2, 32, 32, 640), 640, 4),
        ((1, 128, 128, 512), 512, 4),
        ((1, 256, 256, 128), 128, 4),
        ((1, 32, 32, 640), 640, 2),  # a kernel for 36 products is what takes the time
        ((2, 16, 16, 1280), 1280, None),  # and for 16
        ((1, 256, 256, 64), 128, None),  # here the sums
        ((2, 64, 64, 4), 320, None),
        ((2, 64, 64, 320), 4, None),
    ],
)
def test_it_is_for_many_pixels_of_many_channels(monkeypatch, shape, filters, side):
    import tensorflow as tf

    monkeypatch.setattr(tensorflow_winograd, "is_quicker", lambda: True)
    x = tf.TensorSpec(shape, "float32")
    kernel = tf.TensorSpec((3, 3, shape[-1], filters), "float32")
    assert not tensorflow_winograd.takes(x, kernel)
    with tensorflow_cpu.kernels():
        assert tensorflow_winograd.takes(x, kernel) == (side is not None)
    way = tensorflow_winograd.chosen(shape, kernel.shape)
    assert getattr(way, "side", None) == side


@pytest.mark.parametrize(
    "known, switch, quicker",
    [
        (("avx", "avx2", "fma"), None, True),
        (("avx", "avx2", "fma"), "0", True),
        (("avx", "avx2", "fma"), "1", False),  # oneDNN's own are asked for
        (("avx2", "fma", "avx512f"), None, True),
        (("avx2", "fma", "avx_vnni"), None, False),
        (("avx2", "avx512f", "avx512_vnni"), None, False),
        (("avx",), None, False),
        (("asimd",), None, False),
        ((), None, False),
    ],
)
def test_it_is_for_processors_without_onednn(monkeypatch, known, switch, quicker):
    monkeypatch.setattr(processor, "here", lambda: known)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if switch is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", switch)
    assert tensorflow_winograd.is_quicker() == quicker


@pytest.mark.heavy
@pytest.mark.parametrize("name, off", [("SMALL", 3e-6), ("LARGE", 1.2e-5)])
def test_at_the_size_of_stable_diffusion(monkeypatch, pieces, name, off):
    """Half as much again as what a direct convolution in float32 has; six times."""
    ways = (getattr(tensorflow_winograd, name),)
    monkeypatch.setattr(tensorflow_winograd, "WAYS", ways)
    monkeypatch.setattr(tensorflow_winograd, "is_quicker", lambda: True)
    x = normal(1, 64, 64, 320)
    kernel, bias, found = by_layer(x, 320)
    error = found - (defined(x, kernel) + bias)
    direct = x.shape[-1] ** 0.5 * 3  # the deviation of a result
    assert pieces and np.abs(error).max() < off * direct
