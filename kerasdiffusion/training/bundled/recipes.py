"""Recipes: everything that makes a bundled model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras

from kerasdiffusion.datasets import SceneConfig
from kerasdiffusion.datasets.emoji import table
from kerasdiffusion.datasets.scenes import PLACES
from kerasdiffusion.datasets.sprites import STYLES
from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    GenerationConfig,
    ModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TokenizerConfig,
)
from kerasdiffusion.training.muon import Muon
from kerasdiffusion.training.schedules import WarmUpCosine

#: 149 objects in 64x64 pixels.
STARTER_GEOMETRY = ModelConfig(
    tokenizer=TokenizerConfig(context_length=24),
    text_encoder=TextEncoderConfig(
        context_length=24, width=128, depth=2, heads=4, mlp_width=512
    ),
    diffusion_model=DiffusionModelConfig(
        block_widths=(48, 96, 144),
        blocks_per_level=1,
        transformer_depths=(0, 1, 1),
        heads=(1, 3, 3),
        context_width=128,
        norm_groups=16,
    ),
    autoencoder=AutoencoderConfig(
        block_widths=(16, 32, 64), blocks_per_level=1, norm_groups=8, scale_factor=1.0
    ),
    # DDPM's own betas: at 16x16 latents, SD's leave the ground's colour in the noise.
    schedule=ScheduleConfig(
        beta_schedule="linear",
        beta_start=0.0001,
        beta_end=0.02,
        prediction_type="v_prediction",
        final_alpha_one=True,
    ),
    generation=GenerationConfig(
        height=64,
        width=64,
        sampler="dpmpp_2m_karras",
        num_steps=25,
        guidance_scale=3.0,
    ),
)

#: Latents of the same size for 128x128 pixels, of twice as many channels.
GEOMETRY = STARTER_GEOMETRY.replace(
    text_encoder=TextEncoderConfig(
        context_length=24, width=192, depth=3, heads=4, mlp_width=768
    ),
    diffusion_model=DiffusionModelConfig(
        in_channels=8,
        out_channels=8,
        block_widths=(48, 96, 192),
        blocks_per_level=1,
        transformer_depths=(0, 1, 1),
        heads=(1, 3, 6),
        context_width=192,
        norm_groups=16,
    ),
    autoencoder=AutoencoderConfig(
        latent_channels=8,
        block_widths=(16, 32, 96, 192),
        blocks_per_level=1,
        norm_groups=8,
        scale_factor=1.0,
    ),
    generation=GenerationConfig(
        height=128,
        width=128,
        sampler="dpmpp_2m_karras",
        num_steps=25,
        guidance_scale=3.0,
    ),
)
#: Every object, alone or two together, everywhere, in every style.
EVERYTHING = SceneConfig(
    objects=tuple(table()),
    places=tuple(PLACES),
    relations=0.25,
    counts=0.08,
    styles=tuple(STYLES),
    style_fraction=0.12,
    tints=0.04,
)
#: More of it in a picture, and less of the ground, of which there is little to learn.
CROWD = replace(EVERYTHING, relations=0.5, counts=0.35)


@dataclass(frozen=True)
class Stage:
    """How long and how fast one network learns.

    Args:
        epochs: Epochs; a checkpoint is written after each.
        steps: Steps an epoch.
        batch_size: Samples a step.
        learning_rate: Peak of a warm-up and cosine decay to a twentieth.
        ema_momentum: Momentum of the weights' moving average.
        muon: Whether the optimizer is `Muon`, not AdamW.
    """

    epochs: int
    steps: int
    batch_size: int
    learning_rate: float
    ema_momentum: float = 0.999
    muon: bool = False

    def optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer with this stage's schedule, clipping and moving average."""
        total = self.epochs * self.steps
        options = {
            "learning_rate": WarmUpCosine(
                self.learning_rate, total, min(200, total // 10)
            ),
            "weight_decay": 0.01,
            "global_clipnorm": 1.0,
            "use_ema": True,
            "ema_momentum": self.ema_momentum,
        }
        if self.muon:
            # The first and the last layer are no matrices between hidden units.
            ends = ["conv_in", "conv_out"]
            return Muon(
                adam_weight_decay=0.01, adam_beta_2=0.99, exclude_layers=ends, **options
            )
        return keras.optimizers.AdamW(beta_2=0.99, **options)


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a run.

    Args:
        config: The networks' sizes.
        scenes: What the pictures show.
        crowd: What the autoencoder's pictures show.
        crop: Side of the random crops that the autoencoder learns its strokes on.
        strokes: The autoencoder's first stage, on crops.
        autoencoder: Its second stage, on whole pictures.
        decoder: How long the decoder learns on, where a run begins with a preset.
        cached_samples: Pictures that are rendered and encoded once.
        text: How long the text encoder learns by itself: see `TextTrainer`.
        diffusion: The U-Net and the text encoder.
        noise_bias: How much oftener it sees noisy timesteps: see `DiffusionTrainer`.
        precision: Dtype policy of the networks as they learn.
        seed: Seed of the scenes, the weights and the draws.
    """

    config: ModelConfig
    scenes: SceneConfig
    crowd: SceneConfig
    crop: int
    strokes: Stage
    autoencoder: Stage
    cached_samples: int
    diffusion: Stage
    text: Stage | None = None
    decoder: Stage | None = None
    noise_bias: float = 0.0
    precision: str = "float32"
    seed: int = 0


STARTER = Recipe(
    config=STARTER_GEOMETRY,
    scenes=SceneConfig(),
    crowd=SceneConfig(),
    crop=32,
    strokes=Stage(13, 200, 16, 2e-3, 0.995),
    autoencoder=Stage(2, 200, 16, 4e-4, 0.99),
    cached_samples=60_000,
    diffusion=Stage(50, 100, 64, 1.5e-3, 0.998, muon=True),
)
#: Sized for two hours on two CPU cores that multiply bfloat16.
EMOJI = Recipe(
    config=GEOMETRY,
    scenes=EVERYTHING,
    crowd=CROWD,
    crop=64,
    strokes=Stage(6, 200, 32, 2e-3, 0.995, muon=True),
    autoencoder=Stage(3, 60, 16, 8e-4, 0.98, muon=True),
    cached_samples=60_000,
    text=Stage(4, 150, 256, 2e-3, 0.99, muon=True),
    decoder=Stage(2, 200, 8, 1e-3, 0.99, muon=True),
    diffusion=Stage(28, 100, 128, 2e-3, 0.998, muon=True),
    noise_bias=0.0,
    precision="mixed_bfloat16",
)
TOY_SCENES = SceneConfig(objects=("red apple", "dog face"), shapes=("circle",))
#: A run of a minute that goes through everything and learns nothing.
TOY = Recipe(
    config=STARTER_GEOMETRY.replace(
        text_encoder=TextEncoderConfig(
            context_length=24, width=16, depth=1, heads=2, mlp_width=32
        ),
        diffusion_model=DiffusionModelConfig(
            block_widths=(16, 16),
            blocks_per_level=1,
            transformer_depths=(0, 1),
            heads=(1, 2),
            context_width=16,
            norm_groups=4,
        ),
        autoencoder=AutoencoderConfig(
            block_widths=(8, 8, 8), blocks_per_level=1, norm_groups=4
        ),
        generation=replace(STARTER_GEOMETRY.generation, num_steps=2),
    ),
    scenes=TOY_SCENES,
    crowd=TOY_SCENES,
    crop=32,
    strokes=Stage(2, 10, 4, 3e-3, 0.9),
    autoencoder=Stage(1, 2, 4, 1e-3),
    cached_samples=16,
    text=Stage(1, 2, 4, 1e-3),
    decoder=Stage(1, 2, 4, 1e-3),
    diffusion=Stage(2, 2, 4, 1e-3),
)
RECIPES = {"emoji": EMOJI, "starter": STARTER, "toy": TOY}
