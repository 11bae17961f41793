"""X/Y/Z grids: a picture for each pair of values, and a sheet of all with labels."""

from __future__ import annotations

import csv
import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kerasdiffusion.apps.page import widgets
from kerasdiffusion.apps.server.desk import refusing
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.requests.kinds import near
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.storage.bounds import BOUNDS

NONE, REPLACED, MODEL, STYLE = "nothing", "words of the prompt", "model", "style"
WEIGHT = "weight of the first adapter"
_NAMES = (
    *("seed", "num_steps", "unconditional_guidance_scale", "sampler", "spacing"),
    *("strength", "clip_skip", "eta", "guidance_rescale", "pag_scale", "sag_scale"),
    *("variation_strength", "merge_tokens", "prompt_weighting", "rng"),
)
#: What may go along an axis, by what it is called.
AXES = {NONE: "", REPLACED: REPLACED, MODEL: MODEL, STYLE: STYLE, WEIGHT: WEIGHT} | {
    widgets.label_of(name): name for name in _NAMES
}
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


class Axis(NamedTuple):
    """What goes along an axis, and its values."""

    name: str
    values: list[str]


class Cell(NamedTuple):
    """A picture of the grid: its values of the axes, and all values of widgets."""

    labels: tuple[str, str, str]
    values: dict


def axis(shown: str, text: str) -> Axis:
    """An axis of a page's list, and its values with commas between.

    A value that has commas stands in double quotes; `1-5` and `1-9 (3)` are whole
    numbers from the one to the other, all or so many.

    Raises:
        Refused: If there is none of that name, or no values.
    """
    if shown not in AXES:
        rule = f"An axis must be one of {', '.join(AXES)}.{near(shown, list(AXES))}"
        raise Refused(422, rule)
    if shown == NONE:
        return Axis("", [""])
    try:
        values = next(csv.reader([text.strip()], skipinitialspace=True), [])
    except csv.Error as error:
        rule = f"The axis {shown!r} must have values, with commas between."
        raise Refused(422, f"{rule} Received: {error}") from None
    values = [each.strip() for each in values if each.strip()]
    if AXES[shown] in FIELDS:
        values = [more for each in values for more in _range(each)]
    if not values:
        raise Refused(422, f"The axis {shown!r} must have values, with commas between.")
    return Axis(AXES[shown], values)


def _range(text: str) -> list[str]:
    first, dash, rest = text.partition("-")
    last, bracket, count = rest.partition("(")
    first, last, count = first.strip(), last.strip(), count.strip(") ")
    numbers = [each for each in (first, last, count) if each]
    plain = all(each.isascii() and each.isdigit() for each in numbers)
    if not (dash and first and last and plain) or len(rest) + len(first) > 30:
        return [text]
    low, high = int(first), int(last)
    many = int(count) if bracket and count else abs(high - low) + 1
    if not 1 <= many <= BOUNDS["server_pictures"].most:
        raise Refused(422, f"A range must have fewer values. Received: {text[:60]}")
    if many == 1:
        return [str(low)]
    return [str(round(low + (high - low) * i / (many - 1))) for i in range(many)]


def cells(values: Mapping, axes: Sequence[Axis]) -> list[Cell]:
    """What is painted, in the order of z, y, x.

    Args:
        values: Of the widgets; with a seed, so that pictures can be compared.
        axes: x, y and z.

    Raises:
        Refused: If a value is none, or there are more pictures than a server paints.
    """
    count = int(np.prod([len(each.values) for each in axes]))
    most = BOUNDS["server_pictures"].most
    if count > most:
        raise Refused(422, f"A grid has at most {most} pictures. Received: {count}")
    found = []
    for z, y, x in itertools.product(*(each.values for each in reversed(axes))):
        own = dict(values) | {"batch_size": 1}
        for each, value in zip(axes, (x, y, z), strict=True):
            own = _with(own, each, value)
        found.append(Cell((x, y, z), own))
    return found


def _with(values: dict, axis: Axis, value: str) -> dict:
    """The same values, but for one of an axis."""
    name = axis.name
    if not name:
        return values
    if name == REPLACED:
        words, prompt = axis.values[0], values.get("prompt") or ""
        if words not in prompt:
            rule = "The first value must be words of the prompt, which others replace."
            raise Refused(422, f"{rule} Received: {words[:60]}")
        return values | {"prompt": prompt.replace(words, value)}
    if name == STYLE:
        return values | {"styles": [value]}
    if name == WEIGHT:
        rows = list(values.get("adapters") or ())
        if not rows:
            raise Refused(422, "There must be an adapter for its weight to change.")
        with refusing():
            weight = FIELDS["eta"].asked.kind.read(value)
        return values | {"adapters": [(rows[0][0], weight), *rows[1:]]}
    return values | {name: value}


def sheet(pictures: Sequence[np.ndarray], axes: Sequence[Axis]) -> list[np.ndarray]:
    """A sheet for each value of z: pictures in rows of y and columns of x, labelled.

    Args:
        pictures: uint8 of shape `(height, width, 3)`, in the order of `cells`.
        axes: x, y and z.

    Returns:
        uint8 arrays of shape `(height, width, 3)`.
    """
    x, y, z = axes
    a_sheet = len(x.values) * len(y.values)
    found = []
    for i, label in enumerate(z.values):
        own = pictures[i * a_sheet : (i + 1) * a_sheet]
        found.append(_sheet(own, x, y, f"{_shown(z)}: {label}" if z.name else ""))
    return found


def _sheet(pictures: Sequence[np.ndarray], x: Axis, y: Axis, title: str) -> np.ndarray:
    tall = max(each.shape[0] for each in pictures)
    wide = max(each.shape[1] for each in pictures)
    font = ImageFont.load_default(max(12, min(28, wide // 14)))
    line = font.getbbox("Ag")[3] + 10
    top = line * (bool(title) + bool(x.name))
    left = 0
    if y.name:
        labels = [f"{_shown(y)}: {each}" for each in y.values]
        left = min(wide, max(int(font.getlength(each)) for each in labels) + 16)
    size = left + wide * len(x.values), top + tall * len(y.values)
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    if title:
        draw.text((8, 4), title, _INK, font)
    for i, label in enumerate(x.values if x.name else ()):
        text = _cut(f"{_shown(x)}: {label}", font, wide - 12)
        draw.text((left + i * wide + 6, top - line + 4), text, _INK, font)
    for i, label in enumerate(y.values if y.name else ()):
        text = _cut(f"{_shown(y)}: {label}", font, left - 12)
        draw.text((6, top + i * tall + (tall - line) // 2), text, _INK, font)
    for i, picture in enumerate(pictures):
        row, column = divmod(i, len(x.values))
        place = left + column * wide, top + row * tall
        image.paste(Image.fromarray(picture), place)
    return np.asarray(image)


def _shown(axis: Axis) -> str:
    names = {name: shown for shown, name in AXES.items()}
    return names[axis.name]


def _cut(text: str, font, width: int) -> str:
    """A label as far as there is room for it."""
    text = "".join(each if each.isprintable() else " " for each in text)[:200]
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text[:-2]}…"
    return text


def record(client, texts: Sequence[Mapping], model: str, axes: Sequence[Axis]) -> dict:
    """What is kept of sheets, as of a job.

    Args:
        client: Whose.
        texts: What the text of each sheet says.
        model: The model's name.
        axes: x, y and z.
    """
    id, now = secrets.token_urlsafe(16), time.time()
    return {
        "id": id,
        "state": "done",
        "task": "grid",
        "model": model,
        "created": now,
        "ended": now,
        "progress": 1.0,
        "pictures": [f"/jobs/{id}/pictures/{i}" for i in range(len(texts))],
        "client": list(client),
        "request": {"axes": [list(each) for each in axes if each.name]},
        "parameters": [dict(each) for each in texts],
    }
