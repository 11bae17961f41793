"""Noise from seeds, drawn on the host: one generator for each image.

An image's noise depends on its seed and shape alone: not on the batch that it is in,
nor on the backend, the device or the number of steps.
"""

from __future__ import annotations

import operator
import secrets
from collections.abc import Sequence

import numpy as np

_INITIAL, _STEPS = range(2)
_SEEDS = 2**64


def resolve_seeds(seed: int | Sequence[int] | None, batch_size: int) -> list[int]:
    """A seed for each image.

    Args:
        seed: `None` draws one; a whole number `s` in `[0, 2**64)` gives the images
            `s, s + 1, ...`; a sequence has one for each image.
        batch_size: Number of images, at least 1.

    Returns:
        `batch_size` Python integers.

    Raises:
        TypeError: If a seed is not a whole number.
        ValueError: If a seed is out of range, or there is not one for each image.

    Example:

    >>> resolve_seeds(7, 3)
    [7, 8, 9]
    """
    if seed is None:
        # Short enough to read out, and to pass to other tools.
        seed = secrets.randbelow(2**32 - batch_size)
    if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str | bytes):
        seeds = [_checked(value) for value in seed]
        if len(seeds) != batch_size:
            raise ValueError(
                f"`seed` must have one value for each of the {batch_size} images. "
                f"Received: {len(seeds)} values"
            )
        return seeds
    first = _checked(seed)
    _checked(first + batch_size - 1)
    return list(range(first, first + batch_size))


def _checked(seed: int) -> int:
    rule = f"`seed` must be a whole number from 0 to 2**64 - 1. Received: {seed!r}"
    if isinstance(seed, bool | np.bool_):
        raise TypeError(rule)
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(rule) from None
    if not 0 <= value < _SEEDS:
        raise ValueError(rule)
    return value


def initial_noise(seeds: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Unit noise to start from.

    Args:
        seeds: A seed for each image.
        shape: Shape of one image's latents, `(h, w, channels)`.

    Returns:
        float32 of shape `(len(seeds), *shape)`.

    Example:

    >>> batch, alone = initial_noise([1, 2], (8, 8, 4)), initial_noise([2], (8, 8, 4))
    >>> np.array_equal(batch[1:], alone)
    True
    """
    return np.stack([_draw(seed, _INITIAL, shape) for seed in seeds])


def step_noise(seeds: Sequence[int], count: int, shape: Sequence[int]) -> np.ndarray:
    """Unit noise for the steps that add some; independent of `initial_noise`.

    Args:
        seeds: A seed for each image.
        count: Number of noises, at least 0. The first ones do not depend on it.
        shape: Shape of one image's latents, `(h, w, channels)`.

    Returns:
        float32 of shape `(count, len(seeds), *shape)`.

    Example:

    >>> step_noise([1, 2], 5, (8, 8, 4)).shape
    (5, 2, 8, 8, 4)
    """
    noise = [_draw(seed, _STEPS, (count, *shape)) for seed in seeds]
    return np.stack(noise, axis=1)


def _draw(seed: int, stream: int, shape: Sequence[int]) -> np.ndarray:
    sequence = np.random.SeedSequence(seed, spawn_key=(stream,))
    generator = np.random.Generator(np.random.PCG64(sequence))
    return generator.standard_normal(shape, dtype=np.float32)
