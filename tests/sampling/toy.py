"""A small nonlinear network, and a table walked in float64."""

import numpy as np

from kerasdiffusion.sampling.table import COLUMNS, HISTORY

SHAPE = (4, 5, 4)
_rng = np.random.default_rng(0)
_LINEAR = 0.8 * np.eye(4) + 0.1 * _rng.normal(size=(4, 4))
_INWARD = 0.5 * _rng.normal(size=(4, 16))
_OUTWARD = 0.25 * _rng.normal(size=(16, 4))
_FREQUENCIES = _rng.normal(size=16) / 300


def network(latents, timestep, ops=np, dtype="float64"):
    """Of `(n, h, w, 4)` and `(n,)`; `ops` is numpy or `keras.ops`."""
    linear, inward, outward, frequencies = (
        weight.astype(dtype) for weight in (_LINEAR, _INWARD, _OUTWARD, _FREQUENCIES)
    )
    phase = ops.multiply(ops.reshape(timestep, (-1, 1, 1, 1)), frequencies)
    hidden = ops.tanh(ops.matmul(latents, inward) + ops.cos(phase))
    return ops.matmul(latents, linear) + ops.matmul(hidden, outward)


def denoise(x, row):
    """The toy network's denoiser, for `walk`."""
    output = network(x * row[COLUMNS.c_in], row[COLUMNS.timestep])
    return row[COLUMNS.c_skip] * x + row[COLUMNS.c_out] * output


def walk(table, x, noise=(), denoise=denoise):
    """What the loop computes, in numpy and float64.

    `noise` has one array for each row that adds some, in order.
    """
    noise = iter(noise)
    anchor = np.zeros_like(x)
    history = np.zeros((HISTORY, *x.shape))
    for row in table.values:
        record = np.tensordot(row[COLUMNS.record], [x, denoise(x, row)], 1)
        history = np.concatenate([record[None], history[:-1]])
        states = np.stack([x, anchor, *history])
        x = np.tensordot(row[COLUMNS.x], states, 1)
        anchor = np.tensordot(row[COLUMNS.anchor], states, 1)
        if row[COLUMNS.noise]:
            x = x + row[COLUMNS.noise] * next(noise)
    return x


def relative_error(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()
