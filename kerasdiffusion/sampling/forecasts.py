"""Network calls that are foretold from those before: which, and by what weights.

All of it is known ahead of the run, so it is columns of a table. A forecast is a
weighted sum of the denoised latents of earlier calls, guided as they are: each picture
is foretold from its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from kerasdiffusion.sampling.table import COLUMNS, PAST, Table

#: Steps over which the polynomials' range of -1 to 1 goes, whatever a run's number.
RANGE = 50.0
#: How far from the newest to the one before it the straight line goes on.
AHEAD = 0.5
#: Of the mean variance, where no ridge makes the fit a definite one.
JITTER = 1e-4


class Forecast(NamedTuple):
    """Which steps are foretold, and how.

    Args:
        blend: The share of the polynomial fit in a forecast, from 0 to 1; the rest is
            the straight line through the latest two.
        degree: Of the Chebyshev polynomials, less than `PAST`.
        ridge: How strongly the fit's coefficients are drawn to 0.
        window: One of so many steps is computed, 1 or more.
        growth: How much longer the window is after each computed step behind the
            warm-up.
        warmup: So many steps are computed first.
        stop: The share of the steps behind which all are computed.
    """

    blend: float = 0.4
    degree: int = 3
    ridge: float = 1.0
    window: int = 2
    growth: float = 0.5
    warmup: int = 4
    stop: float = 0.9


def foretold(table: Table, how: Forecast, kinds: Sequence[Hashable]) -> Table:
    """The table, its `whole` and `forecast` columns set.

    Counted are the table's own steps. All network calls of a step are alike, since a
    step of several lives on their difference. Where what is asked of the network
    changes, nothing from before serves.

    Args:
        table: The sampler's.
        how: The `Forecast`.
        kinds: Of each row, what changes on the way: the prompt, whether it is guided.

    Returns:
        Another table.

    Reference:
        Han et al. 2026, "Adaptive Spectral Feature Forecasting for Diffusion Sampling
        Acceleration" (Spectrum), in the form of stable-diffusion.cpp
        `src/runtime/spectrum.hpp`: fitted are the denoised latents, and the window
        grows by what was computed.
    """
    whole, weights = np.ones(len(table)), np.zeros((len(table), PAST))
    steps, new = table.steps - table.steps[0], table.changing(kinds)
    last = int(np.float32(how.stop) * np.float32(steps[-1] + 1)) or np.inf
    past: list[float] = []
    since, window = 0, float(how.window)
    for step in range(int(steps[-1]) + 1):
        (rows,) = np.nonzero(steps == step)
        if new[rows[0]]:
            past = []
        every = max(1, int(window))
        if how.warmup <= step < last and len(past) > 1 and (since + 1) % every:
            since += 1
            for i in rows:
                whole[i] = 0.0
                weights[i, : len(past)] = _weights(_place(rows, i, step), past, how)
            continue
        others = [i for i in rows if kinds[i] != kinds[rows[-1]]]
        alike = range(rows[-1], others[-1] if others else rows[0] - 1, -1)
        past = [_place(rows, i, step) for i in alike] + past
        past = past[:PAST]
        since, window = 0, window + how.growth * (step >= how.warmup)
    found = table.with_column(COLUMNS.whole, whole)
    return found.with_column(COLUMNS.forecast, weights)


def _place(rows: np.ndarray, row: int, step: int) -> float:
    """Where a call is, in steps: the second of two is half way to the next."""
    return step + (row - rows[0]) / len(rows)


def _weights(at: float, past: Sequence[float], how: Forecast) -> np.ndarray:
    """What each of the past counts at a place, the newest first."""
    design, there = (_chebyshev(places, how.degree) for places in (past, [at]))
    normal = design.T @ design + how.ridge * np.eye(how.degree + 1)
    try:
        np.linalg.cholesky(normal)
    except np.linalg.LinAlgError:
        normal += JITTER * np.trace(normal) / len(normal) * np.eye(len(normal))
    found = how.blend * (design @ np.linalg.solve(normal, there[0]))
    found[:2] += (1.0 - how.blend) * np.array([1.0 + AHEAD, -AHEAD])
    return found


def _chebyshev(places: Sequence[float], degree: int) -> np.ndarray:
    """The first polynomials' values at places, along the last axis."""
    at = 2.0 * np.array(places) / RANGE - 1.0
    return np.polynomial.chebyshev.chebvander(at, degree)


def forecast(row, past):
    """The denoised latents of a row that is foretold.

    Args:
        row: One row of a table that `foretold` gave.
        past: float32 of shape `(batch, PAST, h, w, channels)`, the newest first.
    """
    weights = ops.reshape(row[COLUMNS.forecast], (1, PAST, 1, 1, 1))
    return ops.sum(weights * past, axis=1)


def joined(denoised, past):
    """The past of the next row, behind a call that gave denoised latents."""
    return ops.concatenate([denoised[:, None], past[:, :-1]], axis=1)


def empty_past(latents):
    """Room for the past, of latents of this shape."""
    return ops.stack([ops.zeros_like(latents)] * PAST, axis=1)
