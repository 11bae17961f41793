"""The table of objects and their pictures: Unicode's names, Noto Color Emoji's art."""

from __future__ import annotations

import difflib
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from kerasdiffusion.storage.places import expand_user

TABLE = Path(__file__).parent.parent / "assets" / "emoji_names.json"
FONT_VARIABLE = "KERASDIFFUSION_EMOJI_FONT"
FONT_PATHS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto-emoji/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",
    "/usr/local/share/fonts/NotoColorEmoji.ttf",
    "~/.local/share/fonts/NotoColorEmoji.ttf",
    "~/.fonts/NotoColorEmoji.ttf",
    "~/Library/Fonts/NotoColorEmoji.ttf",
)
# The only size that the font's bitmaps have, and the cell that they fill.
FONT_SIZE = 109
CELL = (136, 128)


@dataclass(frozen=True)
class Emoji:
    """One object of the table.

    Args:
        emoji: Its character or sequence of characters.
        name: CLDR's English short name.
        group: Its subgroup in Unicode's list, such as `"food-fruit"`.
        keywords: CLDR's English keywords.
    """

    emoji: str
    name: str
    group: str
    keywords: tuple[str, ...]


@functools.cache
def table() -> dict[str, Emoji]:
    """All objects by name, in Unicode's order.

    Returns:
        Names to `Emoji`: 1,166 things, animals, people and faces. Flags, signs, clock
        faces, skin tones and gendered repeats are left out.

    Example:

    >>> table()["red apple"].group
    'food-fruit'
    """
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["emoji"]
    return {name: Emoji(e, name, group, tuple(kw)) for e, name, group, kw in rows}


def find(name: str) -> Emoji:
    """The object of this name; a `ValueError` with near matches where there is none."""
    found = table().get(name)
    if found is None:
        near = difflib.get_close_matches(str(name), table(), n=3)
        hint = f" Near: {', '.join(near)}." if near else ""
        raise ValueError(
            f"An object is named as in `emoji.table()`.{hint} Received: {name!r}"
        )
    return found


def find_font(path: str | os.PathLike | None = None) -> Path:
    """The file of Noto Color Emoji.

    Args:
        path: The file. `None` takes the environment variable
            `KERASDIFFUSION_EMOJI_FONT`, else the system's usual places.

    Returns:
        A path that exists.

    Raises:
        FileNotFoundError: If there is none; the message says how to install it.
    """
    return _find_font(str(path or os.environ.get(FONT_VARIABLE) or ""))


@functools.cache
def _find_font(given: str) -> Path:
    places = [given] if given else FONT_PATHS
    for place in places:
        try:
            found = expand_user(place)
        except ValueError:
            continue  # of a user without a home
        if found.is_file():
            return found
    raise FileNotFoundError(
        "The pictures of objects are drawn with the font Noto Color Emoji. Install "
        "it (Debian, Ubuntu: `apt-get install fonts-noto-color-emoji`; Fedora: `dnf "
        "install google-noto-color-emoji-fonts`), or give the path of "
        f"NotoColorEmoji.ttf as `font` or in the environment variable {FONT_VARIABLE}. "
        f"Received: {given or 'none of ' + ', '.join(places)}"
    )


@functools.cache
def _open_font(path: Path) -> ImageFont.FreeTypeFont:
    layout = ImageFont.Layout.BASIC
    if features.check("raqm"):
        layout = ImageFont.Layout.RAQM
    try:
        return ImageFont.truetype(path, FONT_SIZE, layout_engine=layout)
    except OSError as error:
        raise ValueError(
            "The font must be Noto Color Emoji with bitmaps (CBDT), which has the "
            f"size {FONT_SIZE} alone. Received: {path} ({error})"
        ) from error


@functools.cache
def glyph(emoji: str, font: Path) -> np.ndarray:
    """The picture of an emoji, with its transparency.

    It is drawn on black, which leaves the premultiplied colour, and on white, which
    tells the transparency: a transparent canvas would give grey fringes.

    Args:
        emoji: One emoji.
        font: From `find_font`.

    Returns:
        uint8 `(height, width, 4)`: premultiplied red, green, blue, and alpha, cropped
        to what is visible; at most 128 x 136.

    Raises:
        ValueError: If the font has no single picture for this emoji.
    """
    opened = _open_font(font)
    text = emoji
    if not features.check("raqm"):
        text = text.replace("\ufe0f", "")
    left, top, right, bottom = opened.getbbox(text)
    drawn = []
    for ground in ("black", "white"):
        canvas = Image.new("RGB", (right - left, bottom - top), ground)
        ImageDraw.Draw(canvas).text((-left, -top), text, font=opened, embedded_color=1)
        drawn.append(np.asarray(canvas, dtype=np.int16))
    color, alpha = drawn[0], 255 - (drawn[1] - drawn[0])[..., :1]
    rows = np.flatnonzero(alpha.max((1, 2)))
    columns = np.flatnonzero(alpha.max((0, 2)))
    if right - left > CELL[0] + 2 or not len(rows):
        raise ValueError(
            "The font must have a picture for every emoji; sequences need Pillow "
            f"with raqm. Received: {emoji!r} in {font}"
        )
    picture = np.concatenate([color, alpha], axis=-1).clip(0, 255).astype(np.uint8)
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
