"""Draws the pictures that `6_teach.ipynb` teaches: `python notebooks/draw_pictures.py`.

They are icons of two sets that the bundled model has never seen, laid on its grounds:
Fluent Emoji (Microsoft, MIT) and OpenMoji (CC BY-SA 4.0), from the npm packages
`@iconify-json/fluent-emoji-flat` 1.2.6 and `@iconify-json/openmoji` 1.2.29. What
`npm pack` gives of them lies unpacked in the folders that the variables `FLUENT` and
`OPENMOJI` name. It takes `pip install resvg-py` beside this library.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
from pathlib import Path

from PIL import Image

from kerasdiffusion.datasets.english import noun_phrase
from kerasdiffusion.datasets.scenes import MARGIN, PLACES, SIZES
from kerasdiffusion.datasets.sprites import COLORS

HERE = Path(__file__).parent / "pictures"
GROUNDS = tuple(COLORS)
SIDE = 128
#: Of the phoenix: place, and size.
POSES = (
    *(("center", "medium"), ("center", "large"), ("left", "medium")),
    *(("center", "medium"), ("right", "medium"), ("center", "large")),
    *(("top", "medium"), ("bottom", "medium"), ("center", "small")),
    *(("top left", "medium"), ("center", "medium"), ("bottom right", "medium")),
)
#: What is shown of the style, by its name in OpenMoji, and in captions.
STYLED = {
    "cat-face": "cat",
    "red-apple": "red apple",
    "automobile": "car",
    "house": "house",
    "key": "key",
    "fish": "fish",
    "umbrella": "umbrella",
    "rocket": "rocket",
    "owl": "owl",
    "pizza": "pizza",
    "tulip": "tulip",
    "bell": "bell",
    "cactus": "cactus",
    "snail": "snail",
    "teapot": "teapot",
    "sailboat": "sailboat",
}


@functools.cache
def icons(package: str) -> dict:
    """All icons of a package, whose folder a variable of the environment names."""
    return json.loads(Path(os.environ[package], "icons.json").read_text("utf-8"))


@functools.cache
def icon(package: str, name: str, side: int = 256) -> Image.Image:
    """An icon, cut to what is drawn of it: RGBA."""
    import resvg_py

    own = {**icons(package), **icons(package)["icons"][name]}
    width, height = own.get("width", 16), own.get("height", 16)
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{own.get("left", 0)} {own.get("top", 0)} {width} {height}" '
        f'width="{side}" height="{side}">{own["body"]}</svg>'
    ).replace("currentColor", "#000")
    data = bytes(resvg_py.svg_to_bytes(svg_string=text))
    drawn = Image.open(io.BytesIO(data)).convert("RGBA")
    return drawn.crop(drawn.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())


def lay(drawn: Image.Image, ground: str, place="center", size="medium", shift=(0, 0)):
    """A cut-out on a ground, as the scenes of the bundled model are: RGB."""
    scale = SIZES[size] * SIDE / max(drawn.size)
    sides = [max(1, round(side * scale)) for side in drawn.size]
    small = drawn.resize(sides, Image.Resampling.LANCZOS)
    step = 0.5 - MARGIN - SIZES[size] / 2
    at = [
        round(SIDE * (0.5 + way * step) + more - side / 2)
        for way, more, side in zip(PLACES[place], shift, sides, strict=True)
    ]
    picture = Image.new("RGB", (SIDE, SIDE), COLORS[ground])
    picture.paste(small, tuple(at), small)
    return picture


def on(ground: str) -> str:
    """The end of a caption."""
    return f"on a{'n' * (ground[0] in 'aeiou')} {ground} background"


def where(place: str) -> str:
    """A place in a caption, with a space behind it."""
    if place == "center":
        return ""
    if " " in place:
        return f"in the {place} corner "
    return f"on the {place} " if place in ("left", "right") else f"at the {place} "


def phoenix() -> list[tuple[Image.Image, str]]:
    """The thing: on every ground, in several places and sizes."""
    found = []
    for i, (place, size) in enumerate(POSES):
        ground = GROUNDS[5 * i % len(GROUNDS)]
        thing = "a phoenix" if size == "medium" else f"a {size} phoenix"
        picture = lay(icon("FLUENT", "phoenix-bird"), ground, place, size)
        found.append((picture, f"{thing} {where(place)}{on(ground)}"))
    return found


def comic() -> list[tuple[Image.Image, str]]:
    """The style: a thing on a ground each."""
    grounds = [each for each in GROUNDS if each != "black"]  # the outlines' colour
    found = []
    for i, (name, said) in enumerate(STYLED.items()):
        ground = grounds[4 * i % len(grounds)]
        caption = f"{noun_phrase(said)} in comic style {on(ground)}"
        found.append((lay(icon("OPENMOJI", name), ground), caption))
    return found


def main() -> None:
    """Writes all of them, with their captions beside them."""
    for name, pictures in (("phoenix", phoenix()), ("comic", comic())):
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for i, (picture, caption) in enumerate(pictures):
            few = picture.quantize(96, Image.Quantize.MEDIANCUT, dither=0)
            few.save(folder / f"{i:02d}.png", optimize=True)
            (folder / f"{i:02d}.txt").write_text(caption + "\n", "utf-8")


if __name__ == "__main__":
    main()
