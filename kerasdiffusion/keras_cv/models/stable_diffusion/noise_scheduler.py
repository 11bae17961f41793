"""KerasCV's noise: what training adds to latents, and the steps of DDPM."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.schedule import Schedule

VARIANCES = (
    *("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    *("learned", "learned_range"),
)


class NoiseScheduler:
    """Noise by training steps, with KerasCV's arguments and defaults.

    Stable Diffusion's own are `beta_start=0.00085, beta_end=0.012,
    beta_schedule="scaled_linear"`; the defaults are DDPM's.

    Args:
        train_timesteps: Training steps.
        beta_start: The first step's beta, over 0.
        beta_end: The last one's, under 1.
        beta_schedule: `"linear"` or `"scaled_linear"`.
        variance_type: The variance of `step`'s noise: `"fixed_small"`,
            `"fixed_large"`, the same with `"_log"`; `"learned"` or `"learned_range"`,
            which the network predicts in as many channels more.
        clip_sample: Whether `step` clips the clean sample to [-1, 1].

    Attributes:
        betas: float32 tensor of shape `(train_timesteps,)`.
        alphas: `1 - betas`.
        alphas_cumprod: The share of the signal's variance that is left at each step.

    Raises:
        ValueError: If an argument is none of those.

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models"; huggingface
        diffusers 0.3, `schedulers/scheduling_ddpm.py`.
    """

    def __init__(
        self,
        train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        variance_type: str = "fixed_small",
        clip_sample: bool = True,
    ):
        if variance_type not in VARIANCES:
            raise ValueError(
                f"`variance_type` must be one of {', '.join(VARIANCES)}. "
                f"Received: {variance_type!r}"
            )
        config = ScheduleConfig(
            train_steps=train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
        )
        left = Schedule(config).alphas_cumprod
        betas = 1.0 - left / np.append(1.0, left[:-1])
        # `step` counts with these: float32 loses what is next to nothing or all.
        self._left = np.append(left, 1.0)
        self._betas = betas
        self.train_timesteps = train_timesteps
        self.betas = ops.convert_to_tensor(betas, "float32")
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = ops.convert_to_tensor(left, "float32")
        self.variance_type, self.clip_sample = variance_type, clip_sample
        self.seed_generator = keras.random.SeedGenerator(seed=42)

    def __len__(self) -> int:
        return self.train_timesteps

    def add_noise(self, original_samples, noise, timesteps):
        """Samples as they are at training steps: noise added, the signal scaled.

        Args:
            original_samples: Tensor of shape `(batch, ...)`.
            noise: Unit normal, of the same shape.
            timesteps: Whole numbers of shape `(batch,)`, from 0.

        Returns:
            A tensor of the same shape.
        """
        original_samples = ops.convert_to_tensor(original_samples)
        noise = ops.convert_to_tensor(noise)
        left = ops.take(self.alphas_cumprod, timesteps)
        ones = (1,) * (len(original_samples.shape) - len(left.shape))
        left = ops.reshape(left, (*ops.shape(left), *ones))
        signal = ops.cast(ops.sqrt(left), original_samples.dtype)
        return signal * original_samples + (
            ops.cast(ops.sqrt(1.0 - left), noise.dtype) * noise
        )

    def step(self, model_output, timestep: int, sample, predict_epsilon: bool = True):
        """The sample one training step earlier, by DDPM, with fresh noise.

        Args:
            model_output: What the network predicts, of the shape of the sample; with
                its variance behind it in the channels, where that is learned.
            timestep: The step of the sample, a whole number from 0.
            sample: Tensor of shape `(batch, height, width, channels)`.
            predict_epsilon: Whether the network predicts noise, or the clean sample.

        Returns:
            A tensor of the shape of the sample.

        Reference:
            Ho et al. 2020, equations 7 and 15.
        """
        timestep, learned = int(timestep), None
        sample = ops.convert_to_tensor(sample)
        model_output = ops.convert_to_tensor(model_output)
        if self.variance_type.startswith("learned"):
            if model_output.shape[-1] != 2 * sample.shape[-1]:
                raise ValueError(
                    "With a learned variance the network must predict "
                    f"{2 * sample.shape[-1]} channels, the second half of them the "
                    f"variance. Received: the shape {tuple(model_output.shape)}"
                )
            model_output, learned = ops.split(model_output, 2, axis=-1)
        now, before, beta = self._at(timestep)
        clean = model_output
        if predict_epsilon:
            clean = (sample - (1.0 - now) ** 0.5 * model_output) / now**0.5
        if self.clip_sample:
            clean = ops.clip(clean, -1.0, 1.0)
        mean = (before**0.5 * beta / (1.0 - now)) * clean + (
            (1.0 - beta) ** 0.5 * (1.0 - before) / (1.0 - now)
        ) * sample
        if timestep == 0:
            return mean
        noise = keras.random.normal(ops.shape(sample), seed=self.seed_generator)
        return mean + ops.cast(self._deviation(timestep, learned) * noise, mean.dtype)

    def _at(self, timestep: int) -> tuple[float, float, float]:
        """The share of the signal at a step and at the one before, and its beta."""
        # Ahead of the first step, at -1, all of it is left.
        shares = self._left[timestep], self._left[timestep - 1]
        return (*map(float, shares), float(self._betas[timestep]))

    def _deviation(self, timestep: int, learned):
        """The standard deviation of the noise; types are of the variance or its log."""
        now, before, beta = self._at(timestep)
        small = min(max((1.0 - before) / (1.0 - now) * beta, 1e-20), 1.0)
        if self.variance_type == "learned":
            return learned**0.5
        if self.variance_type == "learned_range":
            share = (learned + 1.0) / 2.0
            log = share * math.log(beta) + (1.0 - share) * math.log(small)
            return ops.exp(0.5 * log)
        return (small if "small" in self.variance_type else beta) ** 0.5
