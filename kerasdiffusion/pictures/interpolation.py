"""Arrays made larger as PyTorch's `interpolate` does, without PyTorch.

Reference:
    PyTorch `aten/src/ATen/native/UpSample.h` and `UpSampleKernel.cpp`: source
    coordinates with `align_corners=False`; Keys 1981, "Cubic Convolution Interpolation
    for Digital Image Processing".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: The cubic's parameter: as OpenCV's, and with `antialias` as Pillow's.
_CUBIC, _CUBIC_ANTIALIASED = -0.75, -0.5


def interpolated(
    values: np.ndarray, size: Sequence[int], way: str, antialias: bool = False
) -> np.ndarray:
    """Latents at another height and width.

    Args:
        values: float32 `(batch, height, width, channels)`.
        size: The new height and width.
        way: `"nearest"`, `"nearest-exact"`, `"bilinear"` or `"bicubic"`.
        antialias: Whether a smaller result averages what it leaves out; a larger one
            differs by the cubic's parameter alone.

    Returns:
        float32 `(batch, *size, channels)`.

    Example:

    >>> interpolated(np.ones((1, 4, 4, 2), "float32"), (6, 8), "bilinear").shape
    (1, 6, 8, 2)
    """
    tall, wide = (
        _weights(old, new, way, antialias)
        for old, new in zip(values.shape[1:3], size, strict=True)
    )
    values = np.einsum("th,bhwc->btwc", tall, values, optimize=True)
    values = np.einsum("sw,btwc->btsc", wide, values, optimize=True)
    return np.ascontiguousarray(values, "float32")


def _weights(old: int, new: int, way: str, antialias: bool) -> np.ndarray:
    """How much of each old place is in each new one: `(new, old)`."""
    found, scale = np.zeros((new, old)), old / new
    for place in range(new):
        if way in ("nearest", "nearest-exact"):
            half = 0.5 if way == "nearest-exact" else 0.0
            found[place, min(int(math.floor((place + half) * scale)), old - 1)] = 1.0
            continue
        center = (place + 0.5) * scale
        if antialias:
            _averaged(found[place], center, max(scale, 1.0), way)
        elif way == "bilinear":
            _linear(found[place], max(center - 0.5, 0.0))
        else:
            _cubic(found[place], center - 0.5)
    return found.astype("float32")


def _linear(row: np.ndarray, source: float) -> None:
    first = min(int(source), len(row) - 1)
    share = source - first
    row[first] += 1.0 - share
    row[min(first + 1, len(row) - 1)] += share


def _cubic(row: np.ndarray, source: float) -> None:
    first = math.floor(source)
    for place in range(first - 1, first + 3):
        weight = _kernel(source - place, _CUBIC)
        row[min(max(place, 0), len(row) - 1)] += weight


def _averaged(row: np.ndarray, center: float, scale: float, way: str) -> None:
    """Pillow's way: what lies beyond the edge is left out, the rest weighs one."""
    reach = scale * (1.0 if way == "bilinear" else 2.0)
    first = max(int(center - reach + 0.5), 0)
    last = min(int(center + reach + 0.5), len(row))
    for place in range(first, last):
        x = (place - center + 0.5) / scale
        linear = max(0.0, 1.0 - abs(x))
        row[place] = linear if way == "bilinear" else _kernel(x, _CUBIC_ANTIALIASED)
    row /= row.sum()


def _kernel(x: float, a: float) -> float:
    """Keys's cubic."""
    x = abs(x)
    if x <= 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * a if x < 2.0 else 0.0
