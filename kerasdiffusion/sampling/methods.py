"""First-order samplers as numpy functions from noise levels to rows.

With latents `x`, noise levels `s` before and `s'` after a step, and the denoised
latents `d` that the network sees in `x`, all formulas are k-diffusion's, that is in
sigma space. A function takes the levels, float64 `(steps + 1,)` and falling, and
returns a `Row` for each network call. To add a sampler, write such a function, here or
in `multistep`, `singlestep` or `stochastic`, and enter it in `names.SAMPLERS`.
"""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.sampling.table import Row


def pairs(sigmas: np.ndarray):
    """The noise before and after each step."""
    return zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)


def slope(sigma: float) -> tuple[float, float]:
    """The record `e = (x - d) / s`, by which sigma changes the latents."""
    return 1.0 / sigma, -1.0 / sigma


def ancestral_step(sigma: float, after: float, eta: float) -> tuple[float, float]:
    """Where to step down to, and how much noise leads from there to `after`.

    `up = eta s' sqrt(s^2 - s'^2) / s`, at most `s'`, and `down^2 = s'^2 - up^2`.
    """
    up = min(after, eta * after * math.sqrt(sigma**2 - after**2) / sigma)
    return math.sqrt(after**2 - up**2), up


def churned(sigmas: np.ndarray, s_churn: float):
    """The noise before each step raised, and the noise that a step must add for it.

    The level `s` becomes `s (1 + min(s_churn / steps, sqrt(2) - 1))` ahead of the
    network call, by fresh noise. The step before adds it: the second result.
    """
    gamma = min(s_churn / (len(sigmas) - 1), math.sqrt(2.0) - 1.0)
    raised = sigmas[:-1] * (1.0 + gamma)
    fresh = np.sqrt(raised**2 - sigmas[:-1] ** 2)
    return raised.tolist(), [*fresh[1:].tolist(), 0.0]


def euler(sigmas: np.ndarray, s_churn: float = 0.0) -> list[Row]:
    """Euler's steps (Karras et al. 2022, algorithm 2 without its correction).

    `x' = d + (x - d) s' / s`, from a level that `churned` raised.
    """
    rows = []
    raised, fresh = churned(sigmas, s_churn)
    for i, after in enumerate(sigmas[1:].tolist()):
        ratio = after / raised[i]
        rows.append(
            Row(raised[i], (ratio, 0.0, 1.0 - ratio), noise=fresh[i], step=i),
        )
    return rows


def ancestral(sigmas: np.ndarray, eta: float) -> list[Row]:
    """Euler's steps down, and fresh noise up again (see `ancestral_step`).

    `x' = d + (x - d) down / s + up noise`.

    With eta 0 this is Euler and DDIM (Song et al. 2021, equation 12); with eta 1
    DDPM's posterior sampling (Ho et al. 2020, equation 7) and Euler-ancestral.
    """
    rows = []
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        down, up = ancestral_step(sigma, after, eta)
        ratio = down / sigma
        rows.append(Row(sigma, (ratio, 0.0, 1.0 - ratio), noise=up, step=i))
    return rows


def lcm(sigmas: np.ndarray, schedule: Schedule) -> list[Row]:
    """Latent consistency models (Luo et al. 2023, algorithm 3): denoise, add noise.

    `x' = f + s' noise`, where `f = c_out d + c_skip x / sqrt(1 + s^2)`,
    `c_skip = 1 / (1 + (20 t)^2)` and `c_out^2 = 1 - c_skip` at timestep `t`, as in
    diffusers, whose sigma_data is 1/2 and timestep_scaling 10.
    """
    rows = []
    timesteps = schedule.timestep_at(sigmas[:-1])
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        c_skip = 1.0 / (1.0 + (20.0 * timesteps[i]) ** 2)
        record = c_skip / math.sqrt(1.0 + sigma**2), math.sqrt(1.0 - c_skip)
        rows.append(Row(sigma, (0.0, 0.0, 1.0), record, noise=after, step=i))
    return rows


def tcd(sigmas: np.ndarray, eta: float, schedule: Schedule) -> list[Row]:
    """Trajectory consistency distillation (Zheng et al. 2024, algorithm 4).

    `x' = d + (x - d) s_g / s + sqrt(s'^2 - s_g^2) noise`, where `s_g` is the noise of
    timestep `floor((1 - eta) t')`. The last step adds none.
    """
    rows = []
    timesteps = np.round(schedule.timestep_at(np.maximum(sigmas, schedule.sigmas[0])))
    below = schedule.sigma_at(np.floor((1.0 - eta) * timesteps))
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        down = after if i == len(sigmas) - 2 else min(below[i + 1], after)
        up = math.sqrt(after**2 - down**2)
        ratio = down / sigma
        rows.append(Row(sigma, (ratio, 0.0, 1.0 - ratio), noise=up, step=i))
    return rows
