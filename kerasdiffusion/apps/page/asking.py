"""What the widgets say, as a `Request`: a page translates, and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from kerasdiffusion.apps.page import widgets
from kerasdiffusion.apps.server import web_ui_control, web_ui_pictures
from kerasdiffusion.apps.server.desk import refusing
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.apps.server.pictures import check_pixels, from_bytes
from kerasdiffusion.requests.control import Control
from kerasdiffusion.requests.kinds import Number, Whole
from kerasdiffusion.requests.request import Request, fields_of
from kerasdiffusion.requests.subject import LARGEST

#: A picture made larger and painted over, in tiles of nothing: by `image_to_image`.
LARGER = "larger"
#: What there is to do, as the page calls it.
TASKS = {
    "text_to_image": "From text",
    "image_to_image": "Over a picture",
    "inpaint": "A part of it",
    "outpaint": "Beyond its edges",
    LARGER: "Larger",
    "edit": "As told (edit)",
    "depth_to_image": "By its depth",
    "upscale": "Four times as large",
}
#: How a picture comes to the size that is chosen.
FITS = {
    "cut to the size": web_ui_pictures.CROP,
    "stretched": web_ui_pictures.JUST,
    "its edges repeated around": web_ui_pictures.FILL,
    "as large as it is": None,
}
#: Fields that are made here, or not at all.
_MADE = ("image", "mask", "depth", "control", "adapters", "prompt", "negative_prompt")
_SIDE = Whole(8, LARGEST, "a whole number of pixels")
_TIMES = Number(1.0, 8.0)


@dataclass(frozen=True)
class Asking:
    """What a page asks for.

    Args:
        request: A `Request`.
        model: The model's name; `None` for the default one.
        size: Height and width; `None` for the model's, or the picture's.
    """

    request: Request
    model: str | None
    size: tuple[int, int] | None


def tasks_of(config) -> list[str]:
    """What can be done with a model: its network sees a picture, or none."""
    more = config.diffusion_model.in_channels - config.autoencoder.latent_channels
    if config.diffusion_model.noise_levels:
        return ["upscale"]
    if more == config.autoencoder.latent_channels:
        return ["edit"]
    if more == 1:
        return ["depth_to_image"]
    if more == config.autoencoder.latent_channels + 1:
        return ["inpaint", "outpaint"]
    return ["text_to_image", "image_to_image", "inpaint", "outpaint", LARGER]


def asking(values: Mapping, models: Models) -> Asking:
    """What values of widgets ask for.

    Args:
        values: By name: those of fields, as `widgets.read` takes them; `task`, `model`,
            `width`, `height`, `styles`, `fit`, `times`; pictures as files in `picture`,
            `mask_file`, `depth_file`; layers of a drawing in `drawn`; `adapters` as
            pairs of a name and a weight; `control` as `control_of` takes it.
        models: Which there are.

    Raises:
        Refused: If something is not as it must be.
    """
    task = values.get("task") or "text_to_image"
    name = models.find(values.get("model"))
    with refusing(models):
        fields = _fields("image_to_image" if task == LARGER else task, values, models)
        own = models.get(name).config
        size = _size(values, own.generation)
        if task == "text_to_image":
            fields |= _beside(values, models, size)
            return Asking(Request(task=task, **fields), name, size)
        picture = picture_of(values.get("picture"), "picture", own.generation)
        fields["image"] = fitted(picture, values, size)
        if task == LARGER:
            fields["image"] = enlarged(fields["image"], values.get("times") or 2.0, own)
        if task == "inpaint":
            mask = mask_of(values, picture.size)
            fields["mask"] = fitted(mask, values, size, "Nearest")
        if task == "depth_to_image":
            fields["depth"] = _depth(values.get("depth_file"))
        painted = fields["image"].height, fields["image"].width
        if task not in ("edit", "upscale", "depth_to_image"):
            fields |= _beside(values, models, painted)
        is_part = task == "outpaint" or fields.get("padding") is not None
        request = Request(task="image_to_image" if task == LARGER else task, **fields)
        return Asking(request, name, own_size(own) if is_part else None)


def own_size(config) -> tuple[int, int]:
    """Height and width of the model's pictures."""
    return config.generation.height, config.generation.width


def _fields(task: str, values: Mapping, models: Models) -> dict:
    """The fields of the task that widgets say."""
    fields: dict = {"progress_bar": False}
    for name in fields_of(task):
        if name in _MADE or name not in values:
            continue
        value = widgets.read(name, values[name])
        if value is not None:
            fields[name] = value
    prompt, negative = models.styles.around(
        values.get("prompt") or "",
        values.get("negative_prompt") or "",
        values.get("styles") or (),
    )
    fields["instruction" if task == "edit" else "prompt"] = prompt
    if negative:
        fields["negative_prompt"] = negative
    return fields


def _size(values: Mapping, own) -> tuple[int, int]:
    """Height and width, the model's where nothing is said."""
    sides = []
    for name in ("height", "width"):
        value = values.get(name) or getattr(own, name)
        value = int(value) if float(value).is_integer() else value
        sides.append(_SIDE.check(value, name))
    check_pixels(*sides, "size")
    return sides[0], sides[1]


def _beside(values: Mapping, models: Models, size) -> dict:
    """Adapters and pictures to follow."""
    found = {}
    rows = [(name, weight) for name, weight in values.get("adapters") or () if name]
    if rows:
        found["adapters"] = [
            (name, 1.0 if weight is None else float(weight)) for name, weight in rows
        ]
    control = values.get("control") or {}
    if control.get("network"):
        found["control"] = [control_of(control, models, size)]
    return found


def control_of(told: Mapping, models: Models, size) -> Control:
    """A picture to follow, as large as what is painted.

    Args:
        told: `network`, `picture` (a file), `module`, `low`, `high`, `fit`, and what
            `Control` takes beside.
        models: Which networks there are.
        size: Height and width.
    """
    models.control(told["network"])  # refuses what is not here
    picture = web_ui_pictures.resized(
        followed(told), size, FITS.get(told.get("fit"), web_ui_pictures.CROP)
    )
    numbers = {name: told.get(name) for name in ("scale", "start", "end")}
    numbers = {name: x for name, x in numbers.items() if x is not None}
    numbers = {name: Number().check(value, name) for name, value in numbers.items()}
    guess = bool(told.get("guess_mode"))
    return Control(told["network"], np.asarray(picture), guess_mode=guess, **numbers)


def followed(told: Mapping) -> Image.Image:
    """What the network is shown of a picture: its edges, itself, or inverted."""
    picture = web_ui_pictures.plain(
        picture_of(told.get("picture"), "picture to follow")
    )
    how = {"threshold_a": told.get("low"), "threshold_b": told.get("high")}
    made = web_ui_control.prepared(picture, told.get("module") or "none", how)
    return made.convert("RGB")


def picture_of(file: str | None, name: str, own=None) -> Image.Image:
    """A picture that was given to the page.

    Args:
        file: Where it is.
        name: What it is, for messages.
        own: Anything; `None` where the picture stays in its own mode.
    """
    if not file:
        raise Refused(422, f"There must be a {name}: drop one, or send one there.")
    image = from_bytes(Path(file).read_bytes(), name)
    return web_ui_pictures.plain(image) if own is not None else image


def fitted(image, values: Mapping, size, way: str = "Lanczos"):
    """A picture in the size that is chosen, or its own, in whole blocks of 8."""
    mode = FITS.get(values.get("fit"), web_ui_pictures.CROP)
    if values.get("task") == "outpaint" or mode is None:
        size = tuple(max(8, side // 8 * 8) for side in (image.height, image.width))
        mode = web_ui_pictures.CROP
    return web_ui_pictures.resized(image, size, mode, way)


def enlarged(image: Image.Image, times: float, config) -> Image.Image:
    """A picture with so many times the pixels a side, in sides that the model takes."""
    from kerasdiffusion.apps.page.sizes import multiple_of

    step, times = multiple_of(config), _TIMES.check(times, "times")
    size = [
        max(step, round(side * times / step) * step)
        for side in (image.height, image.width)
    ]
    check_pixels(*size, "times")
    return web_ui_pictures.enlarged(image, "Lanczos", tuple(size))


def mask_of(values: Mapping, size: tuple[int, int]) -> Image.Image:
    """What is painted anew, in white: what was drawn, or a picture of a mask.

    Args:
        values: `mask_file`, a file; or `drawn`, layers of a drawing; `invert`.
        size: Width and height of the picture.
    """
    found = Image.new("L", size)
    if values.get("mask_file"):
        mask = picture_of(values["mask_file"], "mask")
        found = web_ui_pictures.mask_of(mask, False, True)
    for layer in values.get("drawn") or ():
        # (The brush is half clear, so that what lies below is seen.)
        alpha = layer.convert("RGBA").getchannel("A")
        drawn = alpha.point(lambda value: 255 if value > 64 else 0)
        found = ImageChops.lighter(found, drawn.resize(found.size, Image.NEAREST))
    if found.getbbox() is None:
        raise Refused(
            422, "A part must be marked: draw over what shall be painted anew.", "mask"
        )
    if values.get("invert"):
        found = ImageChops.invert(found)
    return found.resize(size, Image.NEAREST)


def _depth(file: str | None):
    """A map of depths, of as many bits as it has."""
    return np.asarray(picture_of(file, "map of depths"))
