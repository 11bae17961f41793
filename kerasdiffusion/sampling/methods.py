"""Samplers as numpy functions from noise levels to rows.

With latents `x`, noise levels `s` before and `s'` after a step, and the denoised
latents `d` that the network sees in `x`, all formulas are k-diffusion's, that is in
sigma space. A function takes the levels, float64 `(steps + 1,)` and falling, and
returns a `Row` for each network call. To add a sampler, write such a function and
enter it in `samplers.SAMPLERS`.
"""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.sampling.schedule import scalings
from kerasdiffusion.sampling.table import Row


def ancestral(sigmas: np.ndarray, eta: float) -> list[Row]:
    """Euler (Karras et al. 2022, algorithm 1), with fresh noise.

    `x' = d + (x - d) down / s + up noise`, where
    `up = eta s' sqrt(s^2 - s'^2) / s` and `down^2 = s'^2 - up^2`.

    With eta 0 this is Euler and DDIM (Song et al. 2021, equation 12); with eta 1
    DDPM's posterior sampling (Ho et al. 2020, equation 7) and Euler-ancestral.
    """
    rows = []
    for i, (sigma, after) in enumerate(_pairs(sigmas)):
        up = min(after, eta * after * math.sqrt(sigma**2 - after**2) / sigma)
        ratio = math.sqrt(after**2 - up**2) / sigma
        rows.append(Row(sigma, (ratio, 0.0, 1.0 - ratio), noise=up, step=i))
    return rows


def heun(sigmas: np.ndarray) -> list[Row]:
    """Heun's second-order steps (Karras et al. 2022, algorithm 1).

    `e = (x - d) / s`; `y = x + (s' - s) e` is only tried, and
    `x' = x + (s' - s) (e + e(y)) / 2`. The step to zero is Euler's.
    """
    rows = []
    for i, (sigma, after) in enumerate(_pairs(sigmas)):
        change = after - sigma
        slope = (1.0 / sigma, -1.0 / sigma)
        rows.append(Row(sigma, (1.0, 0.0, change), slope, anchor=(1.0,), step=i))
        if after > 0.0:
            slope = (1.0 / after, -1.0 / after)
            half = change / 2
            rows.append(Row(after, (0.0, 1.0, half, half), slope, step=i))
    return rows


def lms(sigmas: np.ndarray, order: int = 4) -> list[Row]:
    """Linear multistep (k-diffusion's `sample_lms`): Adams-Bashforth over sigmas.

    `x' = x + sum_j w_j e_j` with the latest slopes `e = (x - d) / s`, where `w_j` is
    the integral from `s` to `s'` of the j-th Lagrange polynomial through their sigmas.
    """
    # Two Gauss points integrate the cubics of order 4 exactly.
    nodes, shares = np.polynomial.legendre.leggauss((order + 1) // 2)
    rows = []
    for i, (sigma, after) in enumerate(_pairs(sigmas)):
        past = sigmas[i::-1][:order]
        points = (sigma + after + nodes * (after - sigma)) / 2
        weights = []
        for j, own in enumerate(past):
            others = np.delete(past, j)
            basis = np.prod((points[:, None] - others) / (own - others), axis=1)
            weights.append(basis @ shares * (after - sigma) / 2)
        slope = (1.0 / sigma, -1.0 / sigma)
        rows.append(Row(sigma, (1.0, 0.0, *weights), slope, step=i))
    return rows


def pndm(sigmas: np.ndarray, prediction_type: str) -> list[Row]:
    """PNDM (Liu et al. 2022, "Pseudo Numerical Methods", F-PNDM without Runge-Kutta).

    `x' = x + (s' - s) e`, where `e` is the Adams-Bashforth mean of the latest network
    outputs (2, 3 and 4 of them: (3 -1)/2, (23 -16 5)/12, (55 -59 37 -9)/24), turned
    into a slope at `s`. The first step is made twice, the second time with the mean of
    the outputs at both its ends. As in diffusers, outputs are averaged as they come,
    whether epsilon or v.
    """
    c_skip, c_out, _ = scalings(prediction_type, sigmas[:-1])
    adams = ((1.0,), (1.5, -0.5), (23 / 12, -16 / 12, 5 / 12))
    adams += ((55 / 24, -59 / 24, 37 / 24, -9 / 24),)
    pairs = list(_pairs(sigmas))
    # (row's own step, step that it makes, weights of anchor and history, next anchor)
    calls = [(0, 0, (0.0, 1.0), (1.0,))]
    if len(pairs) > 1:
        calls.append((1, 0, (0.0, 0.5, 0.5), (0.0, 1.0)))
    for i in range(1, len(pairs)):
        weights = (0.0, *adams[min(i, 3)])
        anchor = (0.0, 1.0)
        # The trial's output is no part of the means, yet lies in the history between
        # the first output and the others: step over it, and keep the first output in
        # the anchor when it leaves the history.
        if i == 1:
            weights = (0.0, 1.5, 0.0, -0.5)
        elif i == 2:
            weights = (0.0, 23 / 12, -16 / 12, 0.0, 5 / 12)
            anchor = (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        elif i == 3:
            weights = (-9 / 24, 55 / 24, -59 / 24, 37 / 24)
        calls.append((i, i, weights, anchor))
    rows = []
    for at, step, means, anchor in calls:
        sigma, after = pairs[step]
        # x' = x + (after - sigma) (x - c_skip x - c_out mean) / sigma
        rate = (after - sigma) / sigma
        keep = 1.0 + rate * (1.0 - c_skip[step])
        weights = -rate * c_out[step] * np.asarray(means)
        weights = np.concatenate([[0.0], weights])
        weights[1 if at != step else 0] += keep
        record = (-c_skip[at] / c_out[at], 1.0 / c_out[at])
        rows.append(Row(pairs[at][0], weights, record, anchor, step=step))
    return rows


def plms(sigmas: np.ndarray) -> list[Row]:
    """PLMS (latent diffusion's sampler, after Liu et al. 2022): PNDM's formula.

    `x' = x + (s' - s) e` with the means of `pndm`, here always of the slopes
    `e = (x - d) / s`, as in the original code. PNDM differs for v-prediction alone.
    """
    return pndm(sigmas, "epsilon")


def dpmpp_2m(sigmas: np.ndarray) -> list[Row]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2).

    `x' = x s' / s + (1 - s' / s) D`, `D = d + (d - d_before) h / (2 h_before)`, where
    `h = log(s / s')`. The first step and the step to zero take `D = d`.
    """
    rows = []
    h_before = 0.0
    for i, (sigma, after) in enumerate(_pairs(sigmas)):
        ratio = after / sigma
        h = math.log(sigma / after) if after > 0.0 else 0.0
        slope = h / (2 * h_before) if h_before > 0.0 else 0.0
        new = 1.0 - ratio
        rows.append(
            Row(sigma, (ratio, 0.0, new * (1 + slope), -new * slope), step=i),
        )
        h_before = h
    return rows


def _pairs(sigmas: np.ndarray):
    """The noise before and after each step."""
    return zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)
