"""Autoencoders in overlapping tiles, for pictures larger than memory.

A tile sees as far beyond its own part as its convolutions do, and all tiles normalise
by the statistics of the whole picture, which are measured norm by norm ahead. So the
tiles are those of the untiled picture, and there is no seam to hide.

The attention of the middle block is to the whole picture too: what is at the latents'
size is not tiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from keras import ops

from kerasdiffusion.compute import backend
from kerasdiffusion.models.tiles import Enough, Whole, tile_of

#: Pixels on a side of a tile, and of a picture above which `"auto"` makes tiles.
TILE, LARGEST = 192, 1536
#: Cells that overlapping tiles fade over, beyond what both see rightly.
FADE = 2


def check_tiling(tiling) -> bool | int | str:
    """`"auto"`, a bool, or the side of a tile in pixels: 64 or more, a multiple of 16.

    Raises:
        ValueError: If it is none of these.
    """
    is_side = isinstance(tiling, int) and not isinstance(tiling, bool)
    if is_side and tiling >= 64 and tiling % 16 == 0:
        return tiling
    if not is_side and (isinstance(tiling, bool) or tiling == "auto"):
        return tiling
    raise ValueError(
        '`tiling` must be "auto", True, False or the side of a tile in pixels, a '
        f"multiple of 16 from 64 on. Received: {tiling!r}"
    )


def tile_side(tiling, height: int, width: int) -> int | None:
    """The side of a picture's tiles in pixels, `None` for a picture in one piece."""
    if tiling is False or (tiling == "auto" and height * width <= LARGEST**2):
        return None
    side = TILE if tiling is True or tiling == "auto" else tiling
    return side if max(height, width) > side else None


def places(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: evenly spread, the first at 0, the last at the end.

    Args:
        size: Cells on a side of the picture, at least `tile`.
        tile: Cells on a side of a tile.
        overlap: The least that two neighbours share.

    Returns:
        Rising numbers.

    Example:

    >>> places(256, 64, 24)
    [0, 38, 77, 115, 154, 192]
    """
    count = 1 + -(-(size - tile) // (tile - overlap))
    return [round(x) for x in np.linspace(0, size - tile, count)]


def ramps(
    starts: list[int], tile: int, size: int, margin: int, unit: int = 1
) -> list[np.ndarray]:
    """How much each row of each tile counts: over all tiles, 1.

    Args:
        starts: From `places`.
        tile: Cells on a side of a tile.
        size: Cells on a side of the picture.
        margin: Cells at inner edges that count nothing: they see less than they should.
        unit: Rows of a cell.

    Returns:
        For each tile, float32 of shape `(tile * unit,)`.
    """
    along = (np.arange(tile * unit) + 0.5) / unit
    weights = np.ones((len(starts), tile * unit))
    for i, (start, after) in enumerate(zip(starts, starts[1:], strict=False)):
        shared = start + tile - after
        rising = np.clip((along - margin) / (shared - 2 * margin), 0.0, 1.0)
        weights[i + 1] *= rising
        weights[i] *= np.clip((tile - margin - along) / (shared - 2 * margin), 0.0, 1.0)
    total = np.zeros(size * unit)
    spans = [slice(start * unit, (start + tile) * unit) for start in starts]
    for span, weight in zip(spans, weights, strict=True):
        total[span] += weight
    return [
        (weight / total[span]).astype("float32")
        for span, weight in zip(spans, weights, strict=True)
    ]


def through(stage: Callable, x, rows, columns, given):
    """A tile through a stage, or, where a norm is not given, that norm's statistics.

    Args:
        stage: Of a network's `stages`.
        x: Tensor of shape `(1, height, width, channels)`.
        rows: See `Whole`, as the others.

    Returns:
        float32 of the stage's output, or mean and variance of shape `(2, groups)`.
    """
    with tile_of(Whole(rows, columns, given)) as whole:
        try:
            return ops.cast(stage(x), "float32")
        except Enough:
            return whole.measured


class NotFinite(ArithmeticError):
    """A tile, or the statistics of one, are beyond the network's dtype."""


class Tiler:
    """Runs stages of a network over a picture in tiles.

    Args:
        program: Takes `(stage, norms)`, the number of a stage and of the norms that are
            given, and returns `through` for them, compiled.
        norms: Norms of each stage.
        margins: Cells that a stage's convolutions see to each side, of each stage.
        side: Pixels on a side of a tile, of each stage's larger side.
        shrinks: Whether stages halve height and width, or double them.

    A picture is a list of rows, arrays of shape `(width, channels)`, so that a part of
    it can be let go.
    """

    def __init__(self, program, norms, margins, side: int, shrinks: bool):
        self.program, self.norms, self.margins = program, norms, margins
        self.tile = side // 2
        self.units = (2, 1) if shrinks else (1, 2)

    def __call__(self, rows: list) -> np.ndarray:
        """One picture, its rows, through all stages: `(1, height, width, channels)`."""
        for stage, norms in enumerate(self.norms):
            given: list = []
            for _ in range(norms):
                given.append(self._measure(rows, stage, given))
            rows = self._paint(rows, stage, given)
        return np.stack(rows)[None]

    def _tiles(self, picture: list, stage: int) -> Iterator[tuple]:
        """Each tile: where it is, its rows' and columns' weights, and its cells."""
        margin, (unit, _) = self.margins[stage], self.units
        sides = []
        for size in (len(picture) // unit, len(picture[-1]) // unit):
            tile = min(size, max(self.tile, 4 * margin + 2 * FADE))
            starts = places(size, tile, 2 * margin + FADE)
            weights = ramps(starts, tile, size, margin)
            sides.append([(s, tile, w) for s, w in zip(starts, weights, strict=True)])
        for top, height, rows in sides[0]:
            band = picture[top * unit : (top + height) * unit]
            for left, width, columns in sides[1]:
                span = slice(left * unit, (left + width) * unit)
                cells = np.stack([row[span] for row in band])[None]
                yield (top, left), rows, columns, cells

    def _measure(self, picture: list, stage: int, given: list) -> np.ndarray:
        """Mean and variance of the whole picture at the next norm."""
        run = self.program(stage, len(given))
        total, first, second = 0.0, 0.0, 0.0
        for _, rows, columns, cells in self._tiles(picture, stage):
            found = backend.to_numpy(run(cells, rows, columns, given))
            _check_finite(found)
            mean, variance = found.astype("float64")
            count = rows.sum() * columns.sum()
            total += count
            first += count * mean
            second += count * (variance + mean**2)
        mean = first / total
        return np.stack([mean, second / total - mean**2]).astype("float32")

    def _paint(self, picture: list, stage: int, given: list) -> list:
        """The stage's output, blended of all tiles; what it has read is let go."""
        run, (before, after) = self.program(stage, len(given)), self.units
        whole: list = []
        for (top, left), rows, columns, cells in self._tiles(picture, stage):
            found = backend.to_numpy(run(cells, rows, columns, given))[0]
            _check_finite(found)
            weights = np.repeat(columns, after)[:, None]
            width = len(picture[-1]) // before * after
            while len(whole) < top * after + len(found):
                whole.append(np.zeros((width, found.shape[-1]), "float32"))
            span = slice(left * after, left * after + found.shape[1])
            for i, weight in enumerate(np.repeat(rows, after)):
                whole[top * after + i][span] += weight * weights * found[i]
            picture[: top * before] = [None] * (top * before)
        picture.clear()
        return whole


def _check_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise NotFinite("Values must be finite. Received: a tile whose are not")


def decoder_shape(config) -> tuple[list[int], list[int]]:
    """Norms and margins of each of a decoder's stages."""
    blocks = config.blocks_per_level + 1
    stages = len(config.block_widths) - 1
    norms = [2 * blocks] * (stages - 1) + [2 * blocks + 1]
    # Convolutions at the doubled size: that of the doubling, the blocks', the last.
    return norms, [math.ceil((2 * blocks + 2) / 2) + 1] * stages


def encoder_shape(config) -> tuple[list[int], list[int]]:
    """Norms and margins of each of an encoder's stages."""
    stages, blocks = len(config.block_widths) - 1, config.blocks_per_level
    # The first convolution, the blocks', and that of the halving.
    return [2 * blocks] * stages, [math.ceil((2 * blocks + 3) / 2) + 1] * stages
