"""Pictures as AUTOMATIC1111's API takes them: resized, masked, filled, enlarged.

Reference:
    `modules/images.py` (`resize_image`), `modules/masking.py` (`fill`) and
    `modules/processing.py` of AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.pictures.read import SMALLEST, read_pictures

JUST, CROP, FILL = range(3)
#: Radii of blurs that are laid over each other, and how often each.
_BLURS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))
_WAYS = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}


def plain(image) -> Image.Image:
    """A Pillow image in RGB, what is clear over white.

    Raises:
        Refused: If it is too small or too narrow to paint over.
    """
    if min(image.size) < SMALLEST:
        raise Refused(
            422,
            f"A picture's sides must be {SMALLEST} pixels or more. "
            f"Received: {image.width}x{image.height}",
            "image",
        )
    return Image.fromarray(read_pictures(image)[0])


def resized(image, size: tuple[int, int], mode: int = JUST, way: str = "Lanczos"):
    """A picture of another size.

    Args:
        image: A Pillow image.
        size: Height and width.
        mode: `JUST`: stretched; `CROP`: the middle of it, as much as fits; `FILL`: all
            of it, with its edges repeated around.
        way: `"Lanczos"` or `"Nearest"`.

    Raises:
        Refused: If less than a row or a column of it would be left.
    """
    height, width = size
    if image.size == (width, height):
        return image
    if mode == JUST:
        return image.resize((width, height), _WAYS[way])
    if mode == CROP:
        scale = max(width / image.width, height / image.height)
        if min(width, height) < scale:
            raise Refused(
                422,
                "A picture that is cropped must keep a row and a column. Received: "
                f"{image.width}x{image.height} for {width}x{height}",
            )
        return ImageOps.fit(image, (width, height), _WAYS[way])
    scale = min(width / image.width, height / image.height)
    inner = [max(1, round(side * scale)) for side in image.size]
    small = np.asarray(image.resize(inner, _WAYS[way]))
    before = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    behind = (
        height - small.shape[0] - before[0],
        width - small.shape[1] - before[1],
    )
    sides = list(zip(before, behind, strict=True)) + [(0, 0)] * (small.ndim - 2)
    return Image.fromarray(np.pad(small, sides, mode="edge"))


def mask_of(image, invert: bool, is_round: bool) -> Image.Image:
    """A mask in grey: white is painted.

    Args:
        image: A Pillow image: its alpha where it has some, else its brightness.
        invert: Whether black is painted.
        is_round: Whether there is nothing between.
    """
    has_alpha = image.mode in ("RGBA", "LA") and image.getextrema()[-1] != (255, 255)
    mask = image.getchannel("A") if has_alpha else image.convert("L")
    if is_round:
        mask = mask.point(lambda value: 255 if value > 128 else 0)
    return ImageOps.invert(mask) if invert else mask


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """A picture whose masked part is its surroundings, blurred into it."""
    around = Image.new("RGBa", image.size)
    around.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    found = Image.new("RGBA", image.size)
    for radius, times in _BLURS:
        blurred = around.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            found.alpha_composite(blurred)
    return found.convert("RGB")


def enlarged(
    image: Image.Image, name: str, size: tuple[int, int], mode: int = JUST
) -> Image.Image:
    """A picture by one of the upscalers; "None" keeps its size.

    Args:
        image: A Pillow image.
        name: What the upscaler is called.
        size: Height and width.
        mode: As in `resized`.

    Raises:
        Refused: If there is no such upscaler.
    """
    if name in (None, "", "None"):
        return image
    if not isinstance(name, str) or name not in _WAYS:
        raise Refused(
            422,
            f"An upscaler must be one of None, {', '.join(_WAYS)}. "
            f"Received: {str(name)[:100]!r}",
            "upscaler",
        )
    return resized(image, size, mode, name)
