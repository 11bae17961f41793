"""Scenes: specified first, then drawn. The caption is in `captions.py`."""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasdiffusion.datasets import emoji
from kerasdiffusion.datasets.english import can_count
from kerasdiffusion.datasets.names import STARTER, spoken_names
from kerasdiffusion.datasets.sprites import (
    COLORS,
    SHAPES,
    STYLES,
    ink_on,
    lay,
    sprite,
)

BACKGROUNDS = tuple(COLORS)
#: Places as steps right and down from the centre.
PLACES: dict[str, tuple[int, int]] = {
    "center": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
#: Sizes as the longer side of the object, in parts of the picture's side.
SIZES: dict[str, float] = {"small": 0.34, "medium": 0.56, "large": 0.8}
#: Where the first of two objects stands, seen from the second.
RELATIONS: dict[str, tuple[int, int]] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
#: Styles that leave nothing of an object's colours.
COLORLESS = ("silhouette", "greyscale", "line art")
_MIRRORED = {"right of": "left of", "below": "above"}
# Centres, and the side of each object, for several equal ones.
_ROWS: dict[int, tuple[float, tuple[tuple[float, float], ...]]] = {
    2: (0.42, ((0.27, 0.5), (0.73, 0.5))),
    3: (0.4, ((0.5, 0.27), (0.27, 0.73), (0.73, 0.73))),
    4: (0.4, ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73))),
}
MARGIN = 0.04
_TEST_PERCENT = 5


@dataclass(frozen=True)
class Item:
    """One object of a scene.

    Args:
        name: A name in `emoji.table()`, or one of `SHAPES`.
        kind: `"emoji"` or `"shape"`.
        color: The colour of a shape, or the tint of an emoji (`None` for its own
            colours).
        place: One of `PLACES`.
        size: One of `SIZES`.
    """

    name: str
    kind: str = "emoji"
    color: str | None = None
    place: str = "center"
    size: str = "medium"


@dataclass(frozen=True)
class Scene:
    """What a picture shows, at no particular resolution.

    Args:
        background: The colour of the ground, one of `BACKGROUNDS`.
        items: One object; two with a `relation`.
        relation: One of `RELATIONS`: where the first object stands, seen from the
            second; both are then placed by it. `None` for one object.
        count: How often the one object is there, 1 to 4.
        style: One of `STYLES`, or `None`.
        offset: A shift right and down, in parts of the picture's side; no part of
            the specification that is held out.

    Example:

    >>> scene = Scene("blue", (Item("red apple"),))
    >>> scene.split
    'train'
    """

    background: str
    items: tuple[Item, ...]
    relation: str | None = None
    count: int = 1
    style: str | None = None
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        _check("background", self.background, BACKGROUNDS)
        _check("relation", self.relation, (None, *RELATIONS))
        _check("style", self.style, (None, *STYLES))
        _check("count", self.count, (1, 2, 3, 4))
        for item in self.items:
            _check("kind", item.kind, ("emoji", "shape"))
            _check("place", item.place, PLACES)
            _check("size", item.size, SIZES)
            colors = BACKGROUNDS if item.kind == "shape" else (None, *BACKGROUNDS)
            _check("colour", item.color, colors)
        wanted = 1 if self.relation is None else 2
        if len(self.items) != wanted or (self.relation and self.count > 1):
            raise ValueError(
                "A scene has one object, or two with a relation and no count. "
                f"Received: {self}"
            )

    @functools.cached_property
    def key(self) -> str:
        """The specification as text, the same for the same picture."""
        first, *second = self.items
        relation = self.relation
        if relation in _MIRRORED:
            (first,), second = second, [first]
            relation = _MIRRORED[relation]
        parts = [self.background, relation, self.count, self.style]
        for item in (first, *second):
            parts += [item.kind, item.name, item.color, item.place, item.size]
        return "|".join("" if part is None else str(part) for part in parts)

    @functools.cached_property
    def split(self) -> str:
        """`"test"` for one specification in twenty, by a hash; else `"train"`."""
        digest = hashlib.blake2b(self.key.encode(), digest_size=8).digest()
        return (
            "test" if int.from_bytes(digest, "big") % 100 < _TEST_PERCENT else "train"
        )

    def layout(self) -> list[tuple[Item, float, float, float]]:
        """Each object with its centre (x, y) and longer side, in parts of the side."""
        if self.relation:
            dx, dy = RELATIONS[self.relation]
            side, step = _ROWS[2][0], 0.23
            placed = [
                (item, 0.5 + sign * dx * step, 0.5 + sign * dy * step, side)
                for sign, item in zip((1, -1), self.items, strict=True)
            ]
        elif self.count > 1:
            side, centers = _ROWS[self.count]
            placed = [(self.items[0], x, y, side) for x, y in centers]
        else:
            item = self.items[0]
            side = SIZES[item.size]
            dx, dy = PLACES[item.place]
            step = 0.5 - MARGIN - side / 2
            placed = [(item, 0.5 + dx * step, 0.5 + dy * step, side)]
        right, down = self.offset
        return [(item, x + right, y + down, side) for item, x, y, side in placed]


def _check(what: str, value, allowed) -> None:
    if value not in allowed:
        names = ", ".join(str(name) for name in allowed)
        raise ValueError(f"A scene's {what} is one of {names}. Received: {value!r}")


@dataclass(frozen=True)
class SceneConfig:
    """Which scenes are drawn, and how often.

    The defaults are those of the recipe "starter".

    Args:
        objects: Names in `emoji.table()`.
        shapes: Some of `SHAPES`, or none.
        shape_fraction: The part of scenes with a shape, 0 to 1.
        backgrounds: Some of `BACKGROUNDS`.
        places: Some of `PLACES`, `"center"` among them.
        sizes: Some of `SIZES`, `"medium"` among them. Large objects stand in the
            centre alone: elsewhere they would hardly be off it.
        center_fraction: The part of single objects in the centre.
        relations: The part of scenes with two objects.
        counts: The part of scenes with two to four of the same object.
        styles: Some of `STYLES`.
        style_fraction: The part of scenes in one of the styles.
        tints: The part of emoji in one colour.
        jitter: The largest shift of a scene, in parts of the picture's side.

    Example:

    >>> from kerasdiffusion.datasets.emoji import table
    >>> from kerasdiffusion.datasets.sprites import STYLES
    >>> everything = SceneConfig(
    ...     objects=tuple(table()), places=tuple(PLACES), relations=0.3, counts=0.1,
    ...     styles=STYLES, tints=0.05,
    ... )
    """

    objects: tuple[str, ...] = STARTER
    shapes: tuple[str, ...] = SHAPES
    shape_fraction: float = 0.12
    backgrounds: tuple[str, ...] = BACKGROUNDS
    places: tuple[str, ...] = ("center", "left", "right", "top", "bottom")
    sizes: tuple[str, ...] = ("small", "medium", "large")
    center_fraction: float = 0.7
    relations: float = 0.0
    counts: float = 0.0
    styles: tuple[str, ...] = ()
    style_fraction: float = 0.25
    tints: float = 0.0
    jitter: float = 0.0

    def __post_init__(self):
        for name in self.objects:
            emoji.find(name)
        for what, names, allowed in (
            ("shapes", self.shapes, SHAPES),
            ("backgrounds", self.backgrounds, BACKGROUNDS),
            ("places", self.places, PLACES),
            ("sizes", self.sizes, SIZES),
            ("styles", self.styles, STYLES),
        ):
            for name in names:
                _check(f"{what}' elements", name, allowed)
        if not self.backgrounds or not (self.objects or self.shapes):
            raise ValueError(
                "A configuration needs a background, and objects or shapes. "
                f"Received: {self}"
            )
        if "center" not in self.places or "medium" not in self.sizes:
            raise ValueError(
                "`places` must contain 'center' and `sizes` 'medium'. Received: "
                f"places={self.places}, sizes={self.sizes}"
            )
        for what in (
            "shape_fraction",
            "center_fraction",
            "relations",
            "counts",
            "style_fraction",
            "tints",
            "jitter",
        ):
            if not 0 <= getattr(self, what) <= 1:
                raise ValueError(
                    f"`{what}` must be a part of 1, from 0 to 1. "
                    f"Received: {getattr(self, what)}"
                )


def pick(rng, options):
    """One of the options, evenly; by `random()` alone, which no version changes."""
    return options[int(rng.random() * len(options))]


def _draw_item(config: SceneConfig, rng, background: str) -> Item:
    shape = config.shapes and (
        not config.objects or rng.random() < config.shape_fraction
    )
    if shape:
        colors = [color for color in BACKGROUNDS if color != background]
        return Item(pick(rng, config.shapes), "shape", pick(rng, colors))
    name = pick(rng, config.objects)
    if config.tints and rng.random() < config.tints:
        colors = [c for c in BACKGROUNDS if c != background]
        if not any(color in name.split() for color in BACKGROUNDS):
            return Item(name, color=pick(rng, colors))
    return Item(name)


def _draw_place(config: SceneConfig, rng) -> tuple[str, str]:
    """Place and size of a single object."""
    aside = [place for place in config.places if place != "center"]
    if aside and rng.random() >= config.center_fraction:
        return pick(rng, aside), pick(rng, [s for s in config.sizes if s != "large"])
    # Medium is what a prompt that names no size means, so it comes most often.
    weights = {"small": 0.15, "medium": 0.6, "large": 0.25}
    at = rng.random() * sum(weights[size] for size in config.sizes)
    for size in config.sizes:
        at -= weights[size]
        if at < 0:
            break
    return "center", size


def _has_plural(config: SceneConfig, item: Item) -> bool:
    return any(map(can_count, spoken_names(item.name, item.kind, config.objects)))


def draw_scene(config: SceneConfig, rng: random.Random) -> Scene:
    """One random scene of a configuration.

    Args:
        config: Which scenes there are.
        rng: A source with `random()`: `random.Random` or numpy's generators.

    Returns:
        The scene; of either split.
    """
    background = pick(rng, config.backgrounds)
    item = _draw_item(config, rng, background)
    style = None
    if config.styles and rng.random() < config.style_fraction:
        style = pick(rng, config.styles)
        if style in COLORLESS and item.color:
            style = None
    offset = (0.0, 0.0)
    if config.jitter:
        offset = tuple((rng.random() * 2 - 1) * config.jitter for _ in range(2))
    kind = rng.random()
    if kind < config.relations:
        other = _draw_item(config, rng, background)
        while other == item:
            other = _draw_item(config, rng, background)
        if style in COLORLESS and other.color:
            style = None
        relation = pick(rng, tuple(RELATIONS))
        return Scene(background, (item, other), relation, 1, style, offset)
    if kind < config.relations + config.counts and _has_plural(config, item):
        return Scene(background, (item,), None, pick(rng, (2, 3, 4)), style, offset)
    place, size = _draw_place(config, rng)
    item = Item(item.name, item.kind, item.color, place, size)
    return Scene(background, (item,), None, 1, style, offset)


def render(
    scene: Scene, image_size: int = 64, font: str | Path | None = None
) -> np.ndarray:
    """The picture of a scene.

    Args:
        scene: What it shows.
        image_size: Pixels on a side, 16 or more.
        font: Path of Noto Color Emoji; `None` looks for it (`emoji.find_font`).

    Returns:
        uint8 `(image_size, image_size, 3)`.

    Raises:
        FileNotFoundError: If the font is missing and the scene has an emoji.

    Example:

    >>> render(Scene("blue", (Item("circle", "shape", "red"),)), 32).shape
    (32, 32, 3)
    """
    if image_size < 16:
        raise ValueError(f"`image_size` must be 16 or more. Received: {image_size}")
    canvas = np.empty((image_size, image_size, 3), np.uint8)
    canvas[:] = COLORS[scene.background]
    ink = ink_on(scene.background)
    for item, x, y, side in scene.layout():
        path = emoji.find_font(font) if item.kind == "emoji" else None
        cutout = sprite(
            item.kind,
            item.name,
            round(side * image_size),
            item.color,
            scene.style,
            ink,
            path,
        )
        height, width = cutout.shape[:2]
        left = int(x * image_size - width / 2 + 0.5)
        top = int(y * image_size - height / 2 + 0.5)
        lay(canvas, cutout, left, top)
    return canvas
