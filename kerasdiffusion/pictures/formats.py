"""The formats of picture files that are opened, and the names of those that are not.

Pillow opens some forty formats: some by other programs (EPS by Ghostscript), some that
nobody has looked at for years. What is not in the table is refused by its name.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

from kerasdiffusion.pictures.comments import gif_comment
from kerasdiffusion.storage.bounds import shown_path
from kerasdiffusion.storage.reading import open_regular

#: Pillow's name of each format that is opened, and what is read of it.
FORMATS = {
    "PNG": "all depths; of an animated one, the first frame",
    "JPEG": "CMYK too",
    "MPO": "the first of its pictures, which is the photo",
    "WEBP": "of an animated one, the first frame",
    "GIF": "the first frame",
    "BMP": "all depths",
    "DIB": "a BMP without its head",
    "TIFF": "8, 16 and 32 bits; the first page",
    "PPM": "PBM, PGM, PPM and PFM",
    "AVIF": "where Pillow has its library",
}
_TAKEN = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM or AVIF"
# What else files begin with: the place, the bytes, the name.
_OTHERS = (
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop's PSD"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML (SVG)"),
    (0, b"<!DOCTYPE html", "a web page"),
    (0, b"<html", "a web page"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypisom", "a video"),
    (4, b"ftypmp42", "a video"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (0, b"\xffO\xffQ", "JPEG 2000"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"\x93NUMPY", "a numpy array; give np.load(path)"),
    (0, b"PK\x03\x04", "a ZIP archive"),
)


def open_image(path: str | os.PathLike, read: Callable) -> Any:
    """What is read of a picture file.

    Args:
        path: A regular file in one of `FORMATS`.
        read: A function of the opened Pillow image. Its pixels are not read before.

    Returns:
        What `read` gives.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is in another format, broken, or of too many pixels.

    Example:

    ```python
    open_image("photo.jpg", lambda image: image.size)
    ```
    """
    from PIL import Image

    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"There must be a picture to read. Received: {shown_path(path)}"
        )
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    with open_regular(path) as file:
        start = file.read(64)
        if start.startswith(b"GIF8"):
            ahead = io.BufferedReader(file)
            try:
                gif_comment(ahead, path)  # Pillow's time grows with its square
            finally:
                ahead.detach()
        file.seek(0)
        try:
            with Image.open(file, formats=known) as image:
                return read(image)
        except Exception as error:
            # What Pillow's readers raise on broken files is of many types.
            if "Received: " in str(error):
                raise
            other = _other_format(start)
            if other:
                raise ValueError(
                    f"A picture file must be {_TAKEN}. Received: {path}, which is "
                    f"{other}"
                ) from error
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(
                f"The file must be a picture that Pillow reads: {_TAKEN}. Received: "
                f"{path} ({reason})"
            ) from error


def _other_format(start: bytes) -> str | None:
    """The name of a format that is not opened, by a file's first bytes."""
    from PIL import Image

    for place, mark, name in _OTHERS:
        if start[place : place + len(mark)].lower() == mark.lower():
            return name
    for name, (_, accepts) in Image.OPEN.items():
        if name not in FORMATS and accepts is not None:
            try:
                if accepts(start[:16]) is True:
                    return name
            except Exception:  # A reader that cannot say is not the one
                continue
    return None
