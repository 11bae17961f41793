"""Network calls that are left out where they would change little, picture by picture.

What the network adds to its input, or the noise that it finds, is kept and taken again
for as long as its change, estimated from how far the input has moved, stays under a
threshold. Each picture is judged by itself; the network runs if one of the batch needs
it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kerasdiffusion.sampling.table import COLUMNS, Table

_IMAGE = (1, 2, 3)
#: Floor of what is divided by.
LEAST = 1e-6
#: The share of the newest in the running mean of changes, and what multiplies that.
NEWEST, GAIN = 0.2, 1.6
#: Shares of the computed steps up to which it is early and behind which it is late.
EARLY, LATE = 0.2, 0.8


class Facts(NamedTuple):
    """What is known of each picture: float32 of shape `(batch,)`, 0 where nothing is.

    Args:
        steps: How many steps were computed and kept.
        rate: By how much the prediction changes for each change of the input.
        size: The mean absolute prediction.
        drift: The running mean of the prediction's changes.
        error: What the left out calls are estimated to have cost.
        streak: Steps left out since the last that was computed.
        reused: Whether the latest step was left out: 0 or 1.
        spared: Network calls left out so far.
    """

    steps: Any
    rate: Any
    size: Any
    drift: Any
    error: Any
    streak: Any
    reused: Any
    spared: Any


def reusable(
    table: Table,
    start: float,
    end: float,
    kinds: Sequence[Hashable],
    interval: int | None = None,
) -> Table:
    """The table, its `whole` and `keeps` columns set.

    Args:
        table: The sampler's; counted are its own steps.
        start: The share of them ahead of which nothing is kept nor left out.
        end: The share behind which it is not. The last step is always computed.
        kinds: Of each row, what changes on the way: the prompt, whether it is guided.
            A step where it does is computed.
        interval: From there on, or the first, one of so many steps is computed in any
            case.
    """
    steps = table.steps - table.steps[0]
    count = np.float32(steps[-1] + 1)
    first, last = (
        min(int(np.float32(share) * count), int(steps[-1])) for share in (start, end)
    )
    inside = (steps >= first) & (steps < last)
    new = table.changing(kinds)
    whole = ~inside | new
    if interval is not None:
        since = np.maximum.accumulate(np.where(new | (steps <= first), steps, first))
        whole |= (steps - since) % interval == 0
    return table.with_column(COLUMNS.whole, whole).with_column(COLUMNS.keeps, inside)


def empty(latents, copies: int) -> tuple:
    """What is remembered ahead of the first call: see `reuse_or_call`.

    Args:
        latents: Of the shape of the latents.
        copies: How often they go through the network in one call.
    """
    facts = ops.zeros((latents.shape[0], len(Facts._fields)))
    return ops.zeros_like(latents), facts, ops.stack([latents * 0.0] * copies, axis=1)


def spared(memory: tuple) -> np.ndarray | int:
    """Of each picture, how many network calls were left out: int `(batch,)`.

    Args:
        memory: What `reuse_or_call` gave, with anything ahead of it; without that, 0.
    """
    for each in memory:
        if len(each.shape) == 2:  # all else is images
            facts = Facts(*ops.convert_to_numpy(each).T)
            return facts.spared.astype(int)
    return 0


def reuse_or_call(
    network: Callable, inputs, row, memory: tuple, how: Mapping, judge: int
) -> tuple:
    """The network's predictions, of now or from before.

    Args:
        network: Gives the predictions, float32 of shape `(batch * copies, h, w,
            channels)`, the copies of a picture side by side.
        inputs: What it sees as latents, of shape `(batch, h, w, channels)`.
        row: One row of a table that `reusable` gave.
        memory: Inputs and predictions (or noise) of the latest call that was kept, with
            `Facts` between: `(batch, h, w, channels)`, `(batch, facts)` and `(batch,
            copies, h, w, channels)`.
        how: Scalars by name, see `requests.cheaper_steps`.
        judge: The copy whose change counts.

    Returns:
        The predictions, and the next memory.

    Reference:
        Ye et al. 2024, "Training-Free Adaptive Diffusion with Bounded Difference
        Approximation Strategy", section 3, for noise that is taken again. For judging:
        Zhou et al. 2025, "Less is Enough: Training-Free Video Diffusion Acceleration
        via Runtime-Adaptive Caching" (EasyCache), section 3.3, and stable-diffusion.cpp
        `src/runtime/ucache.hpp` (UCache), by which the estimate grows with each step
        left out and the threshold with those computed.
    """
    seen, facts, kept = memory
    facts = Facts(*_apart(facts))
    moved = _mean(inputs - seen)
    reused, facts = _judged(facts, moved, row, how)
    of_inputs, of_outputs = _noise_weights(row, how["noise"])
    beside = (of_inputs * inputs)[:, None]
    outputs = ops.cond(
        ops.all(reused),
        lambda: kept,
        lambda: ops.reshape(ops.cast(network(), "float32"), kept.shape),
    )
    found = beside + of_outputs * outputs
    changed = _mean(found[:, judge] - kept[:, judge])
    facts = _noted(facts, moved, changed, _mean(found[:, judge]), row, reused, how)
    again = kept + (1.0 - how["noise"]) * (inputs - seen)[:, None]
    again = (again - beside) / of_outputs
    keeps = ops.logical_and(ops.logical_not(reused), row[COLUMNS.keeps] > 0.0)
    images, keeps = reused[:, None, None, None], keeps[:, None, None, None]
    memory = (
        ops.where(keeps, inputs, seen),
        ops.stack(facts, axis=1),
        ops.where(keeps[:, None], found, kept),
    )
    outputs = ops.where(images[:, None], again, outputs)
    return ops.reshape(outputs, (-1, *outputs.shape[2:])), memory


def _noise_weights(row, noise) -> tuple:
    """What is kept, as weights of the network's input and of its prediction.

    Args:
        row: Whose prediction it is.
        noise: Whether it is the noise, 1, or the prediction itself, 0.
    """
    sigma = row[COLUMNS.sigma]
    of_inputs = (1.0 - row[COLUMNS.c_skip]) / (sigma * row[COLUMNS.c_in])
    of_outputs = -row[COLUMNS.c_out] / sigma
    return noise * of_inputs, noise * of_outputs + (1.0 - noise)


def _judged(facts: Facts, moved, row, how: Mapping) -> tuple:
    """Whether each picture does without the network, and the facts with the verdict."""
    free = row[COLUMNS.whole] <= 0.0
    known = ops.logical_and(facts.steps > 0.0, free)
    judged = ops.logical_and(known, row[COLUMNS.begins] > 0.0)
    for fact in (facts.rate, facts.size, moved):
        judged = ops.logical_and(judged, fact > 0.0)
    size = ops.maximum(facts.size, LEAST)
    drift = ops.where(facts.drift > 0.0, ops.maximum(GAIN * facts.drift, LEAST), size)
    scale = size * ops.power(drift / size, how["drift"])
    is_relative = how["relative"] > 0.0
    change = facts.rate * moved / ops.where(is_relative, scale, 1.0)
    change = change * (1.0 + how["streak"] * facts.streak)
    done = facts.steps / how["steps"]
    limit = ops.where(done > LATE, how["late"], 1.0)
    limit = how["threshold"] * ops.where(done < EARLY, how["early"], limit)
    limit = limit * ops.where(is_relative, 1.0, facts.size)
    error = facts.error * how["decay"] + change
    little = ops.logical_and(judged, error < limit)
    follows = ops.logical_and(known, row[COLUMNS.begins] <= 0.0)
    follows = ops.logical_and(follows, facts.reused > 0.0)
    reused = ops.logical_or(little, follows)
    return reused, facts._replace(
        error=ops.where(judged, error, facts.error),
        streak=facts.streak + ops.cast(little, "float32"),
        reused=ops.cast(reused, "float32"),
        spared=facts.spared + ops.cast(reused, "float32"),
    )


def _noted(facts: Facts, moved, change, size, row, reused, how: Mapping) -> Facts:
    """The facts behind a call, of pictures for which the network has run."""
    keeps = ops.logical_and(ops.logical_not(reused), row[COLUMNS.keeps] > 0.0)
    known = facts.steps > 0.0
    change = ops.where(known, change, 0.0)
    changed = change > 0.0
    rated = ops.logical_and(changed, moved > 0.0)
    rate = change / ops.where(moved > 0.0, moved, 1.0)
    mean = (1.0 - NEWEST) * facts.drift + NEWEST * change
    drift = ops.where(facts.drift > 0.0, mean, change)
    noted = facts._replace(
        steps=facts.steps + row[COLUMNS.begins],
        rate=ops.where(rated, rate, facts.rate),
        size=size,
        error=facts.error * (1.0 - how["reset"]),
        drift=ops.where(changed, drift, facts.drift),
        streak=ops.zeros_like(facts.streak),
    )
    pairs = zip(noted, facts, strict=True)
    return Facts(*(ops.where(keeps, new, old) for new, old in pairs))


def _mean(x):
    """The mean absolute value of each picture."""
    return ops.mean(ops.abs(x), axis=_IMAGE)


def _apart(facts):
    return ops.unstack(facts, len(Facts._fields), axis=1)
