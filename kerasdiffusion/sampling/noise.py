"""Noise from seeds, drawn on the host: one generator for each image.

`rng` says whose: `"numpy"` is the library's own; the others are programs that draw with
PyTorch, in the layout (channels, height, width), and are a row each of `SOURCES`.

An image's noise depends on its seed and shape alone: not on the batch that it is in,
nor on the backend, the device or the number of steps.
"""

from __future__ import annotations

import difflib
import operator
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kerasdiffusion.sampling.brownian import path_noise
from kerasdiffusion.sampling.rng import TorchCPU, TorchCUDA
from kerasdiffusion.sampling.table import Table
from kerasdiffusion.storage.bounds import shown


class Source(NamedTuple):
    """Where a program has its noise from.

    Args:
        initial: The generator of the noise to begin with.
        steps: That of the steps' noise; `None` if the first one goes on.
        added: What is added to the seed for `steps`.
        path: That of the Brownian path which some samplers' noise is taken from;
            `None` if they take it as all others do.
        program: What `make_table` calls the program.
    """

    initial: type
    steps: type | None = None
    added: int = 0
    path: type | None = None
    program: str = "webui"


SOURCES = {
    # diffusers, given a generator for each image.
    "torch": Source(TorchCPU, program="diffusers"),
    # AUTOMATIC1111's web UI with `randn_source` "GPU" or "NV", and with "CPU".
    "torch-cuda": Source(TorchCUDA, path=TorchCUDA),
    "webui-cpu": Source(TorchCPU, path=TorchCPU),
    # ComfyUI on a GPU; the same for its samplers that end in "_gpu"; on a CPU. Of a
    # batch there, these are the first image's.
    "comfy": Source(TorchCPU, TorchCUDA, 0, TorchCPU, "comfy"),
    "comfy-gpu": Source(TorchCPU, TorchCUDA, 0, TorchCUDA, "comfy"),
    "comfy-cpu": Source(TorchCPU, TorchCPU, 1, TorchCPU, "comfy"),
}
RNGS = ("numpy", *SOURCES)
_INITIAL, _STEPS, _PICTURE = range(3)
_SEEDS = 2**64


def resolve_seeds(seed: int | Sequence[int] | None, batch_size: int) -> list[int]:
    """A seed for each image.

    Args:
        seed: `None` draws one from Python's `random`; a whole number `s` in
            `[0, 2**64)` gives the images `s, s + 1, ...`; a sequence has one for each
            image.
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
        # Short enough to read out, and to pass to other tools; Python's own generator
        # is one of those that `keras.utils.set_random_seed` seeds.
        seed = random.randrange(2**32 - batch_size)
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


def initial_noise(
    seeds: Sequence[int],
    shape: Sequence[int],
    rng: str = "numpy",
    variation_seeds: Sequence[int] | None = None,
    variation_strength: float = 0.0,
    ahead: Sequence[int] = (),
    drawn: Sequence[int] | None = None,
) -> np.ndarray:
    """Unit noise to start from.

    Args:
        seeds: A seed for each image.
        shape: Shape of one image's latents, `(h, w, channels)`.
        rng: One of `RNGS`.
        variation_seeds: A second seed for each image.
        variation_strength: How far to go to the second seed's noise, 0 to 1.
        ahead: The shape of `picture_noise`, where there is such.
        drawn: Height and width of the latents whose noise lies in the middle of the
            first seed's; there alone does the second seed count.

    Returns:
        float32 of shape `(len(seeds), *shape)`.

    Raises:
        ValueError: If the generator is unknown.

    Reference:
        AUTOMATIC1111's `modules/rng.py` (`ImageRNG.first`), for `drawn`.

    Example:

    >>> batch, alone = initial_noise([1, 2], (8, 8, 4)), initial_noise([2], (8, 8, 4))
    >>> np.array_equal(batch[1:], alone)
    True
    """
    noise = [_draw(seed, _INITIAL, 1, shape, rng, ahead)[0] for seed in seeds]
    noise = np.stack(noise)
    if drawn and tuple(drawn) != tuple(shape[:2]):
        other = (*drawn, shape[-1]), rng, variation_seeds, variation_strength, ahead
        return _laid_within(noise, initial_noise(seeds, *other))
    if variation_seeds is None or variation_strength == 0.0:
        return noise
    others = initial_noise(variation_seeds, shape, rng, ahead=ahead)
    mixed = [
        slerp(variation_strength, one, other)
        for one, other in zip(noise, others, strict=True)
    ]
    return np.stack(mixed)


def _laid_within(noise: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Noise with another, of any height and width, in its middle."""
    own, others = [slice(None)], [slice(None)]
    for size, length in zip(noise.shape[1:3], other.shape[1:3], strict=True):
        ahead = (size - length) // 2
        length += 2 * min(ahead, 0)
        own.append(slice(max(ahead, 0), max(ahead, 0) + length))
        others.append(slice(max(-ahead, 0), max(-ahead, 0) + length))
    noise[tuple(own)] = other[tuple(others)]
    return noise


def picture_noise(
    seeds: Sequence[int], shape: Sequence[int], rng: str = "numpy"
) -> np.ndarray:
    """Unit noise for a picture that the network is shown, as the x4 upscaler is.

    PyTorch's is drawn ahead of all else, as in diffusers: then `initial_noise` and
    `step_noise` take its shape as `ahead`.

    Args:
        seeds: A seed for each image.
        shape: Shape of one picture, `(height, width, channels)`.
        rng: One of `RNGS`.

    Returns:
        float32 of shape `(len(seeds), *shape)`, independent of the others.

    Raises:
        ValueError: If the generator is unknown.
    """
    return np.stack([_draw(seed, _PICTURE, 1, shape, rng)[0] for seed in seeds])


def step_noise(
    seeds: Sequence[int],
    count: int,
    shape: Sequence[int],
    rng: str = "numpy",
    ahead: Sequence[int] = (),
) -> np.ndarray:
    """Unit noise for the steps that add some; independent of `initial_noise`.

    Args:
        seeds: A seed for each image.
        count: Number of noises, at least 0. The first ones do not depend on it.
        shape: Shape of one image's latents, `(h, w, channels)`.
        rng: One of `RNGS`.
        ahead: The shape of `picture_noise`, where there is such.

    Returns:
        float32 of shape `(count, len(seeds), *shape)`.

    Raises:
        ValueError: If the generator is unknown.

    Example:

    >>> step_noise([1, 2], 5, (8, 8, 4)).shape
    (5, 2, 8, 8, 4)
    """
    noise = [_draw(seed, _STEPS, count, shape, rng, ahead) for seed in seeds]
    return np.stack(noise, axis=1)


def table_noise(
    table: Table,
    seeds: Sequence[int],
    shape: Sequence[int],
    rng: str = "numpy",
    before: Table | None = None,
    ahead: Sequence[int] = (),
) -> np.ndarray:
    """Unit noise for the rows of a table, as the program of `rng` draws it.

    Args:
        table: The sampler's `Table`.
        seeds: A seed for each image.
        shape: Shape of one image's latents, `(h, w, channels)`.
        rng: One of `RNGS`.
        before: The part of the schedule that another model has walked.
        ahead: The shape of `picture_noise`, where there is such.

    Returns:
        float32 of shape `(table.noise_count, len(seeds), *shape)`.
    """
    check_rng(rng)
    source = SOURCES.get(rng)
    if source is None or source.path is None or table.path is None:
        drawn = 0 if before is None else before.noise_count
        return step_noise(seeds, drawn + table.noise_count, shape, rng, ahead)[drawn:]
    if not table.noise_count:
        return np.zeros((0, len(seeds), *shape), np.float32)
    lowest, highest = table.path
    if source.program == "comfy":  # Of a part of the schedule that part alone.
        lowest, highest = table.sigmas[table.sigmas > 0.0][[-1, 0]]
    *size, channels = shape

    def normal(seed: int) -> np.ndarray:
        return source.path(seed).normal((channels, *size))

    noise = [
        path_noise(table.noise_levels, lowest, highest, seed, normal) for seed in seeds
    ]
    return np.moveaxis(np.stack(noise, axis=1), 2, -1)


def program_of(rng: str) -> str:
    """What `make_table` calls the program whose noise it is."""
    return SOURCES[rng].program if rng in SOURCES else "diffusers"


def check_rng(rng: str) -> str:
    """One of `RNGS`.

    Raises:
        ValueError: If it is none.
    """
    if rng not in RNGS:
        near = difflib.get_close_matches(str(rng)[:200], RNGS, n=2, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"`rng` must be one of {', '.join(RNGS)}.{hint} Received: {shown(rng)}"
        )
    return rng


def slerp(strength: float, noise: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Noise between two, along the circle between their columns.

    Args:
        strength: 0 gives `noise`, 1 `other`.
        noise: float32 of shape `(h, w, channels)`.
        other: Of the same shape.

    Returns:
        float32 of the same shape. Two that are nearly the same are mixed linearly,
        the wrong way round, as in the reference.

    Reference:
        AUTOMATIC1111's `modules/rng.py`.
    """
    ends = noise, other
    unit = [each / np.linalg.norm(each, axis=0, keepdims=True) for each in ends]
    cosine = np.sum(unit[0] * unit[1], axis=0)
    if cosine.mean() > 0.9995:
        return (noise * strength + other * (1.0 - strength)).astype(np.float32)
    angle = np.arccos(cosine)
    parts = np.sin((1.0 - strength) * angle), np.sin(strength * angle)
    mixed = (parts[0] * noise + parts[1] * other) / np.sin(angle)
    return mixed.astype(np.float32)


def _draw(seed: int, stream: int, count: int, shape, rng: str, ahead=()):
    """float32 `(count, *shape)` of one of an image's streams."""
    if check_rng(rng) == "numpy":
        sequence = np.random.SeedSequence(seed, spawn_key=(stream,))
        generator = np.random.Generator(np.random.PCG64(sequence))
        return generator.standard_normal((count, *shape), dtype=np.float32)
    source = SOURCES[rng]
    generator, left = source.initial(seed), 1 if stream == _STEPS else 0
    if stream == _STEPS and source.steps is not None:
        generator, left = source.steps((seed + source.added) % _SEEDS), 0
    elif ahead:
        generator.normal((ahead[-1], *ahead[:-1]))
    *size, channels = shape
    drawn = [generator.normal((channels, *size)) for _ in range(count + left)]
    drawn = np.reshape(drawn[left:], (count, channels, *size)).astype(np.float32)
    return np.moveaxis(drawn, 1, -1)
