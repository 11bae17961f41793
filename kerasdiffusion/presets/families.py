"""What each family of published models is made of: values for `config`'s fields."""

from __future__ import annotations

from dataclasses import replace

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    GenerationConfig,
    ModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
    TokenizerConfig,
)

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
    autoencoder=AutoencoderConfig(
        block_widths=(128, 256, 512), scale_factor=0.08333, force_upcast=True
    ),
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
XL_AUTOENCODER = AutoencoderConfig(scale_factor=0.13025, force_upcast=True)
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

# SDXL's layout, trained on a range of noise levels (Karras et al. 2022).
PLAYGROUND = SDXL.replace(
    autoencoder=replace(
        XL_AUTOENCODER,
        scale_factor=0.5,
        latents_mean=(-1.6574, 1.886, -1.383, 2.5155),
        latents_std=(8.4927, 5.9022, 6.5498, 5.2299),
    ),
    schedule=ScheduleConfig(
        prediction_type="edm",
        align_your_steps="sdxl",
        sigma_min=0.002,
        sigma_max=80.0,
        sigma_data=0.5,
    ),
    generation=replace(
        SDXL.generation,
        sampler="dpmpp_2m_karras",
        num_steps=50,
        guidance_scale=3.0,
        spacing=None,
    ),
)
COSXL = SDXL.replace(
    schedule=ScheduleConfig(
        prediction_type="v_prediction",
        align_your_steps="sdxl",
        sigma_min=0.002,
        sigma_max=120.0,
    ),
    generation=replace(
        SDXL.generation, sampler="euler_exponential", guidance_scale=7.0, spacing=None
    ),
)

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
SDXL_LIGHTNING_1 = SDXL_LIGHTNING.replace(
    schedule=replace(XL_SCHEDULE, prediction_type="sample"),
    generation=replace(LIGHTNING, num_steps=1),
)
HYPER_SDXL = SDXL.replace(
    generation=replace(
        LIGHTNING, sampler="lcm", num_steps=1, spacing=None, timesteps=(800.0,)
    )
)
LCM_SDXL = SDXL.replace(
    diffusion_model=LCM_SDXL_UNET,
    generation=replace(LCM_GENERATION, height=1024, width=1024),
)

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
        if config.schedule.is_continuous:
            edm = config.schedule.prediction_type == "edm"
            family = PLAYGROUND if edm else COSXL
        return family.generation
    if network.noise_levels:
        return UPSCALER.generation
    is_sd2 = config.text_encoder.is_open_clip
    if is_sd2 and config.schedule.prediction_type == "v_prediction":
        return SD2.generation
    return SD1.generation
