"""Pictures in: paths, PIL images and arrays as uint8 RGB, masks as floats, sizes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

#: The sides of pictures that tasks take, in pixels.
SMALLEST, LARGEST = 16, 8192
_RULE = (
    "A picture must be a path, a PIL image, or an array, uint8 or float in [0, 1], of "
    "shape (height, width) or (height, width, channels) with 1, 3 or 4 channels"
)


def read_pictures(pictures: Any) -> list[np.ndarray]:
    """One picture or several, from anything that holds some.

    EXIF rotation is applied, what is transparent is laid over white, and greyscale,
    palette and other modes become RGB.

    Args:
        pictures: A path, a PIL image or an array (uint8, or float in [0, 1]) of shape
            `(height, width)`, `(height, width, channels)` with 1, 3 or 4 channels, or
            `(batch, height, width, channels)`; or a list of these.

    Returns:
        uint8 arrays of shape `(height, width, 3)`.

    Raises:
        TypeError: If something is no picture.
        ValueError: If an array has another shape or values out of range, a side is
            less than 16 or more than 8192 pixels, or Pillow cannot read a file.
        FileNotFoundError: If there is no such file.

    Example:

    >>> [each.shape for each in read_pictures(np.zeros((2, 64, 48, 3), "uint8"))]
    [(64, 48, 3), (64, 48, 3)]
    """
    return [_over_white(_levels(each)) for each in _listed(pictures)]


def read_masks(masks: Any, size: tuple[int, int]) -> list[np.ndarray]:
    """Masks: 1 (white) where something is to be painted, 0 (black) where not.

    Args:
        masks: As pictures in `read_pictures`; bool arrays too. Grey is in between.
        size: The pictures' height and width, which must be the masks'.

    Returns:
        float32 arrays of shape `size`, from 0 to 1.

    Raises:
        TypeError: If something is no picture.
        ValueError: If a mask has another size, or is black everywhere.

    Example:

    >>> mask = np.zeros((64, 64), bool)
    >>> mask[16:48, 16:48] = True
    >>> print(read_masks(mask, (64, 64))[0].mean())
    0.25
    """
    return [_grey(array, tuple(size)) for array in _listed(_without_bools(masks))]


def _without_bools(masks):
    if isinstance(masks, (list, tuple)):
        return [_without_bools(mask) for mask in masks]
    is_bool = isinstance(masks, np.ndarray) and masks.dtype == bool
    return masks.astype("uint8") * np.uint8(255) if is_bool else masks


def _grey(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    whole = 255.0 if array.dtype == np.uint8 else 1.0
    values = array.astype("float32") / whole
    if array.shape[-1] == 4:
        values = values[..., :3] * values[..., 3:] + 1.0 - values[..., 3:]
    # Rounded, for white to be 1.
    values = np.round(values @ np.array([0.299, 0.587, 0.114], "float32"), 5)
    if values.shape != size:
        raise ValueError(
            f"`mask` must have the picture's height and width, {size}. "
            f"Received: {values.shape}"
        )
    if not values.any():
        raise ValueError(
            "`mask` must be white where something is to be painted. Received: a mask "
            "that is black everywhere"
        )
    return values


def pad_to_multiple(picture: np.ndarray, multiple: int) -> np.ndarray:
    """Repeats the last row and column until both sides are multiples.

    Args:
        picture: An array of shape `(height, width, ...)`.
        multiple: What the sides shall be multiples of.

    Returns:
        An array of the same type; the picture is its upper left part.

    Example:

    >>> pad_to_multiple(np.zeros((50, 64, 3)), 8).shape
    (56, 64, 3)
    """
    more = [(0, -side % multiple) for side in picture.shape[:2]]
    return np.pad(picture, more + [(0, 0)] * (picture.ndim - 2), mode="edge")


def to_unit(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 pictures of one size as the autoencoder takes them: float32 in [-1, 1]."""
    return np.stack(pictures).astype("float32") / 127.5 - 1.0


def _listed(pictures) -> list[np.ndarray]:
    """Arrays of shape `(height, width, 3 or 4)`, uint8 or float."""
    if isinstance(pictures, (list, tuple)):
        if not pictures:
            raise ValueError(f"{_RULE}, or a list of these. Received: {pictures!r}")
        return [array for each in pictures for array in _listed(each)]
    if isinstance(pictures, (str, os.PathLike)):
        return [open_picture(pictures)]
    from PIL import Image

    if isinstance(pictures, Image.Image):
        return [_from_pil(pictures)]
    if not isinstance(pictures, np.ndarray) and not hasattr(pictures, "__array__"):
        raise TypeError(f"{_RULE}. Received: {type(pictures).__name__}")
    array = np.asarray(pictures)
    arrays = array if array.ndim == 4 else [array]
    return [_from_array(each) for each in arrays]


def open_picture(path, read=None) -> np.ndarray:
    """What is read of the picture in a file; by default uint8 pixels."""
    from PIL import Image, UnidentifiedImageError

    if not os.path.isfile(path):
        raise FileNotFoundError(f"There must be a picture to read. Received: {path}")
    try:
        with Image.open(path) as image:
            # The size is known before any pixel is unpacked.
            _check_sides(image.height, image.width, path)
            return (read or _from_pil)(image)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
    ) as error:
        raise ValueError(
            f"The file must be a picture that Pillow reads. Received: {path} ({error})"
        ) from error


def _from_pil(image) -> np.ndarray:
    from PIL import ImageOps

    _check_sides(image.height, image.width, image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits, which Pillow would clip
        values = np.asarray(image, "float64")
        most = 65535.0 if image.mode.startswith("I") else 1.0
        return _from_array(np.clip(values / most, 0.0, 1.0))
    clear = "transparency" in image.info or "A" in image.getbands()
    return np.array(image.convert("RGBA" if clear else "RGB"))


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(f"{_RULE}. Received: shape {array.shape}")
    _check_sides(*array.shape[:2], f"an array of shape {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(
                f"A picture of floats must lie in [0, 1]. Received: {low} to {high}"
            )
    elif array.dtype != np.uint8:
        raise TypeError(f"{_RULE}. Received: an array of {array.dtype}")
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def _check_sides(height: int, width: int, what) -> None:
    if not (SMALLEST <= min(height, width) and max(height, width) <= LARGEST):
        raise ValueError(
            f"A picture's sides must be {SMALLEST} to {LARGEST} pixels. Received: "
            f"height={height}, width={width} ({what})"
        )


def _levels(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    return np.round(array * 255.0).astype("uint8")


def _over_white(array: np.ndarray) -> np.ndarray:
    if array.shape[-1] == 3:
        return array
    colour = array[..., :3].astype("float32")
    cover = array[..., 3:].astype("float32") / 255.0
    return np.round(colour * cover + 255.0 * (1.0 - cover)).astype("uint8")
