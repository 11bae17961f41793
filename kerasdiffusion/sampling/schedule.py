"""Noise levels of the training steps, and how a sampler's steps are spaced over them.

Sigma space throughout (k-diffusion's): noisy latents are `clean + sigma * noise`.
"""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.spacings import OF_SIGMAS, OF_TIMESTEPS, find_spacing

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "edm")

_BETAS = {
    "linear": np.linspace,
    "scaled_linear": lambda start, end, count: (
        np.linspace(math.sqrt(start), math.sqrt(end), count) ** 2
    ),
    "squaredcos_cap_v2": lambda start, end, count: _squared_cosine(count),
}


def _squared_cosine(count: int) -> np.ndarray:
    """Nichol and Dhariwal 2021, section 3.2; ends and cap as in diffusers."""
    shares = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - shares[1:] / shares[:-1], 0.999)


class Schedule:
    """The noise of every training step, in float64.

    Args:
        config: The betas, the number of training steps and the offset of `"leading"`
            spacing.

    Attributes:
        alphas_cumprod: float64 of shape `(train_steps,)`: the share of the signal's
            variance that is left at each training step.
        sigmas: float64 of shape `(train_steps,)`, rising: the standard deviation of
            the noise when the signal has 1, `sqrt((1 - a) / a)`.

    A network that was trained on a range of noise levels has `train_steps` of them,
    geometric, in place of steps.

    Raises:
        ValueError: If the beta schedule is unknown, or the betas are not in (0, 1).

    Example:

    >>> print(Schedule(ScheduleConfig()).sigmas[[0, -1]].round(4))
    [ 0.0292 14.6146]

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models", section 2; the
        `"scaled_linear"` betas are latent diffusion's (Rombach et al. 2022).
    """

    def __init__(self, config: ScheduleConfig):
        if config.beta_schedule not in _BETAS:
            raise ValueError(
                f"`beta_schedule` must be one of {', '.join(_BETAS)}. "
                f"Received: {config.beta_schedule!r}"
            )
        if not 0 < config.beta_start <= config.beta_end < 1 or config.train_steps < 1:
            raise ValueError(
                "A schedule needs 0 < beta_start <= beta_end < 1 and at least one "
                f"training step. Received: {config}"
            )
        self.config = config
        if config.is_continuous:
            ends = config.sigma_min, config.sigma_max
            self.sigmas = np.geomspace(*ends, config.train_steps)
            self.alphas_cumprod = 1.0 / (1.0 + self.sigmas**2)
            return
        betas = np.array(config.trained_betas, np.float64)
        if not len(betas):
            betas = _BETAS[config.beta_schedule](
                config.beta_start, config.beta_end, config.train_steps
            )
        elif len(betas) != config.train_steps or not ((betas > 0) & (betas < 1)).all():
            raise ValueError(
                "`trained_betas` must be one number over 0 and under 1 for each "
                f"training step. Received: {len(betas)} from {betas.min()} to "
                f"{betas.max()} for {config.train_steps} steps"
            )
        self.alphas_cumprod = np.cumprod(1.0 - betas)
        if config.zero_terminal_snr:
            # Lin et al. 2024, algorithm 1, but for the last: no noise is infinite.
            roots = np.sqrt(self.alphas_cumprod)
            roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
            self.alphas_cumprod = np.maximum(roots**2, 2.0**-24)
        self.sigmas = np.sqrt((1.0 - self.alphas_cumprod) / self.alphas_cumprod)

    def sigma_at(self, timesteps: np.ndarray | float) -> np.ndarray:
        """Sigma at (fractional) timesteps, linear between training steps.

        Args:
            timesteps: Values in `[0, train_steps - 1]`; others are clipped.

        Returns:
            float64 of the same shape.

        Reference:
            diffusers `scheduling_euler_discrete.py`, `interpolation_type="linear"`.
        """
        return np.interp(timesteps, np.arange(len(self.sigmas)), self.sigmas)

    def timestep_at(self, sigmas: np.ndarray | float) -> np.ndarray:
        """The (fractional) timestep of sigmas, linear in log sigma.

        Args:
            sigmas: Positive values; those out of the schedule's range are clipped.

        Returns:
            float64 of the same shape, in `[0, train_steps - 1]`.

        Reference:
            k-diffusion `external.py`, `DiscreteSchedule.sigma_to_t`.
        """
        return np.interp(
            np.log(sigmas), np.log(self.sigmas), np.arange(len(self.sigmas))
        )

    def told(self, sigmas: np.ndarray) -> np.ndarray | None:
        """What a network is told that was trained on noise levels; `None` for others.

        Reference:
            Karras et al. 2022, table 1: `c_noise`.
        """
        by_noise = self.config.timestep_type == "continuous"
        by_noise |= self.config.is_continuous
        return np.log(sigmas) / 4.0 if by_noise else None

    def scalings(self, sigmas: np.ndarray | float):
        """`scalings` of the network's prediction type."""
        kind, data = self.config.prediction_type, self.config.sigma_data
        return scalings(kind, sigmas, data)

    def spaced(
        self,
        spacing: str,
        num_steps: int,
        *,
        integer_timesteps: bool = False,
        open_end: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The noise levels that `num_steps` steps start from.

        Args:
            spacing: One of `spacings.SPACINGS`, or what other programs call it.
            num_steps: Number of steps, 1 to `train_steps`.
            integer_timesteps: Whether the network sees whole timesteps only.
            open_end: Whether `"leading"` and `"linspace"` spread one point more and
                leave the last one out, as DPM-Solver does.

        Returns:
            Sigmas and timesteps, float64 of shape `(num_steps,)`, falling.

        Raises:
            ValueError: If the spacing is unknown.
        """
        spacing = find_spacing(spacing)
        if spacing in OF_SIGMAS:
            sigmas = OF_SIGMAS[spacing](self, num_steps)
            timesteps = self.timestep_at(sigmas)
            return sigmas, np.round(timesteps) if integer_timesteps else timesteps
        timesteps = OF_TIMESTEPS[spacing](self, num_steps, open_end)
        if integer_timesteps:
            timesteps = np.round(timesteps)
        return self.sigma_at(timesteps), timesteps


def scalings(
    prediction_type: str, sigmas: np.ndarray | float, sigma_data: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What makes a denoiser of a network: `c_skip * x + c_out * network(c_in * x, t)`.

    Args:
        prediction_type: One of `PREDICTION_TYPES`.
        sigmas: The noise levels of `x`.
        sigma_data: The standard deviation of clean latents.

    Returns:
        `(c_skip, c_out, c_in)`, float64 of the shape of `sigmas`.

    Raises:
        ValueError: If the prediction type is unknown.

    Reference:
        Karras et al. 2022, section 5; k-diffusion `external.py`; Salimans and Ho
        2022, "Progressive Distillation for Fast Sampling of Diffusion Models",
        appendix D, for v.
    """
    sigmas = np.asarray(sigmas, np.float64)
    variance = sigmas**2 + sigma_data**2
    c_in = variance**-0.5
    if prediction_type == "epsilon":
        return np.ones_like(sigmas), -sigmas, c_in
    if prediction_type in ("v_prediction", "edm"):
        sign = -1.0 if prediction_type == "v_prediction" else 1.0
        return sigma_data**2 / variance, sign * sigma_data * sigmas * c_in, c_in
    if prediction_type == "sample":
        return np.zeros_like(sigmas), np.ones_like(sigmas), c_in
    raise ValueError(
        f"`prediction_type` must be one of {', '.join(PREDICTION_TYPES)}. "
        f"Received: {prediction_type!r}"
    )
