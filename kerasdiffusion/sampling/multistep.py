"""Samplers that remember past network calls, see `methods`."""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.sampling.methods import pairs, slope
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.sampling.table import Row

#: Adams-Bashforth's means of the latest slopes at even steps, orders 1 to 4.
ADAMS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def lms(sigmas: np.ndarray, order: int = 4) -> list[Row]:
    """Linear multistep (k-diffusion's `sample_lms`): Adams-Bashforth over sigmas.

    `x' = x + sum_j w_j e_j` with the latest slopes `e = (x - d) / s`, where `w_j` is
    the integral from `s` to `s'` of the j-th Lagrange polynomial through their sigmas.
    """
    # Two Gauss points integrate the cubics of order 4 exactly.
    nodes, shares = np.polynomial.legendre.leggauss((order + 1) // 2)
    rows = []
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        past = sigmas[i::-1][:order]
        points = (sigma + after + nodes * (after - sigma)) / 2
        weights = []
        for j, own in enumerate(past):
            others = np.delete(past, j)
            basis = np.prod((points[:, None] - others) / (own - others), axis=1)
            weights.append(basis @ shares * (after - sigma) / 2)
        rows.append(Row(sigma, (1.0, 0.0, *weights), slope(sigma), step=i))
    return rows


def pndm(sigmas: np.ndarray, schedule: Schedule) -> list[Row]:
    """PNDM (Liu et al. 2022, "Pseudo Numerical Methods", F-PNDM without Runge-Kutta).

    `x' = x + (s' - s) e`, where `e` is the Adams-Bashforth mean of the latest network
    outputs (2, 3 and 4 of them: (3 -1)/2, (23 -16 5)/12, (55 -59 37 -9)/24), turned
    into a slope at `s`. The first step is made twice, the second time with the mean of
    the outputs at both its ends. As in diffusers, outputs are averaged as they come,
    whether epsilon or v.
    """
    return _pndm(sigmas, *schedule.scalings(sigmas[:-1])[:2])


def _pndm(sigmas: np.ndarray, c_skip: np.ndarray, c_out: np.ndarray) -> list[Row]:
    steps = list(pairs(sigmas))
    # (row's own step, step that it makes, weights of anchor and history, next anchor)
    calls = [(0, 0, (0.0, 1.0), (1.0,))]
    if len(steps) > 1:
        calls.append((1, 0, (0.0, 0.5, 0.5), (0.0, 1.0)))
    for i in range(1, len(steps)):
        weights = (0.0, *ADAMS[min(i, 3)])
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
        sigma, after = steps[step]
        # x' = x + (after - sigma) (x - c_skip x - c_out mean) / sigma
        rate = (after - sigma) / sigma
        keep = 1.0 + rate * (1.0 - c_skip[step])
        weights = -rate * c_out[step] * np.asarray(means)
        weights = np.concatenate([[0.0], weights])
        weights[1 if at != step else 0] += keep
        record = (-c_skip[at] / c_out[at], 1.0 / c_out[at])
        rows.append(Row(steps[at][0], weights, record, anchor, step=step))
    return rows


def plms(sigmas: np.ndarray) -> list[Row]:
    """PLMS (latent diffusion's sampler, after Liu et al. 2022): PNDM's formula.

    `x' = x + (s' - s) e` with the means of `pndm`, here always of the slopes
    `e = (x - d) / s`, as in the original code. PNDM differs for v-prediction alone.
    """
    return _pndm(sigmas, np.ones(len(sigmas) - 1), -sigmas[:-1])


def ipndm(sigmas: np.ndarray) -> list[Row]:
    """Improved PNDM (Zhang and Chen 2023, "Fast Sampling with Exponential Integrator").

    `x' = x + (s' - s) e`, where `e` is the Adams-Bashforth mean of the latest one to
    four slopes `(x - d) / s`, as if the levels were even.
    """
    rows = []
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        weights = [(after - sigma) * mean for mean in ADAMS[min(i, 3)]]
        rows.append(Row(sigma, (1.0, 0.0, *weights), slope(sigma), step=i))
    return rows


def deis(sigmas: np.ndarray, order: int) -> list[Row]:
    """DEIS (Zhang and Chen 2023, algorithm 1) over log sigma, as in diffusers.

    `x' = x + sum_j w_j e_j` with the latest slopes `e = (x - d) / s`, where `w_j` is
    the integral from `s` to `s'` of the j-th Lagrange polynomial in log sigma. Below 15
    steps the last ones are of lower order.
    """
    count = len(sigmas) - 1
    logs = np.log(sigmas)
    rows = []
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        now = min(order, i + 1, count - i if count < 15 else order)
        nodes = logs[i::-1][:now]
        if len(set(nodes)) < now:  # Two steps at one level: no polynomial.
            nodes = nodes[:1]
        weights = []
        for j, own in enumerate(nodes):
            others = np.delete(nodes, j)
            basis = np.poly1d(others, r=True) / np.prod(own - others)
            # The integral of p(u) e^u is (p - p' + p'' - ...) e^u.
            primitive = basis - basis.deriv() + basis.deriv(2)
            weights.append(
                primitive(logs[i + 1]) * after - primitive(logs[i]) * sigma,
            )
        rows.append(Row(sigma, (1.0, 0.0, *weights), slope(sigma), step=i))
    return rows


def dpmpp_2m(sigmas: np.ndarray) -> list[Row]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2).

    `x' = x s' / s + (1 - s' / s) D`, `D = d + (d - d_before) h / (2 h_before)`, where
    `h = log(s / s')`. The first step and the step to zero take `D = d`.
    """
    rows = []
    h_before = 0.0
    for i, (sigma, after) in enumerate(pairs(sigmas)):
        ratio = after / sigma
        h = math.log(sigma / after) if after > 0.0 else 0.0
        part = h / (2 * h_before) if h_before > 0.0 else 0.0
        new = 1.0 - ratio
        rows.append(
            Row(sigma, (ratio, 0.0, new * (1 + part), -new * part), step=i),
        )
        h_before = h
    return rows


def unipc(sigmas: np.ndarray, order: int, kind: str) -> list[Row]:
    """UniPC (Zhao et al. 2023, algorithms 5 and 6) on predictions of clean latents.

    A step's prediction is corrected by the network call of the next step, from the
    same start (the anchor), and the next prediction goes on from the corrected latents.
    `kind` is `"bh1"` or `"bh2"`, the paper's `B(h) = h` and `e^h - 1`. As in diffusers,
    the order grows from 1 and falls to 1 at the end.
    """
    count = len(sigmas) - 1
    with np.errstate(divide="ignore"):
        lambdas = -np.log(sigmas)
    rows, before = [], 0
    for i in range(count):
        now = min(order, i + 1, count - i)
        # The corrected latents, as weights of (x, anchor, the latest four predictions).
        corrected = np.eye(6)[0]
        if i > 0:
            keep, newest, *others = _unified(lambdas, i - 1, before, kind, True)
            corrected = np.array([0.0, keep, newest, *others, *[0.0] * 3])[:6]
        keep, *predictions = _unified(lambdas, i, now, kind, False)
        weights = keep * corrected
        weights[2 : 2 + len(predictions)] += predictions
        rows.append(Row(float(sigmas[i]), weights, anchor=corrected, step=i))
        before = now
    return rows


def _unified(lambdas, i: int, order: int, kind: str, corrects: bool) -> list[float]:
    """The step from level `i` as weights of its latents and of predictions.

    A corrector weighs first the prediction at the step's end, then those at its start
    and before it; a predictor has none at the end.
    """
    h = lambdas[i + 1] - lambdas[i]
    keep = math.exp(-h)
    new = -math.expm1(-h)
    scale = h if kind == "bh1" else new
    past = (lambdas[i - order + 1 : i] - lambdas[i])[::-1]
    if h == 0.0 or not past.all() or len(set(past)) < len(past):
        order, past = 1, past[:0]
    nodes = np.append(past / h, 1.0) if corrects else past / h
    if len(nodes) == 1:
        parts = np.array([0.5])
    elif len(nodes) == 0 or h == 0.0:
        parts = np.zeros(len(nodes))
    else:
        # Moments of the integral of e^(-h (1 - r)) r^k, k = 1, 2, ..., by parts.
        moments, phi, factorial = [], math.expm1(-h) / -h - 1.0, 1.0
        for k in range(1, len(nodes) + 1):
            moments.append(phi * factorial / -scale)
            factorial *= k + 1
            phi = phi / -h - 1.0 / factorial
        powers = np.vander(nodes, increasing=True).T
        parts = np.linalg.solve(powers, moments)
    # Of differences from the prediction at the start.
    parts = scale * parts / nodes
    start = new - parts.sum()
    if corrects:
        return [keep, parts[-1], start, *parts[:-1]]
    return [keep, start, *parts]
