"""Whether a step fits into memory as it is, or what it keeps must be computed again."""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.compute import devices
from kerasdiffusion.presets.config import DiffusionModelConfig

#: Numbers that are kept for the gradients of a residual block and of a layer of a
#: transformer, by pixels and channels; and of either if its inside is computed again.
RESIDUAL, TRANSFORMER, CROSSING = 8, 30, 2
#: The share of the memory that weights and what is kept may take.
SHARE = 0.6
#: Bytes of a framework and of a step's program on TensorFlow and a CPU, as measured
#: for Stable Diffusion 1.
BESIDE = int(1.35 * 2**30)
#: What lies widened at once, and is kept for the next, as a share of the bytes of
#: weights that are narrower than what is computed with: as measured for it and SDXL.
WIDENED = 0.2


def kept_bytes(
    config: DiffusionModelConfig, shape, itemsize: int, remat: bool = False
) -> int:
    """About how many bytes a step of the U-Net keeps for its gradients.

    Args:
        config: Its configuration.
        shape: Of the latents: batch, height, width, channels.
        itemsize: Bytes of a number.
        remat: Whether what is inside blocks is computed again.

    Example:

    >>> round(kept_bytes(DiffusionModelConfig(), (1, 64, 64, 4), 4) / 2**30, 1)
    1.6
    """
    batch, height, width = shape[:3]
    residual, transformer = (CROSSING,) * 2 if remat else (RESIDUAL, TRANSFORMER)
    total = 0
    for level, channels in enumerate(config.block_widths):
        rows, columns = (-(-side // 2**level) for side in (height, width))
        blocks = 2 * config.blocks_per_level + 1
        layers = sum(config.depths(level)) + sum(config.up_depths(level))
        kept = residual * blocks + transformer * layers
        total += batch * rows * columns * channels * kept
    return total * itemsize


def held_bytes(variables) -> int:
    """Bytes of Keras variables.

    Args:
        variables: They.
    """
    return sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables)


def needs_remat(config: DiffusionModelConfig, shape, itemsize: int, held: int) -> bool:
    """Whether what a step keeps would not fit beside the weights.

    It depends on the machine's memory, and not on what others have of it: a run that
    is resumed does what it did.

    Args:
        config: The U-Net's configuration.
        shape: Of the latents.
        itemsize: Bytes of a number.
        held: Bytes of all weights, of the optimizer's too.
    """
    memory = devices.memory()
    if memory is None:
        return False
    return held + kept_bytes(config, shape, itemsize) > SHARE * memory


def step_bytes(
    config: DiffusionModelConfig,
    shape,
    itemsize: int,
    held: int,
    remat: bool,
    narrow: int = 0,
) -> int:
    """About how many bytes a process takes at most while it teaches.

    Args:
        config: The U-Net's configuration.
        shape: Of the latents.
        itemsize: Bytes of a number that is computed with.
        held: Bytes of all weights, of the optimizer's too.
        remat: Whether what is inside blocks is computed again.
        narrow: Bytes of those weights whose numbers are smaller.
    """
    kept = kept_bytes(config, shape, itemsize, remat)
    return held + int(WIDENED * narrow) + kept + BESIDE
