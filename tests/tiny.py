"""A tiny Stable Diffusion whose random weights give lively pictures."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    GenerationConfig,
    ModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TokenizerConfig,
)
from kerasdiffusion.prompts.tokenizer import Tokenizer

TEXTS = ("a red apple on a blue background", "two cats", "blurry, dark")
TINY = ModelConfig(
    tokenizer=TokenizerConfig(context_length=12),
    text_encoder=TextEncoderConfig(
        vocabulary_size=546,
        context_length=12,
        width=32,
        depth=2,
        heads=2,
        mlp_width=64,
    ),
    diffusion_model=DiffusionModelConfig(
        block_widths=(32, 64),
        blocks_per_level=1,
        transformer_depths=(1, 0),
        heads=(2, 2),
        context_width=32,
        norm_groups=8,
    ),
    autoencoder=AutoencoderConfig(
        block_widths=(16, 32), blocks_per_level=1, norm_groups=8
    ),
    generation=GenerationConfig(32, 32, "dpmpp_2m_karras", 4, 7.5),
)

# Without levels of its own below the first: of what is compiled for long.
ONE_LEVEL = TINY.replace(
    diffusion_model=replace(
        TINY.diffusion_model, block_widths=(32,), transformer_depths=(1,), heads=(2,)
    )
)
# U-Nets that see a picture beside the text.
TINY_DEPTH, TINY_EDITING, TINY_UPSCALER = (
    TINY.replace(diffusion_model=replace(TINY.diffusion_model, **more))
    for more in (
        {"in_channels": 5},
        {"in_channels": 8},
        {"in_channels": 7, "noise_levels": 30},
    )
)
TINY_UPSCALER = TINY_UPSCALER.replace(
    schedule=ScheduleConfig(
        beta_start=0.0001, beta_end=0.02, prediction_type="v_prediction"
    ),
    low_res_schedule=ScheduleConfig(beta_start=0.0001, beta_end=0.02),
)

# Stable Diffusion 2's and XL's text encoders and conditioning, as small.
OPEN_CLIP = replace(TINY.text_encoder, activation="gelu", width=40)
TINY_SD2 = TINY.replace(
    tokenizer=replace(TINY.tokenizer, pad_token="!"),
    text_encoder=OPEN_CLIP,
    diffusion_model=replace(
        TINY.diffusion_model, context_width=40, linear_projection=True, heads=(1, 2)
    ),
    schedule=ScheduleConfig(prediction_type="v_prediction"),
)
BIG_G = replace(OPEN_CLIP, skipped_layers=1, final_norm=False, projection_width=24)
TINY_SDXL = TINY.replace(
    text_encoder=replace(TINY.text_encoder, skipped_layers=1, final_norm=False),
    diffusion_model=replace(
        TINY_SD2.diffusion_model,
        context_width=72,
        transformer_depths=(0, 2),
        mid_transformer_depth=2,
        vector_width=24 + 6 * 8,
        vector_id_width=8,
    ),
    autoencoder=replace(TINY.autoencoder, scale_factor=0.13025),
    schedule=ScheduleConfig(align_your_steps="sdxl"),
    generation=GenerationConfig(
        32, 32, "euler", 4, 5.0, spacing="leading", zero_negative=True
    ),
    text_encoder_2=BIG_G,
    tokenizer_2=replace(TINY.tokenizer, pad_token="!"),
)
TINY_REFINER = TINY_SDXL.replace(
    tokenizer=TINY_SDXL.tokenizer_2,
    text_encoder=BIG_G,
    diffusion_model=replace(
        TINY_SDXL.diffusion_model, context_width=40, vector_width=24 + 5 * 8
    ),
    text_encoder_2=None,
    tokenizer_2=None,
    generation=replace(TINY_SDXL.generation, zero_negative=False),
)


@functools.lru_cache
def tiny_tokenizer() -> Tokenizer:
    """CLIP's tokenizer, cut to `TEXTS`; other texts take more tokens."""
    return Tokenizer(TINY.tokenizer).subset(TEXTS)


def tiny_model(seed: int = 0, config: ModelConfig = TINY, **options):
    """A `StableDiffusion` of `TINY`, the same weights for the same seed."""
    from kerasdiffusion import StableDiffusion
    from kerasdiffusion.compute.backend import empty_weights

    tokenizer = Tokenizer(config.tokenizer, tiny_tokenizer().vocabulary)
    options = {"tokenizer": tokenizer, "weights": None, **options}
    model = StableDiffusion(config=config, **options)
    with empty_weights():
        model.build()
    enliven([getattr(model, part) for part in config.parts], seed)
    return model


def enliven(parts, seed: int = 0) -> None:
    """Random weights under which every layer matters and nothing explodes."""
    random = np.random.default_rng(seed)
    for part in parts:
        for variable in part.weights:
            variable.assign(lively(random, variable.path, tuple(variable.shape)))


def lively(random: np.random.Generator, path: str, shape: tuple) -> np.ndarray:
    """Values for one variable, of a size that its name tells."""
    values = random.normal(size=shape).astype("float32")
    if path.endswith("gamma"):
        return 1.0 + 0.2 * values
    if len(shape) == 1:
        return 0.1 * values
    if path.endswith("embeddings"):
        return 0.5 * values
    return 0.7 * values / np.sqrt(np.prod(shape[:-1]))
