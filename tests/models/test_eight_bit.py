"""Layers of 8 bits, against their kernels as floats."""

import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import backend
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.models.eight_bit import EightBitKernel
from kerasdiffusion.models.layers import Conv, Dense, Upsample
from kerasdiffusion.networks.quantization import quantize

pytestmark = pytest.mark.every_backend
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def floats(layer):
    """The kernel that a layer of 8 bits stands for, and its bias."""
    kernel = ops.cast(layer._kernel, "float32") / layer.kernel_scale
    return backend.to_numpy(kernel), backend.to_numpy(ops.convert_to_tensor(layer.bias))


@pytest.mark.parametrize("rows, divided", [(1, False), (3, False), (50, True)])
def test_the_scale_is_the_kernels_or_the_results_where_there_is_less_of_it(
    monkeypatch, rows, divided
):
    layer, x, rescaled = Dense(4), normal(rows, 3), []
    layer.build(x.shape)
    layer.bias.assign(normal(4))
    quantize(layer)
    own = EightBitKernel.rescaled
    monkeypatch.setattr(
        EightBitKernel, "rescaled", lambda *all: rescaled.append(1) or own(*all)
    )
    found = backend.to_numpy(layer(ops.convert_to_tensor(x)))
    kernel, bias = floats(layer)
    np.testing.assert_allclose(found, x @ kernel + bias, atol=1e-5)
    assert not rescaled == divided


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16_weights"])
@pytest.mark.parametrize("make", [Conv, Upsample], ids=["conv", "upsample"])
def test_convolutions_are_by_the_rounded_kernel(make, dtype):
    layer, x = make(5, dtype=policy(dtype)), normal(1, 16, 16, 3)
    program = backend.Program(layer, [layer], jit_compile=False)
    layer(ops.convert_to_tensor(x))
    (conv,) = [each for each in layer._flatten_layers() if isinstance(each, Conv)]
    conv.bias.assign(normal(5))
    quantize(layer)
    found = backend.to_numpy(program(x)).astype("float32")
    kernel, bias = floats(conv)
    if make is Upsample:
        x = x.repeat(2, axis=1).repeat(2, axis=2)
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    expected = np.einsum("bhwcij,ijcf->bhwf", seen, kernel.astype("float32")) + bias
    atol = 0.05 if dtype == "bfloat16" else 1e-4
    np.testing.assert_allclose(found, expected, atol=atol)
