"""Training of the U-Net and the text encoder: `fit()` on latents and tokens."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.networks.quantization import check_learns
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.training.trainer import Trainer


class DiffusionTrainer(Trainer):
    """The U-Net and the text encoder as one model whose `fit()` teaches denoising.

    `fit()` takes dicts of `"latents"`, scaled, `(batch, height, width, channels)`, and
    `"tokens"`, `(batch, context_length)`; there is no `y`. Timesteps and noise are
    drawn inside, and some captions are exchanged for the empty one, so that guidance
    has an unconditional prediction.

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

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models", algorithm 1;
        Salimans and Ho 2022, "Progressive Distillation", appendix D (v);
        Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting
        Strategy", section 3.4.
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
        if schedule.is_continuous:
            raise ValueError(
                "`schedule` must be of training steps; networks of a range of noise "
                f"levels are not trained here. Received: {schedule}"
            )
        if not noise_bias > -1:
            raise ValueError(
                f"`noise_bias` must be above -1. Received: noise_bias={noise_bias}"
            )
        check_learns(diffusion_model, text_encoder)
        self.diffusion_model, self.text_encoder = diffusion_model, text_encoder
        self.prediction_type = schedule.prediction_type
        self.caption_dropout, self.snr_cap = caption_dropout, snr_cap
        self.noise_bias = noise_bias
        self.empty_tokens = np.asarray(empty_tokens, "int32")
        alphas_cumprod = Schedule(schedule).alphas_cumprod
        self.signal_rates = np.sqrt(alphas_cumprod).astype("float32")
        self.noise_rates = np.sqrt(1.0 - alphas_cumprod).astype("float32")
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        latents = ops.cast(inputs["latents"], "float32")
        batch = ops.shape(latents)[0]
        timestep = self._draw_timesteps(batch)
        noise = keras.random.normal(ops.shape(latents), seed=self.seed_generator)
        signal_rate = ops.take(self.signal_rates, timestep)[:, None, None, None]
        noise_rate = ops.take(self.noise_rates, timestep)[:, None, None, None]
        prediction = self.diffusion_model(
            {
                "latents": signal_rate * latents + noise_rate * noise,
                "timestep": ops.cast(timestep, "float32"),
                "crossattn": self.text_encoder(self._drop_captions(inputs["tokens"])),
            }
        )
        snr = (signal_rate / noise_rate) ** 2
        target, divisor = {
            "epsilon": (noise, snr),
            "sample": (latents, 1.0),
            "v_prediction": (signal_rate * noise - noise_rate * latents, snr + 1.0),
        }[self.prediction_type]
        weight = 1.0 if self.snr_cap is None else ops.minimum(snr, self.snr_cap)
        weight = weight if self.snr_cap is None else weight / divisor
        error = ops.square(ops.cast(prediction, "float32") - target)
        return ops.mean(weight * error, axis=(1, 2, 3))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        return ops.mean(y_pred)

    def _draw_timesteps(self, batch):
        steps = len(self.signal_rates)
        draw = keras.random.uniform((batch,), seed=self.seed_generator)
        timestep = ops.cast(steps * draw ** (1.0 / (1.0 + self.noise_bias)), "int32")
        return ops.minimum(timestep, steps - 1)  # float32 rounds up to `steps`

    def _drop_captions(self, tokens):
        draw = keras.random.uniform((ops.shape(tokens)[0], 1), seed=self.seed_generator)
        return ops.where(draw < self.caption_dropout, self.empty_tokens, tokens)
