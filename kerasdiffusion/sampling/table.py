"""The table that a sampler is: one row of weights for each network call."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

HISTORY = 4
STATES = 2 + HISTORY
#: Denoised latents that a forecast weighs.
PAST = 6


class Columns(NamedTuple):
    """Where a row keeps what. Numbers are scalars, slices are vectors.

    `x` and `anchor` weigh `(x, anchor, history[0], ..., history[3])`, the newest
    record first; `record` weighs `(x, denoised)`. `variant` is the number of the
    conditioning that the call sees, `guidance` the part of the guidance scale's excess
    over 1 that it is guided by. `after` is the noise of the latents that the row
    leaves, `rest` the share of all steps that is still to do when its own begins,
    `call` the number of the call, `whole` whether all of the network runs, where some
    of what it gave before could do: 1 or 0. `begins` is 1 for the first call of its
    step, `keeps` for one whose results may serve later ones, else 0. `forecast` weighs
    the latest denoised latents, the newest first, of a call that is foretold.
    """

    sigma: int = 0
    timestep: int = 1
    c_skip: int = 2
    c_out: int = 3
    c_in: int = 4
    noise: int = 5
    variant: int = 6
    guidance: int = 7
    after: int = 8
    rest: int = 9
    call: int = 10
    whole: int = 11
    begins: int = 12
    keeps: int = 13
    record: slice = slice(14, 16)
    x: slice = slice(16, 16 + STATES)
    anchor: slice = slice(16 + STATES, 16 + 2 * STATES)
    forecast: slice = slice(16 + 2 * STATES, 16 + 2 * STATES + PAST)


COLUMNS = Columns()
NUM_COLUMNS = COLUMNS.forecast.stop


class Row(NamedTuple):
    """One network call, as a sampler's function states it.

    Args:
        sigma: The noise level of the latents that the network sees.
        x: The next latents, as weights of `(x, anchor, history...)`; weights left
            out are 0.
        record: What joins the history, as weights of `(x, denoised)`.
        anchor: The next anchor, as weights of `(x, anchor, history...)`; by default
            it stays.
        noise: The weight of fresh noise in the next latents.
        step: The step of the user's that the call belongs to.
    """

    sigma: float
    x: Sequence[float]
    record: tuple[float, float] = (0.0, 1.0)
    anchor: Sequence[float] = (0.0, 1.0)
    noise: float = 0.0
    step: int = 0


@dataclass(frozen=True, eq=False)
class Table:
    """A sampler, a number of steps and a schedule, as numbers.

    Args:
        sampler: The sampler's canonical name.
        values: float64 of shape `(network calls, NUM_COLUMNS)`, see `COLUMNS`.
        sigmas: float64 of shape `(steps + 1,)`: the noise before each step, and
            after the last.
        timesteps: float64 of shape `(steps,)`.
        steps: int of shape `(network calls,)`: the step of each row, counted from
            the whole schedule's first.
        num_steps: The steps of the whole schedule.
        initial_scale: What unit noise is multiplied by to start with. In a table
            that starts at a later step, the noise is then added to clean latents.
        opening_noise: The weight of fresh noise that is added ahead of the first row,
            the first of `noise_count`; 0 but for samplers that churn.
        path: The lowest and the highest sigma of the whole schedule, for samplers whose
            noise other programs take from one Brownian path over sigma.
    """

    sampler: str
    values: np.ndarray
    sigmas: np.ndarray
    timesteps: np.ndarray
    steps: np.ndarray
    num_steps: int
    initial_scale: float
    opening_noise: float = 0.0
    path: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def rows(self) -> np.ndarray:
        """float32 of shape `(network calls, NUM_COLUMNS)`."""
        return self.values.astype(np.float32)

    @property
    def noise_rows(self) -> np.ndarray:
        """Indices of the rows that add noise, in the order in which it is drawn."""
        return np.flatnonzero(self.values[:, COLUMNS.noise])

    @property
    def noise_count(self) -> int:
        """Fresh noises that a run takes, the opening one included."""
        return len(self.noise_rows) + (self.opening_noise > 0.0)

    @property
    def noise_levels(self) -> np.ndarray:
        """The sigma that each of `noise_rows` leads from, and to: `(noises, 2)`."""
        sigmas = np.append(self.values[:, COLUMNS.sigma], self.sigmas[-1])
        return np.stack([sigmas[:-1], sigmas[1:]], axis=1)[self.noise_rows]

    def with_column(self, column: int | slice, values: np.ndarray) -> Table:
        """A copy in which each network call has another value of a column.

        Args:
            column: Of `COLUMNS`, such as `variant` or `guidance`.
            values: One for each network call, or one for all.
        """
        changed = self.values.copy()
        changed[:, column] = values
        return replace(self, values=changed)

    def changing(self, kinds: Sequence[Hashable]) -> np.ndarray:
        """Of each network call, whether its step asks for something else than before.

        Args:
            kinds: Of each call, what is asked of the network: which prompt, say.

        Returns:
            bool of shape `(network calls,)`.
        """
        new = [kinds[max(i - 1, 0)] != kind for i, kind in enumerate(kinds)]
        return np.isin(self.steps, self.steps[np.array(new, bool)])

    def until(self, step: int) -> Table:
        """The table up to a step: the latents it leaves are as noisy as its sigma."""
        rows = self.steps < step
        first = len(self.timesteps) - self.num_steps + step
        return replace(
            self,
            values=self.values[rows],
            sigmas=self.sigmas[: first + 1],
            timesteps=self.timesteps[:first],
            steps=self.steps[rows],
        )

    def since(self, step: int) -> Table:
        """The table from a step on, for latents as noisy as `until` leaves them.

        Its rows may count on records of the steps before.
        """
        rows = self.steps >= step
        first = len(self.timesteps) - self.num_steps + step
        return replace(
            self,
            values=self.values[rows],
            sigmas=self.sigmas[first:],
            timesteps=self.timesteps[first:],
            steps=self.steps[rows],
            opening_noise=self.opening_noise if first == 0 else 0.0,
        )

    def padded(self, capacity: int) -> np.ndarray:
        """The rows, with zeros after them up to a fixed number.

        Args:
            capacity: Number of rows, at least `len(table)`.

        Returns:
            float32 of shape `(capacity, NUM_COLUMNS)`.

        Raises:
            ValueError: If the table is longer.
        """
        return _pad(self.rows, capacity)

    def place_noise(self, noise: np.ndarray, capacity: int) -> np.ndarray:
        """Gives each row that adds noise its own.

        Args:
            noise: Of shape `(len(table.noise_rows), ...)`.
            capacity: Number of rows, at least `len(table)`.

        Returns:
            Noise of shape `(capacity, ...)`; zeros where a row adds none.

        Raises:
            ValueError: If there is not one noise for each of `noise_rows`, or the
                table is longer than the capacity.
        """
        if len(noise) != len(self.noise_rows):
            raise ValueError(
                f"This table takes {len(self.noise_rows)} noises. "
                f"Received: {len(noise)}"
            )
        placed = np.zeros((len(self), *noise.shape[1:]), noise.dtype)
        placed[self.noise_rows] = noise
        return _pad(placed, capacity)


def _pad(values: np.ndarray, capacity: int) -> np.ndarray:
    if len(values) > capacity:
        raise ValueError(
            f"The capacity must be at least the table's {len(values)} rows. "
            f"Received: {capacity}"
        )
    padding = [(0, capacity - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, padding)


def stack(
    rows: Sequence[Row], timesteps: Mapping[float, float], scalings: np.ndarray
) -> np.ndarray:
    """Rows as an array.

    Args:
        rows: One for each network call.
        timesteps: The timestep of each row's sigma.
        scalings: `c_skip, c_out, c_in` for each row: shape `(3, rows)`.

    Returns:
        float64 of shape `(rows, NUM_COLUMNS)`.
    """
    values = np.zeros((len(rows), NUM_COLUMNS))
    for value, row in zip(values, rows, strict=True):
        value[COLUMNS.sigma] = row.sigma
        value[COLUMNS.timestep] = timesteps[row.sigma]
        value[COLUMNS.noise] = row.noise
        value[COLUMNS.guidance] = value[COLUMNS.whole] = value[COLUMNS.keeps] = 1.0
        value[COLUMNS.record] = row.record
        for column, weights in ((COLUMNS.x, row.x), (COLUMNS.anchor, row.anchor)):
            value[column][: len(weights)] = weights
    values[:, COLUMNS.call] = np.arange(len(rows))
    steps = np.array([row.step for row in rows])
    values[:, COLUMNS.begins] = np.append(1, steps[1:] != steps[:-1])
    values[:, [COLUMNS.c_skip, COLUMNS.c_out, COLUMNS.c_in]] = np.transpose(scalings)
    # What the next call sees; the last row leaves clean latents.
    values[:-1, COLUMNS.after] = values[1:, COLUMNS.sigma]
    return values
