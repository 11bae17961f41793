"""Which part of a picture is painted: masks, boxes and windows, in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """A rectangle of a picture, in pixels: rows `top` to `bottom - 1`, and so on."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def inside(self) -> tuple[slice, slice]:
        """What indexes an array of shape `(height, width, ...)`."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def margins(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows above and below it in a picture of some size; columns beside it."""
        height, width = size
        return [(self.top, height - self.bottom), (self.left, width - self.right)]


def feathered(mask: np.ndarray, width: int) -> np.ndarray:
    """A mask with an edge that falls to 0 outside of it.

    Args:
        mask: float32 of shape `(height, width)`, from 0 to 1.
        width: Pixels of the edge, 0 or more.

    Returns:
        float32 of the same shape: at least the mask, and 0 where that is 0 within
        `width` pixels in all directions.

    Example:

    >>> print(feathered(np.array([[1, 0, 0, 0, 0]], "float32"), 3))
    [[1.   0.75 0.5  0.25 0.  ]]
    """
    soft = grown = mask
    for distance in range(1, width + 1):
        # A cross and a square in turn: nearly round.
        grown = _grown(grown, square=distance % 2 == 0)
        soft = np.maximum(soft, grown * np.float32(1.0 - distance / (width + 1)))
    return soft


def _grown(mask: np.ndarray, square: bool) -> np.ndarray:
    """The largest value among the neighbours of each pixel, four or eight."""
    rows, grown = mask, mask.copy()
    for axis in (0, 1):
        along = np.moveaxis(grown, axis, 0)
        source = np.moveaxis(grown.copy() if square else rows, axis, 0)
        along[1:] = np.maximum(along[1:], source[:-1])
        along[:-1] = np.maximum(along[:-1], source[1:])
    return grown


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask of another size; what is painted in part is painted.

    Args:
        mask: Of shape `(height, width)`.
        size: Height and width of the result.

    Returns:
        An array of that shape: the largest value of what falls on each pixel.

    Example:

    >>> print(resize_mask(np.eye(4, dtype="float32"), (2, 4)))
    [[1. 1. 0. 0.]
     [0. 0. 1. 1.]]
    """
    for axis, side in enumerate(size):
        starts = np.arange(side) * mask.shape[axis] // side
        mask = np.maximum.reduceat(mask, starts, axis=axis)
    return mask


def box_around(mask: np.ndarray, padding: int, shape: tuple[int, int]) -> Box:
    """The part of a picture that is worth painting at full resolution.

    Args:
        mask: Of shape `(height, width)`, not black everywhere.
        padding: Pixels around what is not black, 0 or more.
        shape: A height and a width: the box has their ratio, where the picture is
            large enough.

    Returns:
        A `Box` within the picture.
    """
    ends = []
    for axis, side in enumerate(mask.shape):
        (found,) = np.nonzero(mask.any(axis=1 - axis))
        ends.append(
            (max(0, found[0] - padding), min(side, found[-1] + 1 + padding)),
        )
    # What is too narrow for the ratio grows to both sides.
    height, width = (high - low for low, high in ends)
    wanted = (
        max(height, -(-width * shape[0] // shape[1])),
        max(width, -(-height * shape[1] // shape[0])),
    )
    for axis, (side, more) in enumerate(zip(mask.shape, wanted, strict=True)):
        low, high = ends[axis]
        more = min(side, more)
        low = min(max(0, low - (more - (high - low)) // 2), side - more)
        ends[axis] = int(low), int(low + more)
    return Box(*ends[0], *ends[1])


def fit(size: tuple[int, int], within: tuple[int, int]) -> tuple[int, int]:
    """The largest height and width of a size's ratio within another size."""
    scale = min(inner / side for side, inner in zip(size, within, strict=True))
    height, width = (
        min(inner, max(1, round(side * scale)))
        for side, inner in zip(size, within, strict=True)
    )
    return height, width


def filled(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A picture whose unknown pixels are the nearest known ones, in a row if possible.

    Args:
        picture: Of shape `(height, width, channels)`.
        known: bool of shape `(height, width)`, true somewhere.

    Returns:
        A picture of the same shape and type.
    """
    for axis in (1, 0):
        nearest = _nearest(known, axis)
        picture = np.take_along_axis(picture, nearest[..., None], axis)
        known = np.take_along_axis(known, nearest, axis)
    return picture


def _nearest(known: np.ndarray, axis: int) -> np.ndarray:
    """Of each pixel, the index of the nearest known one along an axis, else its own."""
    side = known.shape[axis]
    places = np.expand_dims(np.arange(side), 1 - axis)
    far = 2 * side
    before = np.maximum.accumulate(np.where(known, places, -far), axis)
    after = np.where(known, places, places[-1:, -1:] + far)
    after = np.flip(np.minimum.accumulate(np.flip(after, axis), axis), axis)
    nearest = np.where(places - before <= after - places, before, after)
    return np.where((0 <= nearest) & (nearest < side), nearest, places)


def outward(
    canvas: tuple[int, int], given: Box, window: tuple[int, int], step: tuple[int, int]
) -> Iterator[Box]:
    """Windows that cover a canvas, from a part that is given outward.

    Args:
        canvas: Height and width.
        given: What is known at the start.
        window: Height and width of a window, at most the canvas's.
        step: Rows and columns that are added at once, less than the window's.

    Yields:
        Boxes of the window's size. Each has known pixels, once those before it are.
    """
    low, high = [given.top, given.left], [given.bottom, given.right]
    while low != [0, 0] or high != list(canvas):
        for axis, side in ((1, low), (1, high), (0, low), (0, high)):
            if side[axis] == (0 if side is low else canvas[axis]):
                continue
            if side is low:
                low[axis] = start = max(0, low[axis] - step[axis])
            else:
                high[axis] = min(canvas[axis], high[axis] + step[axis])
                start = high[axis] - window[axis]
            corner = [0, 0]
            corner[axis] = min(max(0, start), canvas[axis] - window[axis])
            other = 1 - axis
            for place in _places(
                low[other], high[other], window[other], step[other], canvas[other]
            ):
                corner[other] = place
                top, left = corner
                yield Box(top, top + window[0], left, left + window[1])


def _places(low: int, high: int, window: int, step: int, canvas: int) -> list[int]:
    """Starts of windows that cover a span."""
    if high - low <= window:
        return [min(max(0, (low + high - window) // 2), canvas - window)]
    return [*range(low, high - window, step), high - window]


def canvas_for(
    size: tuple[int, int], sides: dict[str, int], multiple: int
) -> tuple[tuple[int, int], Box, Box]:
    """What a picture grows to.

    Args:
        size: The picture's height and width.
        sides: The pixels that are added, by `left`, `right`, `top` and `bottom`.
        multiple: What is added in fact is a multiple of it, for the latents to begin
            where the picture ends.

    Returns:
        Height and width of the canvas, where the picture is in it, and what is wanted
        of it.

    """
    more = {name: side + -side % multiple for name, side in sides.items()}
    height, width = size
    given = Box(more["top"], more["top"] + height, more["left"], more["left"] + width)
    canvas = given.bottom + more["bottom"], given.right + more["right"]
    wanted = Box(
        given.top - sides["top"],
        given.bottom + sides["bottom"],
        given.left - sides["left"],
        given.right + sides["right"],
    )
    return canvas, given, wanted


def enlarged(image, box: Box, size: tuple[int, int]) -> np.ndarray:
    """A part of a uint8 picture, or of a mask, as large as fits into a size.

    What is left of the size repeats the edge.
    """
    height, width = fit(box.size, size)
    resize = resize_mask if image.ndim == 2 else resized
    part = resize(image[box.inside], (height, width))
    edge = [(0, size[0] - height), (0, size[1] - width), (0, 0)]
    return np.pad(part, edge[: image.ndim], mode="edge")


def laid(picture, new, cover, box: Box) -> np.ndarray:
    """A picture, covered by another in a part of it.

    Args:
        picture: uint8 of shape `(height, width, 3)`.
        new: What `enlarged` made of the box, painted; uint8.
        cover: float32 of shape `(height, width)`: 1 where only the new one is seen, 0
            where only the picture.
        box: Where.

    Returns:
        uint8 of the shape of the picture.
    """
    result = picture.copy()
    height, width = fit(box.size, new.shape[:2])
    new = resized(new[:height, :width], box.size).astype("float32")
    cover, old = cover[box.inside][..., None], picture[box.inside]
    result[box.inside] = np.round(cover * new + (1.0 - cover) * old)
    return result


def resized(picture, size: tuple[int, int]) -> np.ndarray:
    """A uint8 picture of another height and width."""
    if picture.shape[:2] == tuple(size):
        return picture
    from PIL import Image

    image = Image.fromarray(picture)
    return np.array(image.resize(size[::-1], Image.Resampling.LANCZOS))
