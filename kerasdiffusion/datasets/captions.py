"""Captions of scenes, in good English and several wordings."""

from __future__ import annotations

from kerasdiffusion.datasets.english import NUMBERS, can_count, noun_phrase, plural
from kerasdiffusion.datasets.names import spoken_names
from kerasdiffusion.datasets.scenes import BACKGROUNDS, Item, Scene, SceneConfig, pick

# Repeated entries come more often: this is how a prompt is usually worded.
_GROUNDS = (
    *("on a {} background",) * 6,
    "on {}",
    "against a {} background",
    "in front of a {} background",
    "with a {} background",
)
_OPENINGS = ("a picture of", "an image of", "an emoji of", "a drawing of", "an icon of")
_SIZES = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("",),
    "large": ("large", "large", "big", "huge"),
}
_CENTER = ("in the center", "in the middle", "in the centre")
_SIDES = {
    "left": ("on the left", "on the left", "on the left side", "at the left"),
    "right": ("on the right", "on the right", "on the right side", "at the right"),
    "top": ("at the top", "at the top"),
    "bottom": ("at the bottom", "at the bottom"),
}
_CORNERS = (
    "in the {} corner",
    "in the {} corner",
    "at the {}",
    "in the {other} corner",
)
_RELATIONS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
}
_STYLES = {
    "silhouette": ("the silhouette of {}", "silhouette of {}"),
    "greyscale": ("a greyscale picture of {}", "{} in black and white"),
    "pixel art": ("pixel art of {}", "{} in pixel art", "{} as pixel art"),
    "line art": ("line art of {}", "a line drawing of {}", "an outline of {}"),
}
_COLOR_WORDS = {"grey": ("grey", "gray"), "purple": ("purple", "purple", "violet")}


def _color(color: str | None, rng) -> str:
    return pick(rng, _COLOR_WORDS.get(color, (color,))) if color else ""


def _thing(item: Item, config: SceneConfig, rng, count: int = 1) -> tuple[str, str]:
    """The object with its article or number, and without."""
    said = spoken_names(item.name, item.kind, config.objects)
    if count > 1:
        said = tuple(filter(can_count, said))
    name = said[0] if rng.random() < 0.6 else pick(rng, said)
    # A large object's size may go unsaid: "an apple" may well fill the picture.
    size = "" if count > 1 else pick(rng, _SIZES[item.size])
    if item.size == "large" and rng.random() < 0.15:
        size = ""
    color = _color(item.color, rng)
    bare = " ".join(word for word in (size, color, name) if word)
    if count > 1:
        bare = f"{NUMBERS[count]} {bare.removesuffix(name)}{plural(name)}"
    return noun_phrase(name, size, color, count=count), bare


def _place(place: str, rng) -> str:
    if place == "center":
        return pick(rng, _CENTER) if rng.random() < 0.15 else ""
    if place in _SIDES:
        return pick(rng, _SIDES[place])
    other = place.replace("top", "upper").replace("bottom", "lower")
    return pick(rng, _CORNERS).format(place, other=other)


def caption(scene: Scene, rng, config: SceneConfig | None = None) -> str:
    """A caption that is true of the scene.

    What the wording leaves out is the usual: no size means medium (or, seldom,
    large), no place the centre.

    Args:
        scene: What the picture shows.
        rng: A source with `random()`, which chooses the wording.
        config: The scenes among which names must be told apart; `None` takes the
            default configuration.

    Returns:
        For example "a small red apple at the top on a blue background".

    Example:

    >>> import random
    >>> caption(Scene("blue", (Item("red apple"),)), random.Random(3))
    'a red apple on a blue background'
    """
    config = config or _DEFAULT
    ground = _color(scene.background, rng)
    if scene.relation:
        first, second = (_thing(item, config, rng) for item in scene.items)
        link = pick(rng, _RELATIONS[scene.relation])
        thing, bare = (f"{a} {link} {b}" for a, b in zip(first, second, strict=True))
        where = ""
    else:
        item = scene.items[0]
        thing, bare = _thing(item, config, rng, scene.count)
        where = "" if scene.count > 1 else _place(item.place, rng)
    if scene.style:
        form = pick(rng, _STYLES[scene.style])
        thing, bare = form.format(thing), form.format(bare)
    how = rng.random()
    if how < 0.13:
        parts = [bare, where, f"{ground} background"]
        return ", ".join(part for part in parts if part)
    if how < 0.23:  # any ground may be meant
        return " ".join(part for part in (thing, where) if part)
    if how < 0.31 and not scene.style:
        thing = f"{pick(rng, _OPENINGS)} {thing}"
    on = pick(rng, _GROUNDS)
    if ground[0] in "aeiou":
        on = on.replace("a {}", "an {}")
    on = on.format(ground)
    if where and how > 0.85:
        return f"{thing} {on}, {where}"
    return " ".join(part for part in (thing, where, on) if part)


def caption_corpus(config: SceneConfig) -> list[str]:
    """Texts with every word that captions of a configuration can contain.

    Args:
        config: Which scenes are drawn.

    Returns:
        Short texts; for `Tokenizer.subset`.
    """
    texts = ["a an the", *_OPENINGS, *_CENTER, *NUMBERS.values()]
    texts += [text.replace("{}", "") for text in _GROUNDS]
    for choices in (*_SIZES.values(), *_SIDES.values(), *_COLOR_WORDS.values()):
        texts += choices
    for place in (place for place in config.places if " " in place):
        other = place.replace("top", "upper").replace("bottom", "lower")
        texts += [form.format(place, other=other) for form in _CORNERS]
    texts += config.backgrounds
    if config.shapes or config.tints:
        texts += BACKGROUNDS
    if config.relations:
        for choices in _RELATIONS.values():
            texts += choices
    for style in config.styles:
        texts += [form.format("") for form in _STYLES[style]]
    items = [Item(name) for name in config.objects]
    items += [Item(name, "shape", "red") for name in config.shapes]
    for item in items:
        for name in spoken_names(item.name, item.kind, config.objects):
            texts.append(name)
            if config.counts and can_count(name):
                texts.append(plural(name))
    return list(dict.fromkeys(text.strip() for text in texts if text))


_DEFAULT = SceneConfig()
