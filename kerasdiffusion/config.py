"""What a model is made of, as frozen dataclasses, and the presets by name.

One dataclass per part. A model family is a set of values for these fields; nothing
here imports a framework.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TokenizerConfig:
    """The CLIP byte-pair tokenizer (`tokenizer.py`).

    Args:
        context_length: Tokens in an encoded prompt, start and end included.
        pad_token: The token that fills a short prompt up: `"<|endoftext|>"` for
            SD 1, `"!"` (id 0) for SD 2.
    """

    context_length: int = 77
    pad_token: str = "<|endoftext|>"


@dataclass(frozen=True)
class TextEncoderConfig:
    """The text transformer of CLIP (`models/text_encoder.py`).

    The defaults are CLIP ViT-L/14's, which SD 1 uses.
    """

    vocabulary_size: int = 49408
    context_length: int = 77
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "quick_gelu"


@dataclass(frozen=True)
class DiffusionModelConfig:
    """The U-Net (`models/diffusion_model.py`). The defaults are SD 1's.

    Args:
        in_channels: Channels of the network's input: latents and `concat` together.
        out_channels: Channels of the prediction.
        block_widths: Channels of each resolution level, finest first.
        blocks_per_level: Residual blocks a level on the way down (one more on the
            way up).
        transformer_depths: Transformer layers after each residual block of a level;
            0 for a level without attention.
        mid_transformer_depth: The same for the middle block.
        heads: Attention heads of each level; the middle block takes the last.
        context_width: Width of the text encoder's output.
        linear_projection: Whether the transformers project by dense layers (SD 2,
            SDXL) or by 1x1 convolutions (SD 1). The function is the same, the
            weights' shapes differ.
        norm_groups: Groups of every group normalisation.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks_per_level: int = 2
    transformer_depths: tuple[int, ...] = (1, 1, 1, 0)
    mid_transformer_depth: int = 1
    heads: tuple[int, ...] = (8, 8, 8, 8)
    context_width: int = 768
    linear_projection: bool = False
    norm_groups: int = 32


@dataclass(frozen=True)
class AutoencoderConfig:
    """The KL autoencoder (`models/autoencoder.py`). The defaults are SD 1's.

    Args:
        image_channels: Channels of a picture.
        latent_channels: Channels of the latents.
        block_widths: Channels of each resolution level, finest first. Every level
            but the last halves height and width.
        blocks_per_level: Residual blocks a level in the encoder (one more in the
            decoder).
        norm_groups: Groups of every group normalisation.
        scale_factor: What encoded latents are multiplied by, so that their standard
            deviation is near 1.
    """

    image_channels: int = 3
    latent_channels: int = 4
    block_widths: tuple[int, ...] = (128, 256, 512, 512)
    blocks_per_level: int = 2
    norm_groups: int = 32
    scale_factor: float = 0.18215

    @property
    def downsampling(self) -> int:
        """Pixels on a side of one latent."""
        return 2 ** (len(self.block_widths) - 1)


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise that the U-Net was trained with (`sampling/schedule.py`).

    Args:
        beta_schedule: `"scaled_linear"` (linear in the root of beta, SD's) or
            `"linear"` (DDPM's).
        beta_start: Beta of the first training step.
        beta_end: Beta of the last training step.
        train_steps: Number of training steps.
        prediction_type: What the U-Net predicts: `"epsilon"`, `"v_prediction"` or
            `"sample"`.
        steps_offset: What `"leading"` spacing adds to its timesteps.
        final_alpha_one: Whether DDIM and PNDM end at no noise at all, or (SD) at the
            noise of training step 0.
        timestep_spacing: The spacing that a file asks for, for samplers that have no
            more special one by their name; `None` for each sampler's own.
        rescale_zero_terminal_snr: Whether the betas were rescaled so that the last
            training step is noise alone (Lin et al. 2024).
        align_your_steps: Whose table the spacing of that name takes: `"sd1"` or
            `"sdxl"`.
    """

    beta_schedule: str = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    train_steps: int = 1000
    prediction_type: str = "epsilon"
    steps_offset: int = 1
    final_alpha_one: bool = False
    timestep_spacing: str | None = None
    rescale_zero_terminal_snr: bool = False
    align_your_steps: str = "sd1"


@dataclass(frozen=True)
class GenerationConfig:
    """What `text_to_image` takes where the caller leaves it `None`."""

    height: int = 512
    width: int = 512
    sampler: str = "dpmpp_2m_karras"
    num_steps: int = 25
    guidance_scale: float = 7.5


@dataclass(frozen=True)
class ModelConfig:
    """Everything that defines a model but its weights."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    diffusion_model: DiffusionModelConfig = field(default_factory=DiffusionModelConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)

    def replace(self, **parts) -> ModelConfig:
        """A copy with some parts exchanged."""
        return dataclasses.replace(self, **parts)


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

PRESETS: dict[str, Preset] = {
    "emoji": Preset("asset://emoji", "the bundled model: emoji on plain grounds"),
    "sd1.4": Preset(
        "hf://CompVis/stable-diffusion-v1-4", "Stable Diffusion 1.4, 512x512", SD1
    ),
    "sd1.5": Preset(
        "hf://stable-diffusion-v1-5/stable-diffusion-v1-5",
        "Stable Diffusion 1.5, 512x512",
        SD1,
    ),
}
