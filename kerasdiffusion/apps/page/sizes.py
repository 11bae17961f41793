"""Sizes by their ratio: as many pixels as the model was taught on."""

from __future__ import annotations

import math

RATIOS = {
    "1:1 square": 1.0,
    "5:4": 5 / 4,
    "4:3": 4 / 3,
    "3:2": 3 / 2,
    "16:9 wide": 16 / 9,
    "21:9": 21 / 9,
    "4:5": 4 / 5,
    "3:4": 3 / 4,
    "2:3": 2 / 3,
    "9:16 tall": 9 / 16,
}
OWN = "the model's own"


def multiple_of(config) -> int:
    """What sides are multiples of: each level of the U-Net halves the latents."""
    levels = len(config.diffusion_model.block_widths)
    return config.autoencoder.downsampling * 2 ** (levels - 1)


def size_for(ratio: float, config) -> tuple[int, int]:
    """Height and width of a ratio, about as large as the model's own.

    Args:
        ratio: Width by height.
        config: A `ModelConfig`.

    Example:

    >>> size_for(16 / 9, PRESETS["sd1.5"].config)
    (384, 704)
    """
    step, own = multiple_of(config), config.generation
    area = own.height * own.width
    sides = math.sqrt(area / ratio), math.sqrt(area * ratio)
    height, width = (max(step, round(side / step) * step) for side in sides)
    return height, width


def size_of_choice(name: str, config) -> tuple[int, int]:
    """Height and width of one of `RATIOS`, or of the model's own."""
    if name in RATIOS:
        return size_for(RATIOS[name], config)
    return config.generation.height, config.generation.width
