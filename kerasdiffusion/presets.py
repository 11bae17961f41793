"""The published models by name: what each is made of and where its weights lie."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from kerasdiffusion.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    GenerationConfig,
    ModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
    TokenizerConfig,
)


@dataclass(frozen=True)
class Preset:
    """A published model: its configuration and where its weights lie.

    Args:
        source: What `from_preset` reads: `hf://owner/name`, or `asset://folder` for
            a model inside the package.
        about: One line for people.
        config: The configuration, where it is known before anything is fetched.
    """

    source: str
    about: str
    config: ModelConfig | None = None


SD1 = ModelConfig()

# Stable Diffusion 2: OpenCLIP ViT-H/14 without its last layer, heads 64 wide.
VIT_H = TextEncoderConfig(
    width=1024, depth=23, heads=16, mlp_width=4096, activation="gelu"
)
SD2_BASE = ModelConfig(
    tokenizer=TokenizerConfig(pad_token="!"),
    text_encoder=VIT_H,
    diffusion_model=DiffusionModelConfig(
        heads=(5, 10, 20, 20), context_width=1024, linear_projection=True
    ),
)
V_PREDICTION = ScheduleConfig(prediction_type="v_prediction")
SD2 = SD2_BASE.replace(
    schedule=V_PREDICTION, generation=GenerationConfig(height=768, width=768)
)


def with_channels(config: ModelConfig, in_channels: int) -> ModelConfig:
    """A model whose U-Net sees more than latents: a mask, a depth map."""
    network = replace(config.diffusion_model, in_channels=in_channels)
    return config.replace(diffusion_model=network)


SD1_INPAINTING = with_channels(SD1, 9)
SD1_EDITING = with_channels(SD1, 8)
SD2_INPAINTING = with_channels(SD2_BASE, 9)
SD2_DEPTH = with_channels(SD2_BASE, 5)
LINEAR_TO_002 = ScheduleConfig(beta_start=0.0001, beta_end=0.02)
UPSCALER = SD2_BASE.replace(
    diffusion_model=DiffusionModelConfig(
        in_channels=7,
        block_widths=(256, 512, 512, 1024),
        transformer_depths=(0, 1, 1, 1),
        heads=(8, 8, 8, 8),
        context_width=1024,
        linear_projection=True,
        only_cross_attention=(False, True, True, False),
        noise_levels=1000,
    ),
    autoencoder=AutoencoderConfig(block_widths=(128, 256, 512), scale_factor=0.08333),
    schedule=replace(LINEAR_TO_002, prediction_type="v_prediction"),
    low_res_schedule=LINEAR_TO_002,
    generation=GenerationConfig(512, 512, "ddim", 75, 9.0),
)

# SDXL: the penultimate layers of CLIP ViT-L and OpenCLIP bigG side by side.
VIT_L_PENULTIMATE = TextEncoderConfig(skipped_layers=1, final_norm=False)
BIG_G = TextEncoderConfig(
    width=1280,
    depth=32,
    heads=20,
    mlp_width=5120,
    activation="gelu",
    skipped_layers=1,
    final_norm=False,
    projection_width=1280,
)
XL_AUTOENCODER = AutoencoderConfig(scale_factor=0.13025)
XL_SCHEDULE = ScheduleConfig(align_your_steps="sdxl")
SDXL = ModelConfig(
    text_encoder=VIT_L_PENULTIMATE,
    diffusion_model=DiffusionModelConfig(
        block_widths=(320, 640, 1280),
        transformer_depths=(0, 2, 10),
        mid_transformer_depth=10,
        heads=(5, 10, 20),
        context_width=2048,
        linear_projection=True,
        vector_width=2816,
    ),
    autoencoder=XL_AUTOENCODER,
    schedule=XL_SCHEDULE,
    generation=GenerationConfig(
        1024, 1024, "euler", 30, 5.0, spacing="leading", zero_negative=True
    ),
    text_encoder_2=BIG_G,
    tokenizer_2=TokenizerConfig(pad_token="!"),
)
SDXL_REFINER = ModelConfig(
    tokenizer=TokenizerConfig(pad_token="!"),
    text_encoder=BIG_G,
    diffusion_model=DiffusionModelConfig(
        block_widths=(384, 768, 1536, 1536),
        transformer_depths=(0, 4, 4, 0),
        mid_transformer_depth=4,
        heads=(6, 12, 24, 24),
        context_width=1280,
        linear_projection=True,
        vector_width=2560,
    ),
    autoencoder=XL_AUTOENCODER,
    schedule=XL_SCHEDULE,
    generation=replace(SDXL.generation, zero_negative=False),
)
SDXL_INPAINTING = with_channels(SDXL, 9)

#: The tiny autoencoder, of Stable Diffusion 1's and 2's latents or of SDXL's.
TAESD = TinyAutoencoderConfig()

# Distilled models: fewer steps, no guidance.
TURBO = GenerationConfig(512, 512, "euler_ancestral", 1, 1.0, spacing="trailing")
SD_TURBO = SD2_BASE.replace(generation=TURBO)
SDXL_TURBO = SDXL.replace(generation=replace(TURBO, zero_negative=True))
LCM_GENERATION = GenerationConfig(768, 768, "lcm", 4, 8.0)
LCM_SD1 = SD1.replace(
    diffusion_model=replace(SD1.diffusion_model, guidance_width=256),
    generation=LCM_GENERATION,
)
LCM_SDXL_UNET = replace(SDXL.diffusion_model, guidance_width=256)
LIGHTNING = GenerationConfig(
    1024, 1024, "euler", 4, 1.0, spacing="trailing", zero_negative=True
)
SDXL_LIGHTNING = SDXL.replace(generation=LIGHTNING)

# Small U-Nets: blocks of the large ones left out.
BK_SDM_BASE = SD1.replace(
    diffusion_model=replace(SD1.diffusion_model, blocks_per_level=1)
)
BK_SDM_SMALL = SD1.replace(
    diffusion_model=replace(BK_SDM_BASE.diffusion_model, mid_transformer_depth=None)
)
BK_SDM_TINY = SD1.replace(
    diffusion_model=replace(
        BK_SDM_SMALL.diffusion_model,
        block_widths=(320, 640, 1280),
        transformer_depths=(1, 1, 1),
        heads=(8, 8, 8),
    )
)
SSD_1B = SDXL.replace(
    diffusion_model=replace(
        SDXL.diffusion_model,
        transformer_depths=(0, 2, 4),
        mid_transformer_depth=0,
        up_transformer_depths=(0, (2, 1, 1), (4, 4, 10)),
    ),
    generation=replace(SDXL.generation, guidance_scale=9.0),
)
SEGMIND_VEGA = SDXL.replace(
    diffusion_model=replace(
        SDXL.diffusion_model,
        transformer_depths=(0, 1, 2),
        mid_transformer_depth=0,
    ),
    generation=replace(SDXL.generation, guidance_scale=9.0),
)


def family_defaults(config: ModelConfig) -> GenerationConfig:
    """What a call takes by default, of a model that is known by its networks alone."""
    network = config.diffusion_model
    if network.guidance_width:
        return LCM_GENERATION
    if network.vector_width:
        family = SDXL if config.text_encoder_2 else SDXL_REFINER
        return family.generation
    if network.noise_levels:
        return UPSCALER.generation
    is_sd2 = config.text_encoder.is_open_clip
    if is_sd2 and config.schedule.prediction_type == "v_prediction":
        return SD2.generation
    return SD1.generation


_ROWS = (
    # name, source on the hub, about, configuration
    ("sd1.1", "CompVis/stable-diffusion-v1-1", "512x512", SD1),
    ("sd1.2", "CompVis/stable-diffusion-v1-2", "512x512", SD1),
    ("sd1.3", "CompVis/stable-diffusion-v1-3", "512x512", SD1),
    ("sd1.4", "CompVis/stable-diffusion-v1-4", "512x512", SD1),
    ("sd1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5", "512x512", SD1),
    (
        "sd1.5-inpainting",
        "stable-diffusion-v1-5/stable-diffusion-inpainting",
        "paints what a mask covers, 512x512",
        SD1_INPAINTING,
    ),
    (
        "instruct-pix2pix",
        "timbrooks/instruct-pix2pix",
        "edits a picture by an instruction, 512x512",
        SD1_EDITING,
    ),
    ("sd2", "stabilityai/stable-diffusion-2", "768x768, v-prediction", SD2),
    ("sd2-base", "stabilityai/stable-diffusion-2-base", "512x512", SD2_BASE),
    ("sd2.1", "stabilityai/stable-diffusion-2-1", "768x768, v-prediction", SD2),
    ("sd2.1-base", "stabilityai/stable-diffusion-2-1-base", "512x512", SD2_BASE),
    (
        "sd2-inpainting",
        "stabilityai/stable-diffusion-2-inpainting",
        "paints what a mask covers, 512x512",
        SD2_INPAINTING,
    ),
    (
        "sd2-depth",
        "stabilityai/stable-diffusion-2-depth",
        "follows a depth map, 512x512",
        SD2_DEPTH,
    ),
    (
        "sd2-upscaler",
        "stabilityai/stable-diffusion-x4-upscaler",
        "four times the height and width",
        UPSCALER,
    ),
    ("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", "1024x1024", SDXL),
    (
        "sdxl-refiner",
        "stabilityai/stable-diffusion-xl-refiner-1.0",
        "the last steps of SDXL",
        SDXL_REFINER,
    ),
    (
        "sdxl-inpainting",
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        "paints what a mask covers, 1024x1024",
        SDXL_INPAINTING,
    ),
    ("sd-turbo", "stabilityai/sd-turbo", "512x512 in 1 to 4 steps", SD_TURBO),
    ("sdxl-turbo", "stabilityai/sdxl-turbo", "512x512 in 1 to 4 steps", SDXL_TURBO),
    (
        "lcm-dreamshaper",
        "SimianLuo/LCM_Dreamshaper_v7",
        "768x768 in 1 to 8 steps",
        LCM_SD1,
    ),
    ("bk-sdm-base", "nota-ai/bk-sdm-base", "a smaller U-Net, 512x512", BK_SDM_BASE),
    ("bk-sdm-small", "nota-ai/bk-sdm-small", "a small U-Net, 512x512", BK_SDM_SMALL),
    ("bk-sdm-tiny", "nota-ai/bk-sdm-tiny", "a tiny U-Net, 512x512", BK_SDM_TINY),
    ("ssd-1b", "segmind/SSD-1B", "SDXL at half the size, 1024x1024", SSD_1B),
    ("vega", "segmind/Segmind-Vega", "SDXL at a third, 1024x1024", SEGMIND_VEGA),
)

PRESETS: dict[str, Preset] = {
    "emoji": Preset("asset://emoji", "the bundled model: emoji on plain grounds"),
    **{
        name: Preset(f"hf://{source}", f"{source.split('/')[1]}: {about}", config)
        for name, source, about, config in _ROWS
    },
}


def find_preset(source) -> tuple[object, ModelConfig | None]:
    """A preset's weights and configuration; anything else is a source itself.

    Raises:
        ValueError: If the source looks like a preset's name and is none.
    """
    if not isinstance(source, str):
        return source, None
    if source in PRESETS:
        return PRESETS[source].source, PRESETS[source].config
    if os.sep in source or ":" in source or Path(source).exists():
        return source, None
    near = difflib.get_close_matches(source, PRESETS, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"A model is a preset ({', '.join(PRESETS)}), hf://owner/name, a folder or a "
        f"file.{hint} Received: {source!r}"
    )
