"""Pictures out: names, grids and PNG files that say how they were made."""

from __future__ import annotations

import io
import math
import operator
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import regex

from kerasdiffusion.pictures.generation_parameters import format_parameters
from kerasdiffusion.storage.whole import write_whole

#: The kinds of files that pictures are written as.
KINDS = ("png", "jpeg", "webp")
_NAME_BYTES = 100
_EXIF_BYTES = 65_000


def check_size(height: int, width: int, multiple: int = 8) -> None:
    """Refuses a picture size that the model cannot paint.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        multiple: What both must be multiples of: the autoencoder's downsampling, and
            more where the U-Net halves odd sizes.

    Raises:
        TypeError: If a side is no integer.
        ValueError: If a side is no positive multiple of `multiple`.

    Example:

    ```python
    check_size(512, 768)
    ```
    """
    for side in (height, width):
        if isinstance(side, bool) or not hasattr(side, "__index__"):
            raise TypeError(
                "Height and width must be integers. "
                f"Received: height={height!r}, width={width!r}"
            )
    if height < multiple or width < multiple or height % multiple or width % multiple:
        raise ValueError(
            f"Height and width must be multiples of {multiple}, at least {multiple}. "
            f"Received: height={height}, width={width}"
        )


def grid(
    images: Sequence[np.ndarray] | np.ndarray, columns: int | None = None
) -> np.ndarray:
    """Lays pictures out side by side, row by row; what is left over is black.

    Args:
        images: Pictures of one size, uint8, `(batch, height, width, 3)`.
        columns: Pictures a row. `None` makes the grid about square.

    Returns:
        One picture, uint8, `(rows * height, columns * width, 3)`.

    Raises:
        ValueError: If there are no pictures, if they differ in size, or if `columns`
            is not positive.

    Example:

    ```python
    grid(np.zeros((4, 64, 64, 3), "uint8")).shape  # (128, 128, 3)
    ```
    """
    images = [_check_picture(image) for image in images]
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise ValueError(
            "A grid needs at least one picture, and all of one shape. "
            f"Received: {len(images)} pictures of shapes {sorted(shapes)}"
        )
    count = len(images)
    if columns is None:
        columns = math.isqrt(count - 1) + 1
    if columns < 1:
        raise ValueError(f"`columns` must be at least 1. Received: {columns}")
    columns = min(columns, count)
    rows = -(-count // columns)
    height, width, channels = shapes.pop()
    sheet = np.zeros((rows, columns, height, width, channels), np.uint8)
    for index, image in enumerate(images):
        sheet[divmod(index, columns)] = image
    sheet = sheet.transpose(0, 2, 1, 3, 4)
    return sheet.reshape(rows * height, columns * width, channels)


def filename_for(prompt: str, seed: int) -> str:
    """A file name from a prompt and a seed, safe on every system.

    Args:
        prompt: The prompt. Letters and digits of any script are kept; all else
            becomes `"-"`.
        seed: The picture's seed.

    Returns:
        A name ending in `.png`, of at most 150 bytes in UTF-8.

    Example:

    ```python
    filename_for("A red apple!", 42)  # "a-red-apple-42.png"
    ```
    """
    # A seed at the end: no name that Windows reserves.
    return f"{slug_of(prompt)}-{operator.index(seed)}.png"


def slug_of(text: str) -> str:
    """The letters and digits of a text, of any script, with `-` between words.

    Args:
        text: Any text.

    Returns:
        At most 100 bytes in UTF-8: no dots, no separators, never empty.

    Example:

    >>> slug_of("A red apple!")
    'a-red-apple'
    """
    text = unicodedata.normalize("NFKC", text).lower()
    slug = "-".join(regex.findall(r"[\p{L}\p{M}\p{N}]+", text))
    slug = slug.encode("utf-8")[:_NAME_BYTES].decode("utf-8", errors="ignore")
    return slug.strip("-") or "picture"


def save_png(
    image: np.ndarray, path: str | os.PathLike, parameters: dict | None = None
) -> Path:
    """Writes a picture, never over a file that exists.

    Args:
        image: A picture, uint8, `(height, width, 3)`.
        path: Where to, ending in `.png`. Folders are made. If the file exists, `-2`,
            `-3` and so on are put behind its name until one is free.
        parameters: How the picture was made: the arguments of `format_parameters`,
            kept in the file as AUTOMATIC1111's web UI keeps them.

    Returns:
        The path of the file that was written.

    Raises:
        TypeError: If the picture is not uint8.
        ValueError: If the picture has another shape, or the path another ending.

    Example:

    ```python
    image = np.zeros((64, 64, 3), "uint8")
    save_png(image, "apple.png", {"prompt": "an apple", "steps": 20, "seed": 1})
    ```
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"The file's name must end in .png. Received: {path}")
    content = png_of(image, parameters)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_new(path, content)


def png_of(image: np.ndarray, parameters: dict | None = None) -> memoryview:
    """A picture as the bytes of a PNG file; arguments and errors as `save_png`."""
    from PIL import Image, PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    if parameters is not None:
        chunks.add_text("parameters", text_of(parameters))
    encoded = io.BytesIO()
    Image.fromarray(_check_picture(image)).save(encoded, format="PNG", pnginfo=chunks)
    return encoded.getbuffer()


def encoded(
    image: np.ndarray,
    kind: str = "png",
    quality: int = 95,
    parameters: dict | None = None,
) -> bytes | memoryview:
    """A picture as the bytes of a file, with how it was made in it.

    Args:
        image: A picture, uint8, `(height, width, 3)`.
        kind: One of `KINDS`.
        quality: Of JPEG and WebP, from 1 to 100; a WebP of 100 loses nothing.
        parameters: As in `save_png`; JPEG and WebP have them in EXIF's comment.

    Raises:
        ValueError: If there is no such kind.

    Example:

    >>> encoded(np.zeros((8, 8, 3), "uint8"), "webp")[:4]
    b'RIFF'
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}. Received: {kind}")
    if kind == "png":
        return png_of(image, parameters)
    from PIL import Image

    exif, more = Image.Exif(), {}
    if parameters is not None:
        text = text_of(parameters).encode("utf-16-be")
        # (JPEG's part for it has 64 KiB.)
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text[:_EXIF_BYTES]
        more["exif"] = exif
    if kind == "webp":
        more["lossless"] = quality == 100
    out = io.BytesIO()
    picture = Image.fromarray(_check_picture(image))
    picture.save(out, format=kind.upper(), quality=quality, **more)
    return out.getvalue()


def text_of(parameters: dict) -> str:
    """What a file says of how it was made, as every format can hold it.

    Args:
        parameters: The arguments of `format_parameters`.
    """
    text = format_parameters(**parameters)
    # Half of a surrogate pair is no text; a PNG cannot hold it, nor a NUL.
    return text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", " ")


def _check_picture(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"A picture must be uint8. Received: {image.dtype}")
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(
            f"A picture must have the shape (height, width, 3). Received: {image.shape}"
        )
    return image


def write_new(path: Path, content: memoryview) -> Path:
    """Writes to the first free name, whole or not at all; two writers never share one.

    Args:
        path: Where to. Its folder must exist.
        content: All of the file.

    Returns:
        The path of the file that was written: the given one, or with `-2`, `-3` and so
        on behind its name.
    """
    return write_whole(path, content, next_free=True)
