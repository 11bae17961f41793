"""Samplers that call the network twice or more within a step, see `methods`."""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.sampling.methods import ancestral_step, churned, pairs, slope
from kerasdiffusion.sampling.spacings import karras
from kerasdiffusion.sampling.table import Row

START = (1.0,)  # As the next anchor: the latents before the step.


def heun(sigmas: np.ndarray, s_churn: float = 0.0) -> list[Row]:
    """Heun's second-order steps (Karras et al. 2022, algorithm 2).

    `e = (x - d) / s`; `y = x + (s' - s) e` is only tried, and
    `x' = x + (s' - s) (e + e(y)) / 2`. The step to zero is Euler's.
    """
    rows = []
    raised, fresh = churned(sigmas, s_churn)
    for i, after in enumerate(sigmas[1:].tolist()):
        rows += _heun(raised[i], after, fresh[i], i)
    return rows


def _heun(sigma: float, after: float, noise: float, step: int) -> list[Row]:
    change = after - sigma
    first = Row(sigma, (1.0, 0.0, change), slope(sigma), START, step=step)
    if after == 0.0:
        return [first._replace(noise=noise)]
    mean = (0.0, 1.0, change / 2, change / 2)
    return [first, Row(after, mean, slope(after), noise=noise, step=step)]


def heunpp2(sigmas: np.ndarray, s_churn: float = 0.0) -> list[Row]:
    """Heun++ (Wang et al. 2023, "Stable Diffusion with Continuous-time Neural ODE").

    Two trial steps ahead, and the mean of the three slopes, the later ones with weights
    `s' / (3 s_0)` and `s'' / (3 s_0)`, where `s_0` is the first level; the last step
    but one has one trial and `s' / (2 s_0)`, the step to the end none.
    """
    rows = []
    raised, fresh = churned(sigmas, s_churn)
    levels = sigmas.tolist()
    for i, after in enumerate(levels[1:]):
        change = after - raised[i]
        ahead = levels[i + 1 : -1][:2]  # The levels of the trials.
        parts = [level / ((len(ahead) + 1) * levels[0]) for level in ahead]
        first = 1.0 - sum(parts)
        rows.append(Row(raised[i], (1.0, 0.0, change), slope(raised[i]), START, step=i))
        for j, level in enumerate(ahead):
            if j + 1 < len(ahead):
                weights = (1.0, 0.0, ahead[j + 1] - level)
            else:  # The history has the latest slope first.
                means = [*reversed(parts), first]
                weights = (0.0, 1.0, *(change * mean for mean in means))
            rows.append(Row(level, weights, slope(level), step=i))
        rows[-1] = rows[-1]._replace(noise=fresh[i])
    return rows


def dpm2(sigmas: np.ndarray, s_churn: float = 0.0) -> list[Row]:
    """DPM-Solver-2 (Lu et al. 2022a, algorithm 1) as k-diffusion has it.

    The whole step goes along the slope at `sqrt(s s')`, which Euler's half step tries.
    """
    rows = []
    raised, fresh = churned(sigmas, s_churn)
    for i, after in enumerate(sigmas[1:].tolist()):
        rows += _dpm2(raised[i], after, fresh[i], i)
    return rows


def dpm2_ancestral(sigmas: np.ndarray, eta: float) -> list[Row]:
    """`dpm2` down to `ancestral_step`'s level, and fresh noise.

    A step down to zero adds no noise, as in k-diffusion.
    """
    rows = []
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        down, up = ancestral_step(sigma, after, eta)
        rows += _dpm2(sigma, down, up if down > 0.0 else 0.0, i)
    return rows


def _dpm2(sigma: float, after: float, noise: float, step: int) -> list[Row]:
    change = after - sigma
    if after == 0.0:
        return [Row(sigma, (1.0, 0.0, change), slope(sigma), noise=noise, step=step)]
    middle = math.sqrt(sigma * after)
    half = (1.0, 0.0, middle - sigma)
    return [
        Row(sigma, half, slope(sigma), START, step=step),
        Row(middle, (0.0, 1.0, change), slope(middle), noise=noise, step=step),
    ]


def dpmpp_2s_ancestral(sigmas: np.ndarray, eta: float) -> list[Row]:
    """DPM-Solver++(2S) (Lu et al. 2022b, algorithm 1), down and up again.

    `y = x m / s + (1 - m / s) d` at `m = sqrt(s down)`, and
    `x' = x down / s + (1 - down / s) d(y) + up noise`.
    """
    rows = []
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        down, up = ancestral_step(sigma, after, eta)
        whole = down / sigma
        if down == 0.0:
            rows.append(Row(sigma, (0.0, 0.0, 1.0), noise=up, step=i))
            continue
        half = math.sqrt(whole)
        middle = sigma * half
        rows.append(Row(sigma, (half, 0.0, 1.0 - half), anchor=START, step=i))
        rows.append(Row(middle, (0.0, whole, 1.0 - whole), noise=up, step=i))
    return rows


def dpm_fast(sigmas: np.ndarray, eta: float) -> list[Row]:
    """DPM-Solver-fast (Lu et al. 2022a, section 3.4): orders 3, 3, ..., and the rest.

    As many network calls as there are steps, from the first level to the last, which
    is above zero; the levels between are its own, even in log sigma.
    """
    calls, end = len(sigmas) - 1, float(sigmas[-1])
    count = calls // 3 + 1
    orders = [3] * (count - 1) + [calls % 3]
    if calls % 3 == 0:
        orders = [3] * (count - 2) + [2, 1]
    levels = np.geomspace(sigmas[0], end, count + 1).tolist()
    rows = []
    for order, sigma, after in zip(orders, levels[:-1], levels[1:], strict=True):
        down, _ = ancestral_step(sigma, after, eta)
        down = max(down, end)
        up = math.sqrt(max(after**2 - down**2, 0.0))
        rows += _exponential_steps(order, sigma, down, up)
    return [row._replace(step=i) for i, row in enumerate(rows)]


def _exponential_steps(order: int, sigma: float, after: float, noise: float):
    """One step of DPM-Solver-1, -2 or -3 (Lu et al. 2022a, equation 3.3, algorithms).

    Evaluated at parts `k / order` of the step in log sigma; `g(z) = s e^-z (1 - e^z)`
    is what the first slope is weighed by after `z`.
    """
    h = math.log(sigma / after)

    def first(z):
        return -sigma * math.exp(-z) * math.expm1(z)

    def second(z):  # What the difference of two slopes is weighed by, times z.
        return -sigma * math.exp(-z) * (math.expm1(z) / z - 1.0)

    if order == 1 or h == 0.0:
        return [Row(sigma, (1.0, 0.0, first(h)), slope(sigma), START, noise)]
    if order == 2:
        middle = sigma * math.exp(-h / 2)
        return [
            Row(sigma, (1.0, 0.0, first(h / 2)), slope(sigma), START),
            Row(middle, (0.0, 1.0, first(h)), slope(middle), noise=noise),
        ]
    one, two = (sigma * math.exp(-part * h) for part in (1 / 3, 2 / 3))
    toward_two = 2.0 * second(h * 2 / 3)
    toward_end = 1.5 * second(h)
    return [
        Row(sigma, (1.0, 0.0, first(h / 3)), slope(sigma), START),
        Row(
            one,
            (0.0, 1.0, toward_two, first(h * 2 / 3) - toward_two),
            slope(one),
        ),
        Row(
            two,
            (0.0, 1.0, toward_end, 0.0, first(h) - toward_end),
            slope(two),
            noise=noise,
        ),
    ]


def restart(sigmas: np.ndarray) -> list[Row]:
    """Restart sampling (Xu et al. 2023, algorithm 1) with Heun's steps.

    From 20 steps on, 9 of them (from 36 on, twice a fourth) go from 2 down to 0.1 once
    more, after noise has led up there; the others are spaced as Karras et al. do. The
    plan is that of AUTOMATIC1111's web UI.
    """
    count = len(sigmas) - 1
    plan = list(pairs(sigmas))
    if count >= 20:
        again, times = (count // 4, 2) if count >= 36 else (9, 1)
        levels = karras(sigmas[0], sigmas[-2], count - again * times)
        levels = np.append(levels, 0.0)
        levels[0] = sigmas[0]
        low = int(np.argmin(abs(levels - 0.1)))
        high = int(np.argmin(abs(levels - 2.0)))
        plan = list(pairs(levels))
        if high < low:
            back = karras(levels[high], levels[low], again + 1)
            back[[0, -1]] = levels[[high, low]]
            plan[low:low] = list(pairs(back)) * times
    rows = []
    for i, (sigma, after) in enumerate(plan):
        rows += _heun(sigma, after, 0.0, i)
        if i + 1 < len(plan) and plan[i + 1][0] > after:
            up = math.sqrt(plan[i + 1][0] ** 2 - after**2)
            rows[-1] = rows[-1]._replace(noise=up)
    return rows
