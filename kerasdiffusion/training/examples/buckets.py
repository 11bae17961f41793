"""Aspect buckets: the sizes that pictures are taught in, and how each is brought there.

A picture is scaled until it covers its bucket, and what stands over is cut off on both
sides alike. Sides are multiples of what the networks halve; areas are at most that of
the resolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from kerasdiffusion.presets.config import ModelConfig

#: Sides of a bucket, in parts of the resolution.
SHORTEST, LONGEST = 0.5, 2.0


class Fit(NamedTuple):
    """How a picture is brought to its bucket.

    Attributes:
        original: Height and width of the picture.
        scaled: Height and width that it is scaled to; at least the bucket's.
        top: Rows of these that are cut off above.
        left: Columns that are cut off on the left.
        bucket: Height and width in the end.
        mirrored: Whether left and right are exchanged.
    """

    original: tuple[int, int]
    scaled: tuple[int, int]
    top: int
    left: int
    bucket: tuple[int, int]
    mirrored: bool = False

    @property
    def is_enlarged(self) -> bool:
        """Whether the picture has fewer pixels on a side than it is shown with."""
        return self.scaled[0] > self.original[0]

    @property
    def size_ids(self) -> tuple[int, ...]:
        """What SDXL is told: original height and width, crop, target height and width.

        Reference:
            Podell et al. 2023, "SDXL", section 2.2.
        """
        return (*self.original, self.top, self.left, *self.bucket)


def factor(config: ModelConfig) -> int:
    """What sides must be multiples of, so that the U-Net halves no odd number.

    Example:

    >>> factor(ModelConfig())
    64
    """
    levels = len(config.diffusion_model.block_widths)
    return config.autoencoder.downsampling * 2 ** (levels - 1)


def bucket_sizes(resolution: int, step: int) -> list[tuple[int, int]]:
    """The buckets of a resolution: a side, and what its area leaves for the other.

    Args:
        resolution: Side of the square bucket, in pixels, a multiple of `step`.
        step: What sides are multiples of.

    Returns:
        Heights and widths.

    Raises:
        ValueError: If the resolution is no positive multiple of the step.

    Example:

    >>> bucket_sizes(128, 64)
    [(64, 192), (64, 256), (128, 128), (192, 64), (256, 64)]

    Reference:
        NovelAI 2022, "NovelAI Improvements on Stable Diffusion", "Aspect Ratio
        Bucketing".
    """
    if resolution < step or resolution % step:
        near = max(step, round(resolution / step) * step)
        raise ValueError(
            f"The resolution must be a multiple of {step} for this model, for example "
            f"{near}. Received: {resolution}"
        )
    low = max(step, math.ceil(SHORTEST * resolution / step) * step)
    high = max(step, math.floor(LONGEST * resolution / step) * step)
    found = set()
    for side in range(low, high + 1, step):
        other = min(high, resolution * resolution // side // step * step)
        if other >= low:
            found |= {(side, other), (other, side)}
    return sorted(found)


def fit(
    size: tuple[int, int],
    resolutions: int | Sequence[int],
    step: int,
    *,
    upscale: bool = True,
    square: bool = False,
) -> Fit:
    """How a picture is brought to the bucket that cuts least of it off.

    Args:
        size: The picture's height and width.
        resolutions: One or several; of several, the picture is taught in the largest
            that it fills, else in the smallest.
        step: What sides are multiples of, see `factor`.
        upscale: Whether a picture that is smaller than its bucket is scaled up to it,
            never further; otherwise its bucket is the largest that it fills, and one of
            a step's side is the smallest.
        square: Whether there is the square bucket alone.

    Returns:
        A `Fit`.

    Raises:
        ValueError: If a resolution is no multiple of the step.

    Example:

    >>> fit((1000, 2000), 512, 64).bucket
    (320, 704)
    """
    if isinstance(resolutions, int):
        resolutions = [resolutions]
    fits = [
        _nearest(size, [(each, each)] if square else bucket_sizes(each, step))
        for each in sorted(resolutions, reverse=True)
    ]
    for found in fits:
        if not found.is_enlarged:
            return found
    if upscale:
        return fits[-1]
    height, width = (max(step, side // step * step) for side in size)
    if square:
        height = width = min(height, width)
    return _covering(size, (height, width))


def _nearest(size: tuple[int, int], buckets: Iterable[tuple[int, int]]) -> Fit:
    """The fit to the bucket of the nearest ratio of sides, of these the largest."""
    ratio = math.log(size[1] / size[0])

    def how_far(bucket):
        return abs(math.log(bucket[1] / bucket[0]) - ratio), -bucket[0] * bucket[1]

    return _covering(size, min(buckets, key=how_far))


def _covering(size: tuple[int, int], bucket: tuple[int, int]) -> Fit:
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    scaled = tuple(
        max(side, round(scale * own)) for side, own in zip(bucket, size, strict=True)
    )
    top, left = ((s - b) // 2 for s, b in zip(scaled, bucket, strict=True))
    return Fit(tuple(size), scaled, top, left, bucket)


def brought(pixels: np.ndarray, to: Fit) -> np.ndarray:
    """A picture or a mask in its bucket.

    Args:
        pixels: uint8 `(height, width, 3)`, or a float32 mask `(height, width)`.
        to: The fit.

    Returns:
        Of the same type, with the bucket's height and width.

    Example:

    >>> brought(np.zeros((100, 50, 3), "uint8"), fit((100, 50), 64, 16)).shape
    (80, 48, 3)
    """
    from PIL import Image

    height, width = to.scaled
    image = Image.fromarray(pixels)
    if (height, width) != pixels.shape[:2]:
        smooth = Image.Resampling.LANCZOS if pixels.ndim == 3 else Image.Resampling.BOX
        image = image.resize((width, height), smooth)
    rows, columns = to.bucket
    found = np.asarray(image)[to.top : to.top + rows, to.left : to.left + columns]
    return found[:, ::-1] if to.mirrored else found


def shrunk(mask: np.ndarray, by: int) -> np.ndarray:
    """A mask at the size of latents: the mean of each square of pixels.

    Args:
        mask: float32 `(height, width)`, of sides that are multiples of `by`.
        by: Pixels on a side of a latent.

    Returns:
        float32 `(height / by, width / by, 1)`.

    Example:

    >>> shrunk(np.ones((64, 32), "float32"), 8).shape
    (8, 4, 1)
    """
    height, width = mask.shape
    blocks = mask.reshape(height // by, by, width // by, by)
    return blocks.mean(axis=(1, 3), dtype="float32")[..., None]
