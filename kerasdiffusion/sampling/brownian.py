"""One Brownian path for all noise of a picture, as torchsde draws it: in numpy.

k-diffusion's samplers of stochastic equations take their noise from such a path over
sigma: the noise of a step from `s` down to `s'` is `(W(s') - W(s)) / sqrt(s - s')`. So
AUTOMATIC1111's web UI and ComfyUI make the same picture of a seed at nearly any number
of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_DIGITS, _POOL = 6, 24


class BrownianTree:
    """Brownian motion between two times, refined by halves where it is asked for.

    A part's half is the mean of the part's increment and fresh noise, whose seed
    depends on the tree's seed and on where the part is: not on what was asked before.

    Args:
        start: The first time.
        end: The last, above `start`.
        seed: 0 or more.
        normal: From a whole number, a seed, to unit normal noise, float32 of one shape.

    Example:

    >>> tree = BrownianTree(0.0, 1.0, 7, lambda seed: TorchCPU(seed).normal((2, 2)))
    >>> tree.increment(0.25, 0.75).shape
    (2, 2)

    Reference:
        torchsde `_brownian/brownian_interval.py`, with `halfway_tree=True` and a
        tolerance of 1e-6, as `BrownianTree` has it; Li et al. 2020, "Scalable Gradients
        for Stochastic Differential Equations", section 4.
    """

    def __init__(
        self,
        start: float,
        end: float,
        seed: int,
        normal: Callable[[int], np.ndarray],
    ):
        self._seed, self._normal = seed, normal
        self._ends = round(start, _DIGITS), round(end, _DIGITS)
        whole = normal(self._seed_of()) * np.float32(math.sqrt(end - start))
        # Increments of parts by (depth, number of the part).
        self._known = {(0, 0): whole}

    def increment(self, start: float, end: float) -> np.ndarray:
        """What the path gains between two times, `start <= end`: float32.

        Times are rounded to six digits, and to the ends of the tree.
        """
        low, high = self._ends
        start, end = (
            min(max(round(each, _DIGITS), low), high) for each in (start, end)
        )
        if start == end:
            return np.zeros_like(self._known[0, 0])
        before, self._known = self._known, {(0, 0): self._known[0, 0]}
        found = None
        for increment in self._parts((0, 0), self._ends, start, end, before):
            found = increment if found is None else found + increment
        return found

    def _parts(self, place, ends, start, end, before):
        """The increments of the largest parts that make up an interval, in order.

        Only those that lead to them are kept, for the next interval is near.
        """
        if (start, end) == ends:
            yield self._known[place]
            return
        middle = round(0.5 * (ends[1] + ends[0]), _DIGITS)
        depth, number = place
        left, right = (depth + 1, 2 * number), (depth + 1, 2 * number + 1)
        if left in before:
            self._known[left], self._known[right] = before[left], before[right]
        else:
            halves = self._halve(place, ends, middle)
            self._known[left], self._known[right] = halves
        if start < middle:
            inner = ends[0], middle
            yield from self._parts(left, inner, start, min(end, middle), before)
        if end > middle:
            inner = middle, ends[1]
            yield from self._parts(right, inner, max(start, middle), end, before)

    def _halve(self, place, ends, middle):
        """The increments of a part's halves, float32 operation by operation."""
        depth, number = place
        whole, length = self._known[place], ends[1] - ends[0]
        first, second = middle - ends[0], ends[1] - middle
        share = 1.0 / length
        deviation = np.float32(math.sqrt(first * second * share))
        fresh = self._normal(self._seed_of(number, depth))
        half = np.float32(first) * whole * np.float32(share) + deviation * fresh
        return half, whole - half

    def _seed_of(self, *place: int) -> int:
        sequence = np.random.SeedSequence(self._seed, spawn_key=place, pool_size=_POOL)
        return int(sequence.generate_state(1)[0])


def path_noise(
    levels: np.ndarray,
    lowest: float,
    highest: float,
    seed: int,
    normal: Callable[[int], np.ndarray],
) -> np.ndarray:
    """Unit noise of steps between noise levels, from one path over them.

    Args:
        levels: Of shape `(steps, 2)`: sigma before and after each step.
        lowest: The path's lowest sigma, above 0.
        highest: Its highest.
        seed: See `BrownianTree`.
        normal: See `BrownianTree`.

    Returns:
        float32 of shape `(steps, ...)`.

    Reference:
        k-diffusion `sampling.py`, `BrownianTreeNoiseSampler`, whose levels are float32.
    """
    lowest, highest = (float(np.float32(each)) for each in (lowest, highest))
    tree = BrownianTree(lowest, highest, seed, normal)
    noises = []
    for before, after in np.asarray(levels, np.float32):
        gain = tree.increment(float(after), float(before))
        # The path runs up, the sampler down.
        noises.append(-gain / np.sqrt(before - after))
    return np.stack(noises)
