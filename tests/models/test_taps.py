import numpy as np
import pytest
from keras import ops

from kerasdiffusion.models.taps import (
    free_u,
    is_within,
    layer_name,
    lowest_frequencies,
    received_attention,
)

RANDOM = np.random.default_rng(0)
MID = "mid_block.attentions.0.transformer_blocks.0.attn1"
LAST = "up_blocks.1.attentions.1.transformer_blocks.0.attn1"


def evaluate(tensor):
    return ops.convert_to_numpy(tensor)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def through_fourier(x, scale):
    """The skip filter of FreeU's published code."""
    spectrum = np.fft.fftshift(np.fft.fftn(x, axes=(1, 2)), axes=(1, 2))
    row, column = spectrum.shape[1] // 2, spectrum.shape[2] // 2
    spectrum[:, max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] *= scale
    return np.fft.ifftn(np.fft.ifftshift(spectrum, axes=(1, 2)), axes=(1, 2)).real


@pytest.mark.every_backend
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3), (1, 4)])
def test_free_u_is_its_fourier_filter(size):
    x, skip = normal(2, *size, 6), normal(2, *size, 4)
    scaled, filtered = free_u(
        ops.array(x), ops.array(skip), np.float32(1.5), np.float32(0.2)
    )
    expected = np.concatenate([1.5 * x[..., :3], x[..., 3:]], axis=-1)
    assert evaluate(scaled) == pytest.approx(expected, abs=1e-6)
    assert evaluate(filtered) == pytest.approx(through_fourier(skip, 0.2), abs=1e-5)
    only = evaluate(lowest_frequencies(ops.array(skip)))
    assert only == pytest.approx(skip - through_fourier(skip, 0.0), abs=1e-5)


@pytest.mark.every_backend
def test_free_u_keeps_the_dtype():
    x, skip = (ops.cast(normal(1, 4, 4, 2), "bfloat16") for _ in range(2))
    for result in free_u(x, skip, np.float32(1.5), np.float32(0.2)):
        assert "bfloat16" in str(result.dtype)


@pytest.mark.every_backend
def test_received_attention():
    query, key = normal(2, 5, 3, 4), normal(2, 5, 3, 4)
    expected = np.zeros((2, 5))
    for image in range(2):
        for head in range(3):
            scores = np.exp(query[image, :, head] @ key[image, :, head].T / 2.0)
            expected[image] += (scores / scores.sum(1, keepdims=True)).sum(0) / 3
    assert evaluate(received_attention(query, key)) == pytest.approx(expected, abs=1e-5)


def test_names_are_those_of_diffusers(tiny):
    assert tiny.diffusion_model.self_attentions() == [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1",
        MID,
        "up_blocks.1.attentions.0.transformer_blocks.0.attn1",
        LAST,
    ]
    assert layer_name("a/unet/mid_block/attentions-0") == "mid_block.attentions.0"


@pytest.mark.parametrize(
    "block, inside",
    [
        ("mid", [MID]),
        ("mid_block", [MID]),
        ("mid_block.attentions.0", [MID]),
        (MID, [MID]),
        ("up", [LAST]),
        ("up_blocks.1", [LAST]),
        ("up_blocks.1.attentions.1", [LAST]),
        ("up_blocks.1.attentions.0", []),
        ("up_blocks.1.attention", []),
        ("down", []),
        ("", []),
    ],
)
def test_layers_by_the_blocks_that_they_are_in(block, inside):
    assert [name for name in (MID, LAST) if is_within(name, block)] == inside


@pytest.fixture
def inputs():
    return {
        "latents": normal(2, 7, 9, 4),
        "timestep": np.array([500.0, 20.0], "float32"),
        "crossattn": normal(2, 5, 32),
    }


def test_only_chosen_images_in_chosen_layers_are_perturbed(tiny, inputs):
    network = tiny.diffusion_model
    plain = evaluate(network(inputs))
    inputs["perturbed"] = np.array([False, True])
    for layers in (("mid",), ("down", LAST)):
        found = evaluate(network(inputs, perturbed_layers=layers))
        assert found[0] == pytest.approx(plain[0], abs=1e-4)
        assert np.abs(found[1] - plain[1]).max() > 1e-2
    assert evaluate(network(inputs)) == pytest.approx(plain, abs=1e-4)


def test_watching_changes_nothing(tiny, inputs):
    network = tiny.diffusion_model
    found, attention = network(inputs, watch=True)
    assert evaluate(found) == pytest.approx(evaluate(network(inputs)), abs=1e-4)
    # The middle of 7 by 9 latents is 4 by 5; each of its 20 queries spends 1.
    assert tuple(attention.shape) == (2, 4, 5)
    attention = evaluate(attention)
    assert attention.sum(axis=(1, 2)) == pytest.approx(20.0, rel=1e-4)
    assert attention.std() > 0.01
