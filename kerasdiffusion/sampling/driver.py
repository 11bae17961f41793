"""The host's side of the loop: in what pieces a table of any length is walked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from keras import ops

from kerasdiffusion.compute.shortage import to_tensor
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.reuse import spared
from kerasdiffusion.sampling.table import COLUMNS, Table

#: Rows of a compiled loop. Longer tables take it several times.
CAPACITY = 64
#: Seconds between looks at the clock.
GLANCE = 0.25
#: The share by which a piece may take longer, where one more would be nearly empty.
_LONGER = 0.25


@dataclass(frozen=True)
class Step:
    """What is to be seen after a step.

    Args:
        step: Steps done, from 1.
        num_steps: Steps of the loop.
        sigma: The noise that is left.
        state: The latents in sigma space, a tensor.
        history: What the sampler remembers, the newest first: tensors of that shape.
        record: Of what the newest is made: its weights of the latents ahead of the
            last network call, and of what that call took for clean.
        memory: What the denoiser remembers, see `denoiser.empty_memory`: tensors.
        foretold: Network calls so far that were, see `forecasts`.
    """

    step: int
    num_steps: int
    sigma: float
    state: object
    history: object = None
    record: tuple[float, float] = (0.0, 0.0)
    memory: tuple = ()
    foretold: int = 0

    @property
    def latents(self) -> np.ndarray:
        """float32 latents `(batch, height, width, channels)` of variance 1."""
        return unit_scale(self.state, self.sigma)

    @property
    def denoised(self) -> np.ndarray:
        """What the network takes for the clean latents, float32 of the same shape.

        Where a sampler does not remember it, the latents' mean under their noise: as
        grey as they are noisy.
        """
        of_latents, of_denoised = self.record
        if self.sigma and self.history is not None and of_denoised and not of_latents:
            return ops.convert_to_numpy(self.history[0]) / np.float32(of_denoised)
        return self.latents / np.float32(math.hypot(1.0, self.sigma))

    @property
    def left_out(self) -> np.ndarray:
        """Of each picture, network calls so far that were left out: int `(batch,)`.

        Where guidance begins or ends, those of `reuse` are counted anew.
        """
        found = np.full(self.state.shape[0], self.foretold)
        return found + spared(self.memory)


@dataclass
class Pace:
    """In what pieces a loop is walked; may be changed between them.

    Args:
        each_step: Whether no piece is longer than a step.
        timed: Whether pieces take about so many `seconds`, and the loop is compiled
            ahead of the first, where nothing is known of its rows.
        seconds: How long.
        row: Seconds of a row as last measured; infinite where that is not known.
    """

    each_step: bool = False
    timed: bool = False
    seconds: float = GLANCE
    row: float = math.inf


def unit_scale(x, sigma: float) -> np.ndarray:
    """Latents of sigma space as the decoder takes them."""
    return ops.convert_to_numpy(x) / np.float32(np.sqrt(1.0 + sigma**2))


def drive(
    program: Callable,
    latents: np.ndarray,
    table: Table,
    noise: np.ndarray,
    memory: tuple = (),
    kinds: np.ndarray | None = None,
    pace: Pace | None = None,
    began: Callable[[], None] = lambda: None,
) -> Iterator[Step]:
    """Walks a table with a compiled loop, in as few pieces as the pace allows.

    Args:
        program: Takes `(carry, rows, noise, start, stop)` as `loop.run` does, with
            `CAPACITY` rows and noises; ahead of them the rows' kind, if they have one.
        latents: float32 of shape `(batch, h, w, channels)`, in sigma space.
        table: The sampler's `Table`.
        noise: One for each of the table's `noise_rows`.
        memory: What the denoiser begins with, see `loop.start`.
        kinds: Of each row, where they are not all alike: what `program` tells them
            apart by.
        pace: In as few pieces as there can be, by default.
        began: Called when the program is there and the first step begins; where the
            pace is not timed, it is compiled within that step.

    Yields:
        A `Step` after each piece that ends one; of the last, `latents` are clean.
    """
    pace = pace or Pace()
    carry = loop.start(to_tensor(np.asarray(latents, "float32")), memory)
    first = int(table.steps[0])
    total = int(table.steps[-1]) + 1 - first
    window = None
    for start, stop in pieces(table, pace, kinds):
        if start // CAPACITY != window:
            window = start // CAPACITY
            rows, fresh = cut_window(table, noise, window)
        begin, end = (np.int32(i - window * CAPACITY) for i in (start, stop))
        kind = () if kinds is None else (kinds[start],)
        if start == 0:
            if pace.timed and pace.row == math.inf:
                # What goes no round is compiled all the same.
                program(*kind, carry, rows, fresh, begin, begin)
            began()
        carry = program(*kind, carry, rows, fresh, begin, end)
        if pace.timed:
            ops.convert_to_numpy(carry.x[:1, :1, :1, :1])  # waits for the device
        if stop < len(table) and table.steps[stop] == table.steps[stop - 1]:
            continue  # between two rows of one step
        done = int(table.steps[stop - 1]) + 1 - first
        sigma = table.values[stop, COLUMNS.sigma] if stop < len(table) else 0.0
        record = tuple(table.values[stop - 1, COLUMNS.record].tolist())
        foretold = np.any(table.values[:stop, COLUMNS.forecast], axis=1).sum()
        yield Step(
            done,
            total,
            float(sigma),
            carry.x,
            carry.history,
            record,
            carry.memory,
            int(foretold),
        )


def pieces(
    table: Table, pace: Pace, kinds: np.ndarray | None = None
) -> Iterator[tuple[int, int]]:
    """Rows `(start, stop)` of each call of the program.

    Args:
        table: The sampler's `Table`.
        pace: Asked ahead of each.
        kinds: Of each row: no piece has two.
    """
    ends = np.array([len(table)])
    if kinds is not None:
        ends = np.append(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1, ends)
    start = 0
    while start < len(table):
        length = CAPACITY
        if pace.each_step:
            length = 1
        elif pace.timed:
            length = _length(len(table) - start, pace)
        stop = min(start + length, len(table))
        stop = int(np.searchsorted(table.steps, table.steps[stop - 1], side="right"))
        stop = min(stop, (start // CAPACITY + 1) * CAPACITY, int(ends[ends > start][0]))
        began = time.monotonic()
        yield start, stop
        pace.row = (time.monotonic() - began) / (stop - start)
        start = stop


def _length(left: int, pace: Pace) -> int:
    """Rows of a timed piece, where all that are left go in few that are alike."""
    if pace.row == math.inf or pace.seconds <= 0.0:
        return 1
    count = max(1, math.ceil(left * pace.row / pace.seconds - _LONGER))
    return min(CAPACITY, -(-left // count))


def cut_window(table: Table, noise: np.ndarray, window: int):
    """The rows of one window and the noise of each, as tensors."""
    capacity = -(-len(table) // CAPACITY) * CAPACITY
    inside = slice(window * CAPACITY, (window + 1) * CAPACITY)
    rows = table.padded(capacity)[inside]
    if len(table.noise_rows):
        fresh = table.place_noise(noise, capacity)[inside]
    else:
        fresh = np.zeros((CAPACITY, *noise.shape[1:]), "float32")
    return to_tensor(rows), to_tensor(fresh)
