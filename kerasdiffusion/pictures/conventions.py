"""What the numbers of pictures and masks mean to those who make them: one table.

A program writes white as 1, as 255 or as 65535, and says so by the type and the largest
value at best. Where these leave one meaning, it is read; where they leave two, both are
said and nothing is assumed. `docs/pictures.md` shows the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Meaning(NamedTuple):
    """Numbers that mean one thing.

    Attributes:
        kinds: Their types, by numpy's names: `"uint8"`, or a kind of any width, as
            `"integer"`, `"bool"` or `"float"`.
        least: The largest of them is at least this...
        most: ...and at most this.
        white: The number that is white; 0 is black.
        whole: Whether all must be whole numbers.
        who: Who makes such.
    """

    kinds: tuple[str, ...]
    least: float
    most: float
    white: float
    who: str
    whole: bool = False


#: Of pictures, the first row that fits.
PICTURES = (
    Meaning(("bool",), 0, 1, 1, "comparisons, edges of scikit-image"),
    Meaning(("uint8",), 2, 255, 255, "PIL, OpenCV, imageio, this library"),
    Meaning(("integer",), 0, 0, 255, "black"),
    Meaning(("uint16",), 256, 65535, 65535, "16-bit PNG and TIFF"),
    Meaning(
        ("int16", "int32", "int64", "uint32", "uint64"),
        2,
        255,
        255,
        "lists of numbers, sums of uint8",
    ),
    Meaning(("float",), 0, 1, 1, "diffusers, ComfyUI, scikit-image, tf.image"),
    Meaning(("float",), 2, 255, 255, "Keras's img_to_array, KerasCV", whole=True),
)
#: Of masks, the first row that fits. White is painted.
MASKS = (
    Meaning(("bool",), 0, 1, 1, "comparisons, SAM, torchvision"),
    Meaning(("integer",), 0, 1, 1, "one class of a segmentation, KerasCV, COCO"),
    Meaning(("uint8",), 32, 255, 255, "PIL, OpenCV, AUTOMATIC1111's web UI"),
    Meaning(("integer",), 255, 255, 255, "the same in more bits, as PIL's I"),
    Meaning(("integer",), 65535, 65535, 65535, "16-bit PNG and TIFF"),
    Meaning(("float",), 0, 1, 1, "diffusers, ComfyUI, Keras"),
    Meaning(("float",), 255, 255, 255, "Keras's img_to_array", whole=True),
)
#: Channels that differ by more are colours, not grey that JPEG has blurred.
_COLOURED = 0.25


def as_array(value: Any) -> np.ndarray:
    """An array or a tensor of any framework as a numpy array.

    Args:
        value: Has `__array__`.

    Returns:
        An array of bools, integers, or floats, which are float32 where numpy lacks
        their type.

    Raises:
        TypeError: If it holds anything but real numbers.
    """
    if hasattr(value, "detach"):  # PyTorch's, on a device or with a gradient
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
    array = np.asarray(value)
    if array.dtype.name.startswith(("bfloat16", "float8")):
        array = array.astype("float32")
    if array.dtype.kind not in "buif":
        raise TypeError(
            "An array must hold bools, integers or floats. Received: an array of "
            f"{array.dtype}"
        )
    return array


def to_unit_range(
    array: np.ndarray, meanings: Sequence[Meaning], name: str
) -> np.ndarray:
    """Numbers of which 0 is black and 1 is white.

    Args:
        array: Bools, integers or floats.
        meanings: `PICTURES` or `MASKS`.
        name: What it is, for the message: "A picture", "`mask`".

    Returns:
        float32 of the same shape.

    Raises:
        ValueError: If no row of the table fits.

    Example:

    >>> to_unit_range(np.array([[0, 255]]), MASKS, "`mask`").tolist()
    [[0.0, 1.0]]
    """
    return array.astype("float32") / np.float32(white_of(array, meanings, name))


def white_of(array: np.ndarray, meanings: Sequence[Meaning], name: str) -> float:
    """The number that means white; arguments and errors as in `to_unit_range`."""
    # (Bools have no minimum in some versions of numpy, and 0 in place of an empty one.)
    low, high = (float(end) for end in (array.min(), array.max()))
    for meaning in meanings:
        if not _is_of(array.dtype, meaning.kinds):
            continue
        if low >= 0.0 and meaning.least <= high <= meaning.most:
            if not meaning.whole or not np.any(array % 1):
                return meaning.white
    whites = "bools, uint8 with white 255, uint16 with white 65535, floats in [0, 1]"
    if meanings is MASKS:
        whites = "bools, integers with white 1, 255 or 65535, floats in [0, 1]"
    raise ValueError(
        f"{name} must have numbers whose white is known: {whites}."
        f"{_way_out(array.dtype, low, high, meanings is MASKS)} Received: "
        f"{array.dtype} from {low:g} to {high:g}"
    )


def _is_of(dtype: np.dtype, kinds: tuple[str, ...]) -> bool:
    wide = {"b": "bool", "u": "integer", "i": "integer", "f": "float"}[dtype.kind]
    return dtype.name in kinds or wide in kinds


def _way_out(dtype: np.dtype, low: float, high: float, is_mask: bool) -> str:
    """What to write in place of numbers that may mean several things."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return " NaN and infinity are no colours."
    if low < 0.0:
        if low >= -1.0 and high <= 1.0:
            return " Of [-1, 1], as networks have it, give (x + 1) / 2."
        return ""
    if dtype.kind == "f":
        return " Of 0 to 255, give x / 255." if high <= 255.0 else ""
    if is_mask and high < 32:
        return " Of class numbers, give `x == number`; of levels, x / 255."
    if high == 1.0:
        return " Where 1 is white, give x * 255 or x > 0."
    if high <= 255.0:
        return " Of 8 bits, give x.astype('uint8'); of 16 bits, x / 65535."
    return " Of another range, give floats in [0, 1]: x / white."


def grey_of(colours: np.ndarray, name: str) -> np.ndarray:
    """How bright each pixel is, of a picture that is meant to be grey.

    Args:
        colours: float32 of shape `(height, width, 3)`, from 0 to 1.
        name: What it is, for the message.

    Returns:
        float32 of shape `(height, width)`.

    Raises:
        ValueError: If it has colours: a red stroke is nowhere meant as 30 per cent.
    """
    spread = float((colours.max(axis=-1) - colours.min(axis=-1)).max())
    if spread > _COLOURED:
        raise ValueError(
            f"{name} must be grey. Of colours, give how bright they are "
            "(image.convert('L')), or where one of them is: (array == "
            f"colour).all(axis=-1). Received: channels that differ by {spread:.2g}"
        )
    # Rounded, for white to be 1.
    return np.round(colours @ np.array([0.299, 0.587, 0.114], "float32"), 5)


def drawn_on_clear(layer: np.ndarray) -> np.ndarray:
    """A mask from a picture with transparency: white strokes on a clear layer.

    Canvas editors give the strokes alone, and what is drawn is painted. Others give the
    picture with a hole, and the hole is painted (OpenAI, ComfyUI). White strokes are
    the first for sure; all else may be either.

    Args:
        layer: float32 of shape `(height, width, 4)`, from 0 to 1.

    Returns:
        float32 of shape `(height, width)`.

    Raises:
        ValueError: If something is clear and what is drawn is not white.
    """
    cover = layer[..., 3]
    if (cover == 1.0).all():
        return grey_of(layer[..., :3], "`mask`")
    drawn = layer[..., :3][cover > 0.0]
    if not len(drawn) or drawn.min() < 0.9:
        other = "other colours" if len(drawn) else "a layer that is clear everywhere"
        raise ValueError(
            "`mask` with transparency must be white strokes on a clear layer. Where "
            "what is drawn is to be painted, give array[..., 3] > 127; where what is "
            f"clear is (a picture with a hole), array[..., 3] < 128. Received: {other}"
        )
    return cover


def channels_last(array: np.ndarray, rule: str, torch: bool) -> list[np.ndarray]:
    """Pictures of an array: channels stand last, or first where no doubt is left.

    Args:
        array: Of 2 to 4 axes.
        rule: What must be given, for the message.
        torch: Whether it is PyTorch's, where channels stand first.

    Returns:
        Arrays of shape `(height, width, 1, 3 or 4)`.

    Raises:
        ValueError: If the axes fit no picture, or more than one.
    """
    shape = array.shape
    if 0 in shape or not 2 <= len(shape) <= 4:
        raise ValueError(f"{rule}. Received: shape {shape}")
    if len(shape) == 2:
        return [array[..., None]]
    if shape[-1] in (1, 3, 4):
        return list(array) if len(shape) == 4 else [array]
    if len(shape) == 4 and shape[1] in (1, 3, 4):
        return list(np.moveaxis(array, 1, -1))
    if len(shape) == 3 and (shape[0] == 1 or (torch and shape[0] in (3, 4))):
        return [np.moveaxis(array, 0, -1)]
    hint = ""
    if len(shape) == 3 and shape[0] in (3, 4):
        hint = (
            "; of one with channels first give np.moveaxis(array, 0, -1), of several "
            "grey ones array[..., None]"
        )
    raise ValueError(f"{rule}{hint}. Received: shape {shape}")
