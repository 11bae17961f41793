"""OpenAI's fields of images as a `Request`; what else a request takes goes along.

Reference:
    The images API of OpenAI's OpenAPI document; `protocol/images.py` of
    vllm-project/vllm-omni for what servers take beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kerasdiffusion.apps.server import web_ui_pictures
from kerasdiffusion.apps.server.core import Core
from kerasdiffusion.apps.server.desk import refusing
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import check_pixels
from kerasdiffusion.requests.as_json import is_writable, refuse_files
from kerasdiffusion.requests.foreign import KEYWORDS
from kerasdiffusion.requests.kinds import Choice, Switch, Text, Whole, near
from kerasdiffusion.requests.objects import Picture
from kerasdiffusion.requests.request import FIELDS, Request
from kerasdiffusion.storage.bounds import BOUNDS, shown

#: What OpenAI's API has, and as what.
TAKEN = {
    "prompt": Text(),
    "model": Text(),
    "n": Whole(1, BOUNDS["server_pictures"].most),
    "size": Text(),
    "quality": Choice(
        ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd")
    ),
    "background": Choice(("auto", "opaque")),
    "output_format": Choice(("png", "jpeg", "webp")),
    "output_compression": Whole(0, 100),
    "response_format": Choice(("b64_json", "url")),
    "stream": Switch(),
    "partial_images": Whole(0, 3),
}
#: What changes no picture here.
HARMLESS = ("user", "safety_identifier", "moderation", "style", "input_fidelity")
#: How many steps of the model's a quality stands for.
STEPS = {"low": 0.5, "high": 1.5, "hd": 1.5, "xhigh": 2.0, "max": 2.0}
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_PICTURES = ("image", "mask")
_MOST_STEPS = 1000


@dataclass
class Asking:
    """What one call asks for.

    Args:
        request: A `Request`.
        model: The model's name.
        size: Height and width, of a task without a picture.
        found: OpenAI's fields, checked.
    """

    request: Request
    model: str
    size: tuple[int, int] | None
    found: dict

    @property
    def kind(self) -> str:
        """The format of the pictures that are given back."""
        return self.found.get("output_format", "png")


def read(values: Mapping, core: Core, images=(), mask=None, prompt=None) -> Asking:
    """What a call's fields ask for.

    Args:
        values: JSON, or a form's texts.
        core: The server's parts.
        images: Pictures to paint over, Pillow images.
        mask: One whose clear part is painted, or `None`.
        prompt: In place of the field, for calls without one.

    Raises:
        Refused: If something is not as it must be, or is not here.
    """
    found, fields = _checked(values)
    if prompt is not None:
        found["prompt"] = prompt
    if "prompt" not in found:
        raise Refused(422, "`prompt` must be given. Received: none", "prompt")
    name = core.models.find(found.get("model"))
    with refusing(core.models):
        model = core.models.get(name)
        steps = STEPS.get(found.get("quality", "auto"))
        if steps is not None and not {"num_steps", "sigmas", "timesteps"} & set(fields):
            own = model.config.generation.num_steps
            fields["num_steps"] = min(_MOST_STEPS, max(1, round(own * steps)))
        size = _size(found.get("size", "auto"))
        fields |= {"batch_size": found.get("n", 1), "progress_bar": False}
        if not images:
            request = Request(task="text_to_image", prompt=found["prompt"], **fields)
            return Asking(request, name, size, found)
        request = _over(list(images), mask, size, found["prompt"], fields, model.config)
        return Asking(request, name, None, found)


def _checked(values: Mapping) -> tuple[dict, dict]:
    """OpenAI's fields, and those of a request that go along."""
    found, fields = {}, {}
    for name, value in values.items():
        if value is None or name in HARMLESS or name in _PICTURES:
            continue
        kind = TAKEN.get(name)
        try:
            if kind is not None:
                found[name] = _value(kind, value, name)
                continue
            field = FIELDS.get(KEYWORDS.get(name, name))
            if field is None or field.name in ("batch_size", "prompt", "instruction"):
                field = None
            if field is None or not is_writable(field):
                known = [*TAKEN, *(each for each in FIELDS if each not in _PICTURES)]
                raise Refused(
                    422,
                    f"A field must be one that is known.{near(name, known)} "
                    f"Received: {shown(name, 60)}",
                    str(name)[:100],
                )
            kind = field.asked.kind
            if isinstance(kind, Picture):
                raise Refused(422, f"`{name}` is not taken here.", name)
            if isinstance(value, _Formed):
                value = kind.parse(str(value))
            refuse_files(field.name, field, value)
            fields[field.name] = kind.from_json(value, name)
        except Refused:
            raise
        except (ValueError, TypeError) as error:
            raise Refused(422, str(error), str(name)[:100]) from None
    return found, fields


class _Formed(str):
    """A text of a form, in which numbers are texts too."""


def formed(texts: Mapping[str, str]) -> dict:
    """The texts of a form, to be read as what they stand for."""
    return {name: _Formed(text) for name, text in texts.items()}


def _value(kind, value, name: str):
    if isinstance(value, _Formed):
        text = str(value)
        if isinstance(kind, Switch):
            text = text.capitalize()
        return kind.check(kind.parse(text), name)
    if isinstance(kind, Whole) and isinstance(value, float) and value.is_integer():
        value = int(value)
    return kind.check(value, name)


def _size(text: str) -> tuple[int, int] | None:
    """Height and width of `WIDTHxHEIGHT`; `None` for `auto`."""
    if text == "auto":
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Refused(
            422,
            "`size` must be auto or WIDTHxHEIGHT, as 512x512. "
            f"Received: {shown(text, 60)}",
            "size",
        )
    size = int(match[2]), int(match[1])
    check_pixels(*size, "size")
    return size


def _over(images: list, mask, size, prompt: str, fields: dict, config) -> Request:
    """Pictures to paint over, as a whole or where a mask is clear."""
    if mask is None and len(images) == 1 and _clear(images[0]) is not None:
        mask = images[0]
    size = size or (images[0].height, images[0].width)
    pictures = [
        web_ui_pictures.resized(web_ui_pictures.plain(each), size) for each in images
    ]
    fields["image"] = pictures if len(pictures) > 1 else pictures[0]
    prompts = [prompt] * len(pictures) if len(pictures) > 1 else prompt
    if mask is not None:
        painted = _clear(mask)
        if painted is None:
            raise Refused(
                422,
                "`mask` must be a PNG that is clear (alpha 0) where something is to be "
                "painted. Received: one that is clear nowhere",
                "mask",
            )
        fields["mask"] = web_ui_pictures.resized(painted, size, way="Nearest")
        return Request(task="inpaint", prompt=prompts, **fields)
    if config.diffusion_model.in_channels == 2 * config.autoencoder.latent_channels:
        return Request(task="edit", instruction=prompts, **fields)
    return Request(task="image_to_image", prompt=prompts, **fields)


def _clear(image):
    """Where a picture is clear, in white; `None` if nowhere."""
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    if (alpha == 255).all():
        return None
    return Image.fromarray(255 - alpha)
