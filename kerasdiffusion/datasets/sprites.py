"""Cut-outs ready to be laid on a ground: emoji and shapes, scaled, tinted, styled."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kerasdiffusion.datasets import emoji

#: The named colours of grounds, shapes and tints.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 45, 48),
    "orange": (250, 140, 22),
    "yellow": (252, 218, 40),
    "green": (40, 160, 70),
    "cyan": (70, 205, 225),
    "blue": (40, 90, 215),
    "purple": (130, 60, 185),
    "pink": (250, 150, 190),
    "brown": (125, 78, 45),
    "white": (255, 255, 255),
    "grey": (136, 138, 142),
    "black": (16, 16, 18),
}
SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "diamond",
    "ring",
    "cross",
)
STYLES = ("silhouette", "greyscale", "pixel art", "line art")
MASTER = 128
_SUPERSAMPLING = 8
_DARK = ("black", "blue", "purple", "brown")


def ink_on(background: str) -> str:
    """The colour that line art and silhouettes take on a ground."""
    return "white" if background in _DARK else "black"


def _points(shape: str) -> list[tuple[float, float]]:
    """The outline of a shape in the unit circle, y downwards."""
    if shape == "star":
        turns = [(i, 1.0 if i % 2 == 0 else 0.42) for i in range(10)]
        return [
            (r * math.sin(i * math.pi / 5), -r * math.cos(i * math.pi / 5))
            for i, r in turns
        ]
    if shape == "heart":
        turns = np.linspace(0, 2 * math.pi, 200, endpoint=False)
        return [
            (
                math.sin(t) ** 3,
                -(
                    13 * math.cos(t)
                    - 5 * math.cos(2 * t)
                    - 2 * math.cos(3 * t)
                    - math.cos(4 * t)
                )
                / 16,
            )
            for t in turns
        ]
    a = 0.36
    return {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -0.87), (1, 0.87), (-1, 0.87)],
        "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)],
        "cross": [
            *((-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a)),
            *((a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)),
        ],
    }[shape]


@functools.cache
def shape_mask(shape: str) -> np.ndarray:
    """The coverage of a shape: uint8 `(height, width)`, cropped, antialiased."""
    if shape not in SHAPES:
        raise ValueError(f"A shape is one of {', '.join(SHAPES)}. Received: {shape!r}")
    side = MASTER * _SUPERSAMPLING
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    if shape in ("circle", "ring"):
        draw.ellipse((0, 0, side - 1, side - 1), fill=255)
        if shape == "ring":
            hole = side * 0.22
            draw.ellipse((hole, hole, side - 1 - hole, side - 1 - hole), fill=0)
    else:
        middle = (side - 1) / 2
        outline = [(middle * (1 + x), middle * (1 + y)) for x, y in _points(shape)]
        draw.polygon(outline, fill=255)
    mask = np.asarray(canvas.reduce(_SUPERSAMPLING))
    rows, columns = np.flatnonzero(mask.max(1)), np.flatnonzero(mask.max(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _filled(alpha: np.ndarray, color: str) -> np.ndarray:
    """One colour, as premultiplied RGBA, where alpha says."""
    rgba = np.float32([*COLORS[color], 255])
    return np.rint(alpha[..., None] * (rgba / np.float32(255))).astype(np.uint8)


def _luminance(picture: np.ndarray) -> np.ndarray:
    return picture[..., :3] @ np.float32([0.299, 0.587, 0.114])


def _tinted(picture: np.ndarray, color: str) -> np.ndarray:
    """The picture's light and shade in one colour."""
    alpha = picture[..., 3:] / np.float32(255)
    light = (_luminance(picture) / np.float32(255))[..., None]
    target = np.float32(COLORS[color])
    # Below half light the colour darkens, above it whitens.
    shade = np.minimum(light * 2, alpha) * target
    bright = np.maximum(light * 2 - alpha, 0) * (255.0 - target) * 0.8
    return np.concatenate([shade + bright, picture[..., 3:]], -1).round().astype("u1")


def _line_art(picture: np.ndarray, ink: str) -> np.ndarray:
    """Ink where light or transparency changes."""
    padded = np.pad(picture, ((3, 3), (3, 3), (0, 0)))
    planes = np.stack([_luminance(padded), padded[..., 3].astype(np.float32)])
    slope = np.maximum(*(np.abs(step) for step in np.gradient(planes, axis=(1, 2))))
    edges = (np.maximum(*slope) * 4 - 60).clip(0, 255).astype(np.uint8)
    for axis in (0, 1):  # a line of three pixels and more
        before, after = np.roll(edges, -1, axis), np.roll(edges, 1, axis)
        edges = np.maximum(edges, np.maximum(before, after))
    return _filled(edges, ink)


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture scaled so that its longer side has this many pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Hamming has no negative lobes: no rings, and colour never exceeds alpha.
    how = Image.Resampling.HAMMING if scale < 1 else Image.Resampling.BILINEAR
    image = Image.frombytes("RGBa", (width, height), picture.tobytes())
    return np.frombuffer(image.resize(size, how).tobytes(), np.uint8).reshape(
        size[1], size[0], 4
    )


def _blocks(small: np.ndarray, side: int) -> np.ndarray:
    """A small picture's pixels as blocks, each of one colour and solid or not there."""
    height, width = small.shape[:2]
    alpha = small[..., 3:].astype(np.float32)
    solid = np.rint(small * (255 / np.maximum(alpha, 1)) / 51).clip(0, 5) * 51
    picture = np.where(alpha > 127, solid, 0).astype(np.uint8)
    longer = max(height, width)
    rows = np.arange(round(height * side / longer)) * longer // side
    columns = np.arange(round(width * side / longer)) * longer // side
    return picture[rows.clip(max=height - 1)][:, columns.clip(max=width - 1)]


def _master(kind: str, name: str, font: Path | None) -> np.ndarray:
    """The picture at the size in which it is kept; a shape in white."""
    if kind == "shape":
        return shape_mask(name)[..., None].repeat(4, -1)
    return emoji.glyph(emoji.find(name).emoji, font)


@functools.lru_cache(maxsize=8192)
def _scaled(kind: str, name: str, side: int, font: Path | None) -> np.ndarray:
    return _resized(_master(kind, name, font), side)


@functools.lru_cache(maxsize=4096)
def sprite(
    kind: str,
    name: str,
    side: int,
    color: str | None = None,
    style: str | None = None,
    ink: str = "black",
    font: Path | None = None,
) -> np.ndarray:
    """A cut-out, kept for the next time.

    Args:
        kind: `"emoji"` or `"shape"`.
        name: A name in `emoji.table()` or one of `SHAPES`.
        side: Pixels of the longer side.
        color: The colour of a shape; the tint of an emoji, or `None`.
        style: One of `STYLES`, or `None`.
        ink: The colour of line art and silhouettes.
        font: From `emoji.find_font`; needed for emoji.

    Returns:
        uint8 `(height, width, 4)`: premultiplied red, green, blue, and alpha. Not to
        be written to.
    """
    if style == "line art":
        return _resized(_line_art(_master(kind, name, font), ink), side)
    picture = _scaled(kind, name, 16 if style == "pixel art" else side, font)
    if style == "silhouette":
        return _filled(picture[..., 3], ink)
    if kind == "shape":
        picture = _filled(picture[..., 3], color or ink)
    elif color:
        picture = _tinted(picture, color)
    if style == "pixel art":
        return _blocks(picture, side)
    if style == "greyscale":
        grey = _luminance(picture)[..., None].repeat(3, -1)
        return np.concatenate([grey, picture[..., 3:]], -1).round().astype(np.uint8)
    return picture


def lay(canvas: np.ndarray, cutout: np.ndarray, left: int, top: int) -> None:
    """Lay a cut-out on a picture, in place; what sticks out is cut off.

    Args:
        canvas: uint8 `(H, W, 3)`, written to.
        cutout: From `sprite`.
        left: Column of its left edge, in pixels.
        top: Row of its upper edge, in pixels.
    """
    height, width = canvas.shape[:2]
    y0, x0 = max(top, 0), max(left, 0)
    y1 = min(top + cutout.shape[0], height)
    x1 = min(left + cutout.shape[1], width)
    if y0 >= y1 or x0 >= x1:
        return
    part = cutout[y0 - top : y1 - top, x0 - left : x1 - left]
    under = canvas[y0:y1, x0:x1]
    through = under * (255 - part[..., 3:]).astype(np.uint16)
    np.add(part[..., :3], (through + 127) // 255, out=under, casting="unsafe")
