"""Samplers of stochastic differential equations, see `methods`.

`h = log(s / s')` throughout, and eta is the share of the noise that the equation has.
"""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.sampling.methods import ancestral_step, pairs
from kerasdiffusion.sampling.table import Row


def dpmpp_sde(sigmas: np.ndarray, eta: float) -> list[Row]:
    """DPM-Solver++ of the stochastic equation (k-diffusion's `sample_dpmpp_sde`).

    Down from `s` and up to the middle `m = sqrt(s s')` by `ancestral_step`, which
    gives `y`; then `x' = x down / s + (1 - down / s) d(y) + up noise`. The noise is
    that of one Brownian path in sigma: the second contains the first one's.
    """
    rows = []
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        if after == 0.0:
            rows.append(Row(sigma, (0.0, 0.0, 1.0), step=i))
            continue
        middle = math.sqrt(sigma * after)
        down, up = ancestral_step(sigma, middle, eta)
        half = down / sigma
        down, up_whole = ancestral_step(sigma, after, eta)
        whole = down / sigma
        rows.append(
            Row(sigma, (half, 0.0, 1.0 - half), anchor=(1.0,), noise=up, step=i),
        )
        # up * (first noise) = y - half x - (1 - half) d: y, the anchor and the record
        # before the latest hold it.
        old = up_whole * math.sqrt((sigma - middle) / (sigma - after))
        old = old / up if up > 0.0 else 0.0
        new = up_whole * math.sqrt((middle - after) / (sigma - after))
        weights = (old, whole - old * half, 1.0 - whole, -old * (1.0 - half))
        rows.append(Row(middle, weights, noise=new, step=i))
    return rows


def dpmpp_2m_sde(sigmas: np.ndarray, eta: float, kind: str) -> list[Row]:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022b, appendix B; k-diffusion's with eta).

    With `g = (1 + eta) h`: `x' = e^-g x + (1 - e^-g) d + p (d - d_before) h / h_before
    + s' sqrt(1 - e^(-2 eta h)) noise`, where `p = (1 - e^-g) / 2` for `kind`
    `"midpoint"` and `1 - (1 - e^-g) / g` for `"heun"`. The step to zero takes `d`.
    """
    rows = []
    h_before = 0.0
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        if after == 0.0:
            rows.append(Row(sigma, (0.0, 0.0, 1.0), step=i))
            break
        h = math.log(sigma / after)
        g = (1.0 + eta) * h
        new = -math.expm1(-g)
        change = 0.0
        if h > 0.0 and h_before > 0.0:
            part = new / 2 if kind == "midpoint" else 1.0 - new / g
            change = part * h / h_before
        weights = (math.exp(-g), 0.0, new + change, -change)
        noise = after * math.sqrt(-math.expm1(-2.0 * eta * h))
        rows.append(Row(sigma, weights, noise=noise, step=i))
        h_before = h
    return rows


def dpmpp_3m_sde(sigmas: np.ndarray, eta: float) -> list[Row]:
    """SDE-DPM-Solver++(3M) (k-diffusion's `sample_dpmpp_3m_sde`).

    `x' = e^-g x + (1 - e^-g) d + p_2 D_1 - p_3 D_2 + s' sqrt(1 - e^(-2 eta h)) noise`,
    where `D_1` and `D_2` are the divided differences of the latest three `d`,
    `p_2 = 1 - (1 - e^-g) / g`, `p_3 = p_2 / g - 1/2`, and `g = (1 + eta) h`.
    """
    rows = []
    past = []
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        if after == 0.0:
            rows.append(Row(sigma, (0.0, 0.0, 1.0), step=i))
            break
        h = math.log(sigma / after)
        g = (1.0 + eta) * h
        weights = np.array([-math.expm1(-g), 0.0, 0.0])
        if h > 0.0 and past and min(past) > 0.0:
            p_2 = 1.0 + math.expm1(-g) / g
            p_3 = p_2 / g - 0.5
            ratios = [before / h for before in past]
            latest = np.array([1.0, -1.0, 0.0]) / ratios[0]
            weights += p_2 * latest
            if len(past) == 2:
                second = latest - np.array([0.0, 1.0, -1.0]) / ratios[1]
                second /= sum(ratios)
                weights += p_2 * ratios[0] * second - p_3 * second
        noise = after * math.sqrt(-math.expm1(-2.0 * eta * h))
        rows.append(Row(sigma, (math.exp(-g), 0.0, *weights), noise=noise, step=i))
        past = [h, *past][:2]
    return rows
