"""Pictures in and out of JSON: bounded ahead of being unpacked, described as PNG."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Mapping

import numpy as np

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.pictures import read
from kerasdiffusion.pictures.formats import FORMATS
from kerasdiffusion.pictures.generation_parameters import format_parameters
from kerasdiffusion.storage.bounds import BOUNDS, shown

_DATA = re.compile(r"data:image/[\w.+-]{1,40};base64,")
_ADDRESS = re.compile(r"\s*(https?|ftp|file|gopher|blob):", re.IGNORECASE)
#: Formats that pictures are given back in, by OpenAI's names.
WRITTEN = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}


def from_base64(text, name: str, keep: bool = False):
    """A picture of base64, or of a `data:` address, as it was sent: a Pillow image.

    Raises:
        Refused: If it is none, is an address, or has too many pixels.
    """
    if not isinstance(text, str) or not text:
        raise Refused(422, f"`{name}` must be a picture in base64. {_got(text)}", name)
    if _ADDRESS.match(text[:40]):
        raise Refused(
            422,
            f"`{name}` must be the picture itself, in base64: nothing is fetched. "
            f"{_got(text)}",
            name,
        )
    found = _DATA.match(text[:80])
    try:
        # (Many clients break lines.)
        content = base64.b64decode(
            re.sub(r"\s+", "", text[found.end() if found else 0 :]), validate=True
        )
    except (binascii.Error, ValueError):
        raise Refused(
            422, f"`{name}` must be a picture in base64. {_got(text)}", name
        ) from None
    return from_bytes(content, name, keep)


def from_bytes(content: bytes, name: str, keep: bool = False):
    """A picture file in memory as a Pillow image, unpacked and turned as EXIF says.

    Args:
        content: All of the file.
        name: The field that it is in, for messages.
        keep: Whether it stays as it is in the file, with all that it says.

    Raises:
        Refused: If it is no picture in one of `FORMATS`, or has too many pixels.
    """
    from PIL import Image

    Image.init()
    known = [each for each in FORMATS if each in Image.OPEN]
    try:
        with Image.open(io.BytesIO(content), formats=known) as image:
            check_pixels(image.height, image.width, name)
            image.load()
            if keep:
                return image
            upright = read.upright(image)
            return upright.copy() if upright is image else upright
    except Refused:
        raise
    except Exception as error:  # what Pillow's readers raise is of many types
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise Refused(
            422,
            f"`{name}` must be a picture: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF. "
            f"Received: {len(content)} bytes ({_plain(reason)})",
            name,
        ) from None


def check_pixels(height: int, width: int, name: str) -> None:
    """That a picture, given or asked for, is not too large.

    Raises:
        Refused: If it is.
    """
    most = BOUNDS["server_pixels"].most
    side = read.LARGEST
    if not (0 < height <= side and 0 < width <= side and height * width <= most):
        raise Refused(
            422,
            f"`{name}` must have at most {most} pixels, and {side} on a side. "
            f"Received: {shown(width, 30)}x{shown(height, 30)}",
            name,
        )


def encoded(
    picture: np.ndarray,
    parameters: Mapping | None = None,
    kind: str = "png",
    quality: int = 100,
) -> bytes:
    """A picture file.

    Args:
        picture: uint8 of shape `(height, width, 3)`.
        parameters: How it was made, for `format_parameters`; PNG and JPEG keep it.
        kind: One of `WRITTEN`.
        quality: Of JPEG and WebP, from 0 to 100.
    """
    from PIL import Image, PngImagePlugin

    image, out = Image.fromarray(picture), io.BytesIO()
    text = None if parameters is None else infotext(parameters)
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        if text is not None:
            chunks.add_text("parameters", text)
        image.save(out, format="PNG", pnginfo=chunks, compress_level=4)
    else:
        image.save(out, format=WRITTEN[kind], quality=max(1, quality))
    return out.getvalue()


def infotext(parameters: Mapping) -> str:
    """How a picture was made, as text that a PNG can hold."""
    text = format_parameters(**parameters)
    return text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", " ")


def to_base64(content: bytes) -> str:
    """Bytes as JSON has them."""
    return base64.b64encode(content).decode("ascii")


def _got(value) -> str:
    return f"Received: {_plain(shown(value, 40))}"


def _plain(text: str) -> str:
    return "".join(x if x.isprintable() else "?" for x in text)
