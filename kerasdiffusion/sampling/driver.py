"""The host's side of the loop: progress, callbacks, and tables of any length."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from keras import ops
from tqdm import tqdm

from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.table import COLUMNS, Table

#: Rows of a compiled loop. Longer tables take it several times.
CAPACITY = 64
#: Seconds after which a progress bar appears, and between looks at the clock.
PATIENCE = 2.0
GLANCE = 0.25


@dataclass(frozen=True)
class Step:
    """What a callback sees after a step.

    Args:
        step: Steps done, from 1.
        num_steps: Steps of the run.
        sigma: The noise that is left.
        state: The latents in sigma space, a tensor.
    """

    step: int
    num_steps: int
    sigma: float
    state: object

    @property
    def latents(self) -> np.ndarray:
        """float32 latents `(batch, height, width, channels)` of variance 1."""
        return unit_scale(self.state, self.sigma)


def unit_scale(x, sigma: float) -> np.ndarray:
    """Latents of sigma space as the decoder takes them."""
    return ops.convert_to_numpy(x) / np.float32(np.sqrt(1.0 + sigma**2))


def drive(
    program: Callable,
    latents: np.ndarray,
    table: Table,
    noise: np.ndarray,
    callback: Callable[[Step], bool | None] | None = None,
    progress_bar: bool = False,
    memory: tuple = (),
    kinds: np.ndarray | None = None,
) -> np.ndarray:
    """Walks a table with a compiled loop, in as few pieces as the caller allows.

    Args:
        program: Takes `(carry, rows, noise, start, stop)` as `loop.run` does, with
            `CAPACITY` rows and noises; ahead of them the rows' kind, if they have one.
        latents: float32 of shape `(batch, h, w, channels)`, in sigma space.
        table: The sampler's `Table`.
        noise: One for each of the table's `noise_rows`.
        callback: Called with a `Step` after each; returning `False` ends the run.
        progress_bar: Whether a long run shows a bar.
        memory: What the denoiser begins with, see `loop.start`.
        kinds: Of each row, where they are not all alike: what `program` tells them
            apart by.

    Returns:
        Latents as the decoder takes them, float32.
    """
    carry = loop.start(ops.convert_to_tensor(np.asarray(latents, "float32")), memory)
    first = int(table.steps[0])
    total = int(table.steps[-1]) + 1 - first
    window = None
    with tqdm(total=total, delay=PATIENCE, disable=not progress_bar) as bar:
        for start, stop in pieces(table, callback is not None, progress_bar, kinds):
            if start // CAPACITY != window:
                window = start // CAPACITY
                rows, fresh = cut_window(table, noise, window)
            begin, end = (np.int32(i - window * CAPACITY) for i in (start, stop))
            kind = () if kinds is None else (kinds[start],)
            carry = program(*kind, carry, rows, fresh, begin, end)
            if progress_bar:
                ops.convert_to_numpy(carry.x[:1, :1, :1, :1])  # waits for the device
            if stop < len(table) and table.steps[stop] == table.steps[stop - 1]:
                continue  # between two rows of one step
            done = int(table.steps[stop - 1]) + 1 - first
            bar.update(done - bar.n)
            sigma = table.values[stop, COLUMNS.sigma] if stop < len(table) else 0.0
            step = Step(done, total, float(sigma), carry.x)
            if callback is not None and callback(step) is False:
                return step.latents
    return ops.convert_to_numpy(carry.x)


def pieces(
    table: Table, each_step: bool, timed: bool, kinds: np.ndarray | None = None
) -> Iterator[tuple[int, int]]:
    """Rows `(start, stop)` of each call of the program.

    Args:
        table: The sampler's `Table`.
        each_step: Whether no piece may be longer than a step.
        timed: Whether pieces should take about `GLANCE` seconds.
        kinds: Of each row: no piece has two.
    """
    ends = np.array([len(table)])
    if kinds is not None:
        ends = np.append(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1, ends)
    start, length = 0, 1 if each_step or timed else CAPACITY
    while start < len(table):
        stop = min(start + length, len(table))
        stop = int(np.searchsorted(table.steps, table.steps[stop - 1], side="right"))
        stop = min(stop, (start // CAPACITY + 1) * CAPACITY, int(ends[ends > start][0]))
        began = time.monotonic()
        yield start, stop
        if timed and not each_step:
            seconds = (time.monotonic() - began) / (stop - start)
            length = min(CAPACITY, max(1, int(GLANCE / max(seconds, 1e-6))))
        start = stop


def cut_window(table: Table, noise: np.ndarray, window: int):
    """The rows of one window and the noise of each, as tensors."""
    capacity = -(-len(table) // CAPACITY) * CAPACITY
    inside = slice(window * CAPACITY, (window + 1) * CAPACITY)
    rows = table.padded(capacity)[inside]
    if len(table.noise_rows):
        fresh = table.place_noise(noise, capacity)[inside]
    else:
        fresh = np.zeros((CAPACITY, *noise.shape[1:]), "float32")
    return ops.convert_to_tensor(rows), ops.convert_to_tensor(fresh)
