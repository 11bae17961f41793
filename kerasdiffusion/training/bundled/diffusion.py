"""Training of the U-Net and the text encoder: `fit()` on latents and tokens."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kerasdiffusion.compute.devices import shared
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.networks.quantization import check_learns
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.training.noising import Noising
from kerasdiffusion.training.objective import Objective
from kerasdiffusion.training.trainer import Trainer


class DiffusionTrainer(Trainer):
    """The U-Net and the text encoder as one model whose `fit()` teaches denoising.

    `fit()` takes dicts of `"latents"`, scaled, `(batch, height, width, channels)`, and
    `"tokens"`, `(batch, context_length)`; there is no `y`. Timesteps and noise are
    drawn inside, and some captions are exchanged for the empty one, so that guidance
    has an unconditional prediction.

    `Finetuner` teaches whole models in more ways; this one needs no tokenizer and no
    autoencoder.

    Args:
        diffusion_model: A `DiffusionModel`.
        text_encoder: A `TextEncoder`. Set `trainable = False` to keep it as it is.
        schedule: The `ScheduleConfig` of the noise and of the prediction.
        empty_tokens: Tokens of the empty prompt, of shape `(context_length,)`.
        caption_dropout: Share of captions exchanged for the empty one, from 0 to 1.
        snr_cap: Cap of the signal-to-noise ratio in the loss's weight (min-SNR);
            `None` weighs every timestep alike.
        noise_bias: How much oftener noisy timesteps are drawn: the density of
            timestep t is proportional to `t**noise_bias`. 0 draws all alike; above
            -1. Text is learnt where noise hides what the picture shows.
        seed: Seed of timesteps, noise and dropout.
    """

    def __init__(
        self,
        diffusion_model: DiffusionModel,
        text_encoder: TextEncoder,
        schedule: ScheduleConfig,
        empty_tokens: np.ndarray,
        caption_dropout: float = 0.1,
        snr_cap: float | None = None,
        noise_bias: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        objective = Objective(
            snr_gamma=snr_cap, noise_bias=noise_bias, caption_dropout=caption_dropout
        )
        self.noising = Noising(objective, schedule)
        check_learns(diffusion_model, text_encoder)
        self.diffusion_model, self.text_encoder = diffusion_model, text_encoder
        self.empty_tokens = np.asarray(empty_tokens, "int32")
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        latents, seed = ops.cast(inputs["latents"], "float32"), self.seed_generator
        drawn = self.noising.draw(latents, seed)
        dropped = self.noising.dropped(ops.shape(latents)[0], seed)
        tokens = ops.where(dropped, self.empty_tokens, inputs["tokens"])
        prediction = self.diffusion_model(
            {
                "latents": drawn.noisy,
                "timestep": ops.cast(drawn.timestep, "float32"),
                "crossattn": self.text_encoder(tokens),
            }
        )
        return self.noising.loss(prediction, drawn)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        return shared(ops.mean(y_pred))
