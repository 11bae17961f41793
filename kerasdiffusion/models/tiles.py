"""What a tile is told of the picture that it is a part of.

A group norm needs the mean and the variance of the whole picture. Normalised by its
own, each tile would have colours of its own. Nothing here runs unless a network is
called within `tile_of`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keras import ops

from kerasdiffusion.compute.repeats import one_by_one
from kerasdiffusion.compute.within import Within

_current = Within("tile")


class Enough(Exception):
    """Ends a call that was made for the statistics of one norm."""


@dataclass
class Whole:
    """The whole picture, as one of its tiles knows it.

    Args:
        rows: How much each row of the tile counts, float32, as many as the layers have
            or a part of that.
        columns: The same of its columns.
        given: Mean and variance of each group, `(2, groups)`, for one norm after the
            other in the order of their use. The norm behind the last one measures the
            tile, and the call ends there with `Enough`.
        measured: Its mean and variance, `(2, groups)`.
        used: How many norms the call has come by.
    """

    rows: object
    columns: object
    given: Sequence
    measured: object = None
    used: int = 0


@contextlib.contextmanager
def tile_of(whole: Whole) -> Iterator[Whole]:
    """Within it, group norms go by the statistics of the whole picture."""
    with _current.set(whole), one_by_one():
        yield whole


def current_whole() -> Whole | None:
    """The picture that the current call sees a tile of, if it does."""
    return _current.get()


def normalize(whole: Whole, x, gamma, beta, groups: int, epsilon: float):
    """Group normalisation of a tile by the whole picture's statistics.

    The arguments are those of `operations.group_norm`, for a batch of one.

    Raises:
        Enough: If they are not known yet; the tile's own are in `whole.measured`.
    """

    def of_channels(values):
        wide = ops.ones((groups, x.shape[-1] // groups)) * values[:, None]
        return ops.reshape(wide, (1, 1, 1, -1))

    if whole.used == len(whole.given):
        rows = _fitted(whole.rows, x.shape[1])
        columns = _fitted(whole.columns, x.shape[2])

        def over_groups(values):
            means = ops.einsum("bhwc,h->wc", values, rows)
            means = ops.einsum("wc,w->c", means, columns)
            return ops.mean(ops.reshape(means, (groups, -1)), axis=-1)

        mean = over_groups(x)
        variance = over_groups(ops.square(x - of_channels(mean)))
        whole.measured = ops.stack([mean, variance])
        raise Enough
    mean, variance = ops.unstack(whole.given[whole.used], 2)
    whole.used += 1
    scale = of_channels(ops.rsqrt(variance + epsilon)) * gamma
    return (x - of_channels(mean)) * scale + beta


def _fitted(weights, length: int):
    """Weights of as many rows, which sum up to 1."""
    own = weights.shape[0]
    if own > length:
        weights = ops.sum(ops.reshape(weights, (length, -1)), axis=1)
    elif own < length:
        times = length // own
        weights = ops.reshape(weights[:, None] * ops.ones((own, times)), (length,))
    return weights / ops.sum(weights)
