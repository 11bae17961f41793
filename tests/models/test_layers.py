import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import backend
from kerasdiffusion.models.layers import (
    Attention,
    Conv,
    Dense,
    Downsample,
    GroupNorm,
    LayerNorm,
    ResidualBlock,
    Upsample,
    flatten_pixels,
)

pytestmark = pytest.mark.every_backend
RANDOM = np.random.default_rng(0)


def normal(*shape, mean=0.0):
    return (mean + RANDOM.normal(size=shape)).astype("float32")


def values(tensor):
    return ops.convert_to_numpy(tensor)


def grouped(x, groups, epsilon):
    """Group normalisation in float64, written out."""
    batch, height, width, channels = x.shape
    x = x.astype("float64").reshape(batch, height * width, groups, channels // groups)
    mean = x.mean((1, 3), keepdims=True)
    variance = ((x - mean) ** 2).mean((1, 3), keepdims=True)
    x = (x - mean) / np.sqrt(variance + epsilon)
    return x.reshape(batch, height, width, channels)


@pytest.mark.parametrize("groups, epsilon", [(1, 1e-5), (3, 0.5), (12, 1e-6)])
def test_group_norm(groups, epsilon):
    layer, x = GroupNorm(groups, epsilon), normal(2, 3, 5, 12, mean=4)
    layer.build(x.shape)
    gamma, beta = normal(12), normal(12)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    expected = grouped(x, groups, epsilon) * gamma + beta
    assert values(layer(x)) == pytest.approx(expected, abs=1e-4)


def test_group_norm_applies_silu():
    x = normal(1, 4, 4, 8)
    normed = values(GroupNorm(2, 1e-5)(x))
    expected = normed / (1 + np.exp(-normed))
    assert values(GroupNorm(2, 1e-5, silu=True)(x)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
def test_norms_are_computed_in_float32(dtype):
    """Squares of such values overflow float16, their sums lose bfloat16's digits."""
    half = dtype.removeprefix("mixed_")
    x = values(ops.cast(ops.cast(normal(1, 32, 32, 8, mean=30), half), "float32"))
    found = GroupNorm(2, 1e-5, dtype=dtype)(ops.cast(x, half))
    assert keras.backend.standardize_dtype(found.dtype) == half
    found = values(ops.cast(found, "float32"))
    assert found == pytest.approx(grouped(x, 2, 1e-5), abs=2e-2)
    tokens = x.reshape(1, 1024, 8)
    centred = tokens - tokens.mean(-1, keepdims=True)
    expected = centred / np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
    found = values(ops.cast(LayerNorm(dtype=dtype)(ops.cast(tokens, half)), "float32"))
    assert found == pytest.approx(expected, abs=3e-2)


def test_group_norm_refuses_channels_that_no_group_divides():
    with pytest.raises(ValueError, match="multiple of its 5 groups. Received: 8 chan"):
        GroupNorm(5, 1e-5).build((1, 2, 2, 8))


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    layer, x = Attention(8, heads=2, bias=True, causal=causal), normal(2, 5, 8)
    layer(x)
    for variable in layer.weights:
        variable.assign(normal(*variable.shape))

    def project(dense):
        return x @ values(dense.kernel) + values(dense.bias)

    query, key, value = (
        project(dense).reshape(2, 5, 2, 4)
        for dense in (layer.query, layer.key, layer.value)
    )
    logits = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(4)
    if causal:
        logits = np.where(np.tri(5, dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights, value).reshape(2, 5, 8)
    expected = mixed @ values(layer.out.kernel) + values(layer.out.bias)
    assert values(layer(x)) == pytest.approx(expected, abs=1e-4)


def test_attention_to_a_context_of_another_length_and_width():
    layer, x, context = Attention(8, heads=4), normal(1, 6, 8), normal(1, 3, 5)
    out = values(layer(x, context))
    assert out.shape == (1, 6, 8)
    assert layer.key.kernel.shape == (5, 8) and layer.key.bias is None
    assert values(layer(x, context[:, ::-1])) == pytest.approx(out, abs=1e-5), (
        "the order of the context means nothing"
    )


def test_attention_refuses_heads_that_do_not_divide_its_width():
    with pytest.raises(ValueError, match="Received: width=10, heads=4"):
        Attention(10, heads=4)


def test_downsampling_pads_after_in_the_autoencoder_and_around_in_the_u_net():
    """A convolution that picks the top left of its window shows where that is."""
    x = normal(1, 6, 5, 1)
    picked = {}
    for padding in ((0, 1), (1, 1)):
        layer = Downsample(1, padding)
        layer(x)
        kernel = np.zeros((3, 3, 1, 1), "float32")
        kernel[0, 0] = 1
        layer.conv.kernel.assign(kernel)
        picked[padding] = values(layer(x))[0, :, :, 0]
    assert (picked[0, 1] == x[0, 0:5:2, 0:3:2, 0]).all()
    assert (picked[1, 1][1:, 1:] == x[0, 1:5:2, 1:5:2, 0]).all()
    assert (picked[1, 1][0] == 0).all()


def test_upsampling_repeats_pixels_and_fits_an_odd_skip():
    layer, x = Upsample(2), normal(1, 2, 3, 2)
    layer(x)
    kernel = np.zeros((3, 3, 2, 2), "float32")
    kernel[1, 1] = np.eye(2)
    layer.conv.kernel.assign(kernel)
    repeated = x.repeat(2, 1).repeat(2, 2)
    assert (values(layer(x)) == repeated).all()
    odd = values(layer(x, like=np.zeros((1, 3, 5, 9))))
    assert (odd == repeated[:, :3, :5]).all()


def test_a_residual_block_with_time_begins_as_its_shortcut():
    x, time = normal(2, 4, 4, 8), normal(2, 16)
    block = ResidualBlock(8, 4, 1e-5, time=True)
    assert (values(block(x, time)) == x).all()
    block.conv2.kernel.assign(normal(3, 3, 8, 8))
    assert np.abs(values(block(x, time)) - values(block(x, 2 * time))).max() > 0.1
    assert block.conv_shortcut is None
    wider = ResidualBlock(12, 4, 1e-5)
    assert values(wider(x)).shape == (2, 4, 4, 12)
    assert wider.conv_shortcut.kernel.shape == (1, 1, 8, 12)


def test_kernels_that_are_read_next_are_left_empty():
    x = normal(1, 4, 4, 2)
    with backend.empty_weights():
        layers = [Dense(3), Conv(3)]
    for layer in layers:
        layer(x)
        assert (values(layer.kernel) == 0).all()
    full = Conv(3)
    full(x)
    assert (values(full.kernel) != 0).any()


def test_pixels_become_tokens_row_by_row():
    x = normal(2, 3, 5, 4)
    assert (values(flatten_pixels(x)) == x.reshape(2, 15, 4)).all()
