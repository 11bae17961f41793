"""Pictures in tiles, beside the same in one piece."""

import keras
import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.networks.tiling import places, ramps, tile_side
from kerasdiffusion.presets.config import AutoencoderConfig
from tests.tiny import TINY, tiny_model

# Stable Diffusion's levels, so that tiles see as far.
CONFIG = TINY.replace(
    autoencoder=AutoencoderConfig(
        block_widths=(8, 8, 16, 16), blocks_per_level=1, norm_groups=4
    )
)
HEIGHT, WIDTH = 192, 320


@pytest.fixture(scope="module")
def model():
    return tiny_model(config=CONFIG)


def smooth(height, width, channels, seed=0):
    """A few slow waves, from -1 to 1."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = np.zeros((height, width, channels), "float32")
    for channel in range(channels):
        for size, down, along in random.normal(size=(4, 3)) * (1.0, 5.0, 5.0):
            waves[..., channel] += size * np.sin(down * y + along * x + channel)
    return np.tanh(waves)[None]


def levels(model, tiling, latents):
    model.tiling = tiling
    return model.decode_latents(latents).astype(int)


@pytest.mark.every_backend_at_length
def test_a_decode_in_tiles_is_that_in_one_piece(model):
    """With random weights, under which a tile's own statistics are far off."""
    latents = smooth(HEIGHT // 8, WIDTH // 8, 4)
    expected = levels(model, False, latents)
    assert expected.shape == (1, HEIGHT, WIDTH, 3) and expected.std() > 20
    assert np.abs(levels(model, 64, latents) - expected).max() <= 1


def test_so_is_one_of_noise(model):
    latents = np.random.default_rng(0).normal(size=(1, 24, 40, 4)).astype("float32")
    difference = levels(model, 64, latents) - levels(model, False, latents)
    assert np.abs(difference).max() <= 1


@pytest.mark.every_backend_at_length
def test_an_encode_in_tiles_is_that_in_one_piece(model):
    picture = smooth(HEIGHT, WIDTH, 3)
    model.tiling = False
    expected = model.encode_picture(picture)
    model.tiling = 64
    found = model.encode_picture(picture)
    assert found.shape == expected.shape == (1, HEIGHT // 8, WIDTH // 8, 4)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.heavy
def test_the_bundled_models_tiles():
    model = StableDiffusion.from_preset("emoji")
    model.tiling = False
    latents = model.encode_picture(smooth(256, 384, 3))
    expected = levels(model, False, latents)
    assert np.abs(levels(model, 128, latents) - expected).max() <= 1


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs eagerly: nothing is traced"
)
def test_a_tiles_programs_serve_every_size(model):
    levels(model, 64, smooth(36, 40, 4))
    before = dict(model.traces)
    levels(model, 64, smooth(44, 33, 4))
    # The middle block alone sees all of a picture.
    after = {name for name in model.traces if model.traces[name] > before[name]}
    assert after == {"decode_begin"}


def test_tiles_cover_a_picture_once():
    for size, tile, margin in ((64, 32, 5), (65, 64, 5), (200, 33, 4), (32, 32, 5)):
        starts = places(size, tile, 2 * margin + 2)
        assert starts[0] == 0 and starts[-1] == size - tile
        total = np.zeros(size * 2)
        for start, weights in zip(
            starts, ramps(starts, tile, size, margin, 2), strict=True
        ):
            total[start * 2 : (start + tile) * 2] += weights
            if start > 0:  # what an inner edge sees wrongly counts nothing
                assert (weights[: 2 * margin] == 0).all()
        np.testing.assert_allclose(total, 1.0, atol=1e-6)


@pytest.mark.parametrize(
    "tiling, size, side",
    [
        ("auto", (1536, 1536), None),
        ("auto", (2048, 2048), 192),
        (False, (8192, 8192), None),
        (True, (512, 512), 192),
        (True, (192, 192), None),
        (128, (256, 64), 128),
    ],
)
def test_which_pictures_are_tiled(tiling, size, side):
    assert tile_side(tiling, *size) == side


@pytest.mark.parametrize("tiling", ["yes", 48, 100, 64.0, None])
def test_a_wrong_tiling_is_said_at_once(tiling):
    with pytest.raises(ValueError, match=f"multiple of 16 from 64 on.*: {tiling!r}"):
        StableDiffusion(config=CONFIG, weights=None, tiling=tiling)
