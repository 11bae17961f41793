"""Noise on latents, and the loss of what a network says of it: an objective at work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.training.objective import Objective

#: Sizes of the noise of a pyramid: each has half the side of the one before.
PYRAMID = 6
#: The signal-to-noise ratio that `debiased` takes for the highest.
MOST_SNR = 1000.0


class Drawn(NamedTuple):
    """Noisy latents, and what the network is to say of them.

    Args:
        noisy: What the network sees, float32 of the latents' shape.
        timestep: int32 of shape `(batch,)`.
        target: What it is to predict, float32.
        signal_rate: What the latents were multiplied by, `(batch, 1, 1, 1)`.
        noise_rate: The same of the noise.
    """

    noisy: object
    timestep: object
    target: object
    signal_rate: object
    noise_rate: object


class Noising:
    """An objective on a model's schedule: draws noise, and tells a prediction's loss.

    Args:
        objective: An `Objective`.
        schedule: The model's `ScheduleConfig`.

    Raises:
        ValueError: If they do not fit each other.
    """

    def __init__(self, objective: Objective, schedule: ScheduleConfig):
        if schedule.is_continuous or schedule.timestep_type == "continuous":
            raise ValueError(
                "`schedule` must be of training steps; networks of a range of noise "
                f"levels are not trained here. Received: {schedule}"
            )
        first, end = objective.timesteps
        if not 0 <= first < end <= schedule.train_steps:
            raise ValueError(
                "`timesteps` must be the first and the one after the last, of the "
                f"{schedule.train_steps} of the schedule. Received: "
                f"timesteps={objective.timesteps}"
            )
        kind = schedule.prediction_type
        if objective.debiased and kind == "sample":
            raise ValueError(
                "`debiased` is a weight of predictions of noise or v. Received: a "
                f"model of prediction_type={kind!r}"
            )
        self.objective, self.prediction_type = objective, kind
        alphas_cumprod = Schedule(schedule).alphas_cumprod
        self.signal_rates = np.sqrt(alphas_cumprod).astype("float32")
        self.noise_rates = np.sqrt(1.0 - alphas_cumprod).astype("float32")

    def draw(self, latents, seed, given: Mapping = {}) -> Drawn:
        """Timesteps and noise, in float32 whatever the networks compute in.

        Args:
            latents: Scaled latents, float32 `(batch, height, width, channels)`.
            seed: A `keras.random.SeedGenerator`.
            given: May have `"timestep"` and `"noise"`, which are then not drawn.
        """
        batch = ops.shape(latents)[0]
        timestep = given.get("timestep")
        if timestep is None:
            timestep = self._timesteps(batch, seed)
        timestep = ops.cast(timestep, "int32")
        noise = given.get("noise")
        if noise is None:
            noise = self._noise(latents, seed)
        noise = ops.cast(noise, "float32")
        signal_rate = ops.take(self.signal_rates, timestep)[:, None, None, None]
        noise_rate = ops.take(self.noise_rates, timestep)[:, None, None, None]
        seen, more = noise, self.objective.input_perturbation
        if more:
            seen = noise + more * _normal(ops.shape(latents), seed)
        target = {
            "epsilon": lambda: noise,
            "sample": lambda: latents,
            "v_prediction": lambda: signal_rate * noise - noise_rate * latents,
        }[self.prediction_type]()
        noisy = signal_rate * latents + noise_rate * seen
        return Drawn(noisy, timestep, target, signal_rate, noise_rate)

    def loss(self, prediction, drawn: Drawn, mask=None, weight=None):
        """The loss of each picture.

        Args:
            prediction: What the network said of `drawn.noisy`.
            drawn: What it was shown.
            mask: What the error of each pixel of the latents counts, from 0 to 1, of
                shape `(batch, height, width, 1)`.
            weight: What each picture counts, of shape `(batch,)`.

        Returns:
            float32 of shape `(batch,)`.
        """
        difference = ops.cast(prediction, "float32") - drawn.target
        loss = self._weight(drawn) * self._error(difference, drawn)
        if mask is not None:
            loss = loss * ops.cast(mask, "float32")
        loss = ops.mean(loss, axis=(1, 2, 3))
        return loss if weight is None else loss * ops.cast(weight, "float32")

    def dropped(self, batch, seed):
        """Which captions are exchanged for the empty one: bool, `(batch, 1)`."""
        draw = keras.random.uniform((batch, 1), dtype="float32", seed=seed)
        return draw < self.objective.caption_dropout

    def _timesteps(self, batch, seed):
        first, end = self.objective.timesteps
        draw = keras.random.uniform((batch,), dtype="float32", seed=seed)
        draw = draw ** (1.0 / (1.0 + self.objective.noise_bias))
        timestep = first + ops.cast((end - first) * draw, "int32")
        return ops.minimum(timestep, end - 1)  # float32 rounds up to `end`

    def _noise(self, latents, seed):
        shape = ops.shape(latents)
        noise = _normal(shape, seed)
        if self.objective.offset_noise:
            of_channels = _normal((shape[0], 1, 1, shape[3]), seed)
            noise = noise + self.objective.offset_noise * of_channels
        if self.objective.pyramid_noise:
            noise = _pyramid(noise, latents.shape, self.objective.pyramid_noise, seed)
        return noise

    def _error(self, difference, drawn: Drawn):
        """The error of each number.

        Reference: kohya-ss/sd-scripts `library/train_util.py`, `conditional_loss`.
        """
        square = ops.square(difference)
        if self.objective.loss == "mse":
            return square
        c = self._huber_c(drawn)
        error = 2.0 * (ops.sqrt(square + c**2) - c)
        return c * error if self.objective.loss == "huber" else error

    def _huber_c(self, drawn: Drawn):
        c, how = self.objective.huber_c, self.objective.huber_schedule
        if how == "constant":
            return c
        if how == "snr":
            sigma = drawn.noise_rate / drawn.signal_rate
            return (1.0 - c) / (1.0 + sigma) ** 2 + c
        share = ops.cast(drawn.timestep, "float32") / len(self.signal_rates)
        return ops.exp(math.log(c) * share)[:, None, None, None]

    def _weight(self, drawn: Drawn):
        gamma, is_v = self.objective.snr_gamma, self.prediction_type == "v_prediction"
        if gamma is None and not self.objective.debiased:
            return 1.0
        snr = (drawn.signal_rate / drawn.noise_rate) ** 2
        if self.objective.debiased:
            snr = ops.minimum(snr, MOST_SNR)
            return 1.0 / (snr + 1.0) if is_v else 1.0 / ops.sqrt(snr)
        divisor = {"epsilon": snr, "sample": 1.0, "v_prediction": snr + 1.0}
        return ops.minimum(snr, gamma) / divisor[self.prediction_type]


def _normal(shape, seed):
    return keras.random.normal(shape, dtype="float32", seed=seed)


def _pyramid(noise, shape, discount: float, seed):
    """Noise with noise of lower resolutions in it, of deviation 1 again.

    Reference:
        Whitaker 2023, "Multi-Resolution Noise for Diffusion Model Training", with a
        factor of 2 between resolutions in place of a random one.
    """
    batch, (height, width, channels) = ops.shape(noise)[0], shape[1:]
    if height is None or width is None:
        raise ValueError(
            "`pyramid_noise` needs batches of latents whose height and width do not "
            f"change within a run of `fit`. Received: latents of shape {tuple(shape)}"
        )
    for i in range(PYRAMID):
        size = max(1, height // 2**i), max(1, width // 2**i)
        coarse = _normal((batch, *size, channels), seed)
        coarse = ops.image.resize(
            coarse, (height, width), "bilinear", data_format="channels_last"
        )
        noise = noise + discount**i * coarse
        if 1 in size:
            break
    return noise / ops.std(noise)
