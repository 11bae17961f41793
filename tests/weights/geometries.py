"""Two small odd geometries, and networks of them with random weights."""

from __future__ import annotations

import numpy as np

from kerasdiffusion.compute import backend
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    GenerationConfig,
    ModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TokenizerConfig,
)

# Three levels of two blocks, attention in the middle one.
WIDE = ModelConfig(
    tokenizer=TokenizerConfig(context_length=11),
    text_encoder=TextEncoderConfig(
        vocabulary_size=514, context_length=11, width=24, depth=3, heads=2, mlp_width=40
    ),
    diffusion_model=DiffusionModelConfig(
        block_widths=(12, 24, 12),
        transformer_depths=(0, 2, 1),
        heads=(1, 2, 3),
        context_width=24,
        norm_groups=6,
    ),
    autoencoder=AutoencoderConfig(
        block_widths=(8, 12, 12), norm_groups=4, scale_factor=0.25
    ),
    schedule=ScheduleConfig(prediction_type="v_prediction", final_alpha_one=True),
    generation=GenerationConfig(48, 32, "ddim", 7, 3.0),
)
# One level of one block, dense projections, other channels.
NARROW = ModelConfig(
    tokenizer=TokenizerConfig(context_length=5),
    text_encoder=TextEncoderConfig(
        vocabulary_size=514,
        context_length=5,
        width=8,
        depth=1,
        heads=4,
        mlp_width=12,
    ),
    diffusion_model=DiffusionModelConfig(
        in_channels=3,
        out_channels=3,
        block_widths=(16,),
        blocks_per_level=1,
        transformer_depths=(1,),
        heads=(2,),
        context_width=8,
        linear_projection=True,
        norm_groups=16,
    ),
    autoencoder=AutoencoderConfig(
        latent_channels=3, block_widths=(8, 16), blocks_per_level=1, norm_groups=8
    ),
    generation=GenerationConfig(height=16, width=16),
)


def networks(config: ModelConfig, seed: int | None = None, **options) -> dict:
    """The four parts; with a seed, with weights of which no two are alike."""
    with backend.empty_weights():
        parts = {
            "text_encoder": TextEncoder(config.text_encoder, **options),
            "diffusion_model": DiffusionModel(config.diffusion_model, **options),
            "image_encoder": ImageEncoder(config.autoencoder, **options),
            "decoder": Decoder(config.autoencoder, **options),
        }
    return parts if seed is None else fill(parts, seed)


def fill(parts: dict, seed: int) -> dict:
    """Give networks random weights; networks take seconds to build, this does not."""
    random = np.random.default_rng(seed)
    for part in parts.values():
        for variable in part.weights:
            variable.assign(random.normal(size=variable.shape, scale=0.2))
    return parts


def values(parts: dict) -> dict[str, np.ndarray]:
    """Every weight by its path."""
    import keras

    return {
        variable.path: keras.ops.convert_to_numpy(variable)
        for part in parts.values()
        for variable in part.weights
    }


def assert_equal(found: dict, expected: dict) -> None:
    """Two results of `values` are the same to the bit."""
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)
