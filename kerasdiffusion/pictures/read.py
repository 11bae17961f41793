"""Pictures in: paths, PIL images and arrays as uint8 RGB, masks as floats, sizes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasdiffusion.pictures.conventions import (
    MASKS,
    PICTURES,
    as_array,
    channels_last,
    drawn_on_clear,
    grey_of,
    to_unit_range,
    white_of,
)
from kerasdiffusion.pictures.formats import open_image
from kerasdiffusion.storage.bounds import check_bound

#: The sides of pictures that tasks take, in pixels.
SMALLEST, LARGEST = 16, 8192
_RULE = (
    "A picture must be a path, a PIL image, or an array, uint8 or float in [0, 1], of "
    "shape (height, width) or (height, width, channels) with 1, 3 or 4 channels"
)
_MASK_RULE = _RULE.replace("A picture", "`mask`").replace("float", "bool, float")


def read_pictures(pictures: Any) -> list[np.ndarray]:
    """One picture or several, from anything that holds some.

    EXIF rotation is applied, what is transparent is laid over white, and greyscale,
    palette and other modes become RGB. Colours are taken as sRGB, in the order RGB:
    that an array of OpenCV is BGR cannot be seen. `docs/pictures.md` has a table.

    Args:
        pictures: A path, a PIL image, or an array or tensor of shape `(height, width)`,
            `(height, width, channels)` with 1, 3 or 4 channels, or `(batch, height,
            width, channels)`; a tensor of PyTorch, or a batch, may have its channels
            first. Its numbers are bools, uint8, uint16, floats in [0, 1], or whole
            numbers from 0 to 255 of any type. Or a list of these.

    Returns:
        uint8 arrays of shape `(height, width, 3)`.

    Raises:
        TypeError: If something is no picture.
        ValueError: If an array has another shape or numbers whose white is not known, a
            side is less than 16 or more than 8192 pixels, or a file is no picture.
        FileNotFoundError: If there is no such file.

    Example:

    >>> [each.shape for each in read_pictures(np.zeros((2, 64, 48, 3), "uint8"))]
    [(64, 48, 3), (64, 48, 3)]
    """
    return [_over_white(each) for each in _listed(pictures, _from_array, _from_image)]


def read_masks(masks: Any, size: tuple[int, int]) -> list[np.ndarray]:
    """Masks: 1 (white) where something is to be painted, 0 (black) where not.

    Args:
        masks: As pictures in `read_pictures`, of grey; of integers, 1, 255 or 65535 is
            white, and a stack of masks may have the shape `(masks, height, width)`.
            Grey is in between. Of a clear layer, white strokes are white.
        size: The pictures' height and width, which must be the masks'.

    Returns:
        float32 arrays of shape `size`, from 0 to 1.

    Raises:
        TypeError: If something is no picture.
        ValueError: If a mask has another size, is black everywhere, has colours, or
            numbers that may mean several things.

    Example:

    >>> mask = np.zeros((64, 64), bool)
    >>> mask[16:48, 16:48] = True
    >>> print(read_masks(mask, (64, 64))[0].mean())
    0.25
    """
    size = tuple(size)
    found = _listed(masks, lambda value: _mask_arrays(value, size), from_pil)
    return [_grey(array, size) for array in found]


def _grey(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if array.shape[:2] != size:
        raise ValueError(
            f"`mask` must have the picture's height and width, {size}. "
            f"Received: {array.shape[:2]}"
        )
    values = to_unit_range(array, MASKS, "`mask`")
    if values.shape[-1] == 1:
        values = np.repeat(values, 3, axis=-1)
    is_layer = values.shape[-1] == 4
    values = drawn_on_clear(values) if is_layer else grey_of(values, "`mask`")
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


def _listed(pictures, from_array, from_image, depth=0) -> list[np.ndarray]:
    """Arrays of shape `(height, width, channels)`, of all that is in lists."""
    if isinstance(pictures, (list, tuple)):
        check_bound("picture_lists", depth + 1, "pictures")
        if not pictures:
            raise ValueError(f"{_RULE}, or a list of these. Received: {pictures!r}")
        return [
            each
            for one in pictures
            for each in _listed(one, from_array, from_image, depth + 1)
        ]
    if isinstance(pictures, (str, os.PathLike)):
        return [open_picture(pictures, from_image)]
    from PIL import Image

    if isinstance(pictures, Image.Image):
        return [from_image(pictures)]
    if not hasattr(pictures, "__array__"):
        raise TypeError(f"{_RULE}. Received: {type(pictures).__name__}")
    return from_array(pictures)


def _from_array(value) -> list[np.ndarray]:
    """uint8 pictures of an array or a tensor."""
    found = channels_last(as_array(value), _RULE, torch=hasattr(value, "detach"))
    for each in found:
        _check_sides(*each.shape[:2], f"an array of shape {each.shape}")
    return [_levels(each) for each in found]


def _from_image(image) -> np.ndarray:
    """The uint8 picture of a Pillow image, in which 255 is white if it has 8 bits."""
    array = from_pil(image)
    return array if array.dtype == np.uint8 else _levels(array)


def _mask_arrays(value, size: tuple[int, int]) -> list[np.ndarray]:
    array, is_torch = as_array(value), hasattr(value, "detach")
    stacked = array.ndim == 3 and array.shape[1:] == size and array.shape[-1] > 4
    if stacked and not (is_torch and array.shape[0] in (3, 4)):
        return [each[..., None] for each in array]
    # (Of three or four, it cannot be told whether masks or channels are meant.)
    return channels_last(array, _MASK_RULE, torch=False)


def open_picture(path, read) -> np.ndarray:
    """What is read of the picture in a file.

    Args:
        path: A file in one of `formats.FORMATS`.
        read: A function of a Pillow image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or is too small or too large.
    """

    def checked(image):
        # The size is known before any pixel is unpacked.
        _check_sides(image.height, image.width, path)
        return read(image)

    return open_image(path, checked)


def from_pil(image) -> np.ndarray:
    """The numbers of a Pillow image, of shape `(height, width, 1, 3 or 4)`.

    Of 8 bits a channel they are uint8; alpha is there if something may be clear.
    """
    _check_sides(image.height, image.width, image)
    image = upright(image)
    if image.mode.startswith(("I", "F")):
        return deep_levels(image)[..., None]
    if image.mode == "1":
        return np.array(image.convert("L"))[..., None]
    clear = "transparency" in image.info or "A" in image.mode.upper()
    if image.mode == "LAB":
        clear = False
    if image.mode in ("La", "RGBa"):  # alpha is multiplied in already
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    return np.array(image.convert("RGBA" if clear else "RGB"))


def upright(image):
    """A Pillow image, turned as its EXIF says."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def size_of(image) -> tuple[int, int]:
    """Height and width of an opened Pillow image, upright; its pixels are not read."""
    width, height = image.size
    lies = image.getexif().get(0x0112) in (5, 6, 7, 8)
    return (width, height) if lies else (height, width)


def deep_levels(image) -> np.ndarray:
    """The numbers of a Pillow image of 16 or 32 bits, which conversion would clip."""
    values = np.asarray(image)
    if image.mode == "F" and values.size and 1.0 < values.max() <= 255.0:
        # Pillow itself has 255 as white here, whatever lies between.
        return np.clip(values / np.float32(255.0), 0.0, 1.0)
    if image.mode.startswith("I;16") or (image.mode == "I" and values.max() > 255):
        if 0 <= values.min() and values.max() <= 65535:
            return values.astype("uint16")
    return values


def _check_sides(height: int, width: int, what) -> None:
    if not (SMALLEST <= min(height, width) and max(height, width) <= LARGEST):
        raise ValueError(
            f"A picture's sides must be {SMALLEST} to {LARGEST} pixels. Received: "
            f"height={height}, width={width} ({what})"
        )


def _levels(array: np.ndarray) -> np.ndarray:
    """uint8 numbers of a picture, with 3 or 4 channels."""
    white = white_of(array, PICTURES, "A picture")
    if array.dtype.kind != "f":
        array = array / white if white != 255 else array.astype("uint8")
    elif white != 1:
        array = array.astype("uint8")
    if array.dtype != np.uint8:
        array = np.round(array * 255.0).astype("uint8")
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def _over_white(array: np.ndarray) -> np.ndarray:
    if array.shape[-1] == 3:
        return array
    colour = array[..., :3].astype("float32")
    cover = array[..., 3:].astype("float32") / 255.0
    return np.round(colour * cover + 255.0 * (1.0 - cover)).astype("uint8")
