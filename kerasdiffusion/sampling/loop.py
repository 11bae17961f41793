"""The one sampling loop: walks a table, whichever sampler it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kerasdiffusion.compute.backend import while_loop
from kerasdiffusion.compute.kept_traces import named
from kerasdiffusion.sampling.table import COLUMNS, HISTORY, STATES


@named
class Carry(NamedTuple):
    """What passes from row to row.

    Args:
        x: Latents in sigma space, float32 `(batch, h, w, channels)`.
        anchor: Latents that a sampler remembers, of the same shape.
        history: The latest records, newest first: `(HISTORY, batch, h, w, channels)`.
        memory: What the denoiser remembers, a tuple of tensors.
    """

    x: Any
    anchor: Any
    history: Any
    memory: tuple = ()


class Known(NamedTuple):
    """Latents that are known already, and where; the others are painted.

    Args:
        latents: Clean latents, float32 `(batch, h, w, channels)`.
        mask: float32 `(batch, h, w, 1)`: 0 where they are known, 1 where not. What is
            between is known up to the last part of the steps, of that share: it is
            painted with that strength.
        noise: Unit noise of the shape of the latents: the one that the run begins with.
    """

    latents: Any
    mask: Any
    noise: Any


def start(x, memory: tuple = ()) -> Carry:
    """The carry ahead of the first row.

    Args:
        x: Noisy latents in sigma space, float32 `(batch, h, w, channels)`: noise times
            the table's `initial_scale`, plus the clean latents where there are some.
        memory: What the denoiser begins with, from `denoiser.empty_memory`.

    Returns:
        A `Carry` of `x`, an empty anchor and an empty history.
    """
    x = ops.cast(x, "float32")
    history = ops.stack([ops.zeros_like(x)] * HISTORY)
    return Carry(x, ops.zeros_like(x), history, memory)


def step(denoise: Callable, carry: Carry, row, noise, known=()) -> Carry:
    """One row of a table: one call of the network.

    Args:
        denoise: A function `(x, row)` to denoised latents, or, where the carry has a
            memory, `(x, row, memory)` to them and the next memory; see `denoiser`.
        carry: A `Carry`.
        row: float32 of shape `(NUM_COLUMNS,)`, see `table.COLUMNS`.
        noise: Unit noise of the shape of `carry.x`, float32.
        known: A `Known`, which the latents are put back to; nothing by default.

    Returns:
        The next `Carry`.
    """
    x, anchor, history, memory = carry
    if memory:
        denoised, memory = denoise(x, row, memory)
    else:
        denoised = denoise(x, row)
    by_x, by_denoised = ops.unstack(row[COLUMNS.record], 2)
    record = by_x * x + by_denoised * denoised
    history = ops.concatenate([record[None], history[:-1]], axis=0)
    states = ops.concatenate([x[None], anchor[None], history], axis=0)
    x = _weighted(row[COLUMNS.x], states) + row[COLUMNS.noise] * noise
    if known:
        noisy = known.latents + row[COLUMNS.after] * known.noise
        x = ops.where(known.mask < row[COLUMNS.rest], noisy, x)
    return Carry(x, _weighted(row[COLUMNS.anchor], states), history, memory)


def _weighted(weights, states):
    # No matrix product: accelerators would round its float32 inputs.
    return ops.sum(ops.reshape(weights, (STATES, 1, 1, 1, 1)) * states, axis=0)


def run(denoise: Callable, carry: Carry, rows, noise, start, stop, known=()) -> Carry:
    """Rows `start` to `stop - 1` of a table.

    A program that is compiled once for a capacity of rows serves all tables up to that
    length: `start` and `stop` may be tensors. `run(0, n)` is the same as `run(0, k)`
    and then `run(k, n)`, so that a caller can look in between.

    Args:
        denoise: As in `step`.
        carry: A `Carry`, for the first row from `loop.start`.
        rows: float32 of shape `(capacity, NUM_COLUMNS)`, as from `Table.padded`.
        noise: float32 of shape `(capacity, batch, h, w, channels)`, as from
            `Table.place_noise`; for a table that adds none, any number of zeros.
        start: The first row, int32.
        stop: The row to stop before, int32.
        known: As in `step`.

    Returns:
        The `Carry` after them; after a table's last row its `x` are clean latents.

    Example:

    >>> table = make_table(ScheduleConfig(), "dpmpp_2m_karras", 10)
    >>> x = ops.convert_to_tensor(initial_noise([7], (8, 8, 4)) * table.initial_scale)
    >>> denoise = denoiser(lambda inputs: 0.5 * inputs["latents"], [{}])
    >>> noise = ops.zeros((1, 1, 8, 8, 4))
    >>> carry = run(denoise, loop.start(x), table.rows, noise, 0, len(table))
    >>> print(carry.x.shape)
    (1, 8, 8, 4)

    Reference:
        Lugmayr et al. 2022, "RePaint: Inpainting using Denoising Diffusion
        Probabilistic Models", equation 8, for `known`; Levin and Fried 2023,
        "Differential Diffusion: Giving Each Pixel Its Strength", for greys.
    """
    rows = ops.convert_to_tensor(rows)
    noise = ops.convert_to_tensor(noise)
    last_noise = noise.shape[0] - 1

    def body(i, x, anchor, history, *memory):
        row = ops.take(rows, i, axis=0)
        fresh = ops.take(noise, ops.minimum(i, last_noise), axis=0)
        carry = Carry(x, anchor, history, memory)
        x, anchor, history, memory = step(denoise, carry, row, fresh, known)
        return (i + 1, x, anchor, history, *memory)

    first = ops.cast(start, "int32")
    stop = ops.cast(stop, "int32")
    *carry, memory = carry
    state = (first, *carry, *memory)
    _, x, anchor, history, *memory = while_loop(lambda i, *_: i < stop, body, state)
    return Carry(x, anchor, history, tuple(memory))


def without_rows(*args) -> tuple:
    """Arguments that end as those of `run` do, for a walk of no rows."""
    *ahead, start, _, known = args
    return *ahead, start, start, known


def row_by_row(program: Callable) -> Callable:
    """The same walk by a program of `run` that makes one row at each call.

    Args:
        program: Takes what `run` takes from `carry` on, and anything ahead of it.

    Returns:
        A function of the same arguments.
    """

    def walk(*args):
        *ahead, carry, rows, noise, start, stop, known = args
        for i in map(np.int32, range(int(start), int(stop))):
            carry = program(*ahead, carry, rows, noise, i, i + 1, known)
        return carry

    return walk
