"""AUTOMATIC1111's extras: pictures enlarged, and what a PNG says of itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from fastapi import APIRouter
from fastapi import Request as Asked
from PIL import ImageChops
from starlette.concurrency import run_in_threadpool

from kerasdiffusion.apps.server import web_ui_pictures
from kerasdiffusion.apps.server.core import read_body
from kerasdiffusion.apps.server.desk import refusing
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import (
    check_pixels,
    encoded,
    from_base64,
    to_base64,
)
from kerasdiffusion.pictures.generation_parameters import parse_parameters
from kerasdiffusion.pictures.metadata import texts_of
from kerasdiffusion.requests.kinds import SHARE, Number, Switch, Whole
from kerasdiffusion.requests.subject import LARGEST
from kerasdiffusion.storage.bounds import BOUNDS

_FIELDS = {
    "resize_mode": Whole(0, 1),
    "upscaling_resize": Number(0.05, 16.0),
    "upscaling_resize_w": Whole(1, LARGEST),
    "upscaling_resize_h": Whole(1, LARGEST),
    "upscaling_crop": Switch(),
    "extras_upscaler_2_visibility": SHARE,
}
#: What only a network could do.
_OFF = ("gfpgan_visibility", "codeformer_visibility")
#: What the web UI calls what `parse_parameters` gives.
_LABELS = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "steps": "Steps",
    "sampler": "Sampler",
    "schedule_type": "Schedule type",
    "guidance_scale": "CFG scale",
    "seed": "Seed",
    "width": "Size-1",
    "height": "Size-2",
    "model_hash": "Model hash",
    "model": "Model",
    "strength": "Denoising strength",
    "clip_skip": "Clip skip",
    "version": "Version",
}
_OBJECT = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


def add(router: APIRouter) -> None:
    """Adds the routes."""

    @router.post("/extra-single-image", openapi_extra=_OBJECT)
    async def single(asked: Asked) -> dict:
        """A picture, enlarged."""
        values = await read_body(asked)
        image = await run_in_threadpool(_enlarged, values, values.get("image"))
        return {"html_info": "", "image": image}

    @router.post("/extra-batch-images", openapi_extra=_OBJECT)
    async def batch(asked: Asked) -> dict:
        """Pictures, enlarged."""
        values = await read_body(asked)
        given = values.get("imageList")
        most = BOUNDS["server_pictures"].most
        if not isinstance(given, list) or not 0 < len(given) <= most:
            raise Refused(
                422,
                f"`imageList` must be a list of 1 to {most} pictures.",
                "imageList",
            )
        found = []
        for each in given:
            data = each.get("data") if isinstance(each, Mapping) else None
            found.append(await run_in_threadpool(_enlarged, values, data))
        return {"html_info": "", "images": found}

    @router.post("/png-info", openapi_extra=_OBJECT)
    async def png_info(asked: Asked) -> dict:
        """What a picture says of how it was made."""
        values = await read_body(asked)
        return await run_in_threadpool(_info, values)


def _enlarged(values: Mapping, given) -> str:
    fields = {}
    with refusing():
        for name, kind in _FIELDS.items():
            if values.get(name) is not None:
                fields[name] = kind.check(values[name], name)
    for name in _OFF:
        if values.get(name):
            raise Refused(422, f"`{name}` must be 0: there are no such networks.", name)
    image = web_ui_pictures.plain(from_base64(given, "image"))
    if fields.get("resize_mode", 0) == 0:
        scale = fields.get("upscaling_resize", 2.0)
        size = max(1, int(image.height * scale)), max(1, int(image.width * scale))
        mode = web_ui_pictures.JUST
    else:
        size = (
            fields.get("upscaling_resize_h", 512),
            fields.get("upscaling_resize_w", 512),
        )
        mode = web_ui_pictures.JUST
        if fields.get("upscaling_crop", True):
            mode = web_ui_pictures.CROP
        elif size[0] / image.height != size[1] / image.width:
            scale = min(size[0] / image.height, size[1] / image.width)
            size = round(image.height * scale), round(image.width * scale)
    check_pixels(*size, "upscaling_resize")
    first = web_ui_pictures.enlarged(image, values.get("upscaler_1"), size, mode)
    share = fields.get("extras_upscaler_2_visibility", 0.0)
    if share:
        second = values.get("upscaler_2")
        second = web_ui_pictures.enlarged(image, second, size, mode)
        if second.size != first.size:
            raise Refused(
                422,
                "`upscaler_2` must enlarge where `upscaler_1` does, and only there. "
                f"Received: pictures of {first.width}x{first.height} and "
                f"{second.width}x{second.height}",
                "upscaler_2",
            )
        first = ImageChops.blend(first, second, share)
    return to_base64(encoded(np.asarray(first)))


def _info(values: Mapping) -> dict:
    image = from_base64(values.get("image"), "image", keep=True)
    with refusing():
        texts = texts_of(image)
        said = texts.get("parameters") or texts.get("UserComment") or ""
        found = parse_parameters(said) if said else {}
    named = {_LABELS.get(name, name): str(value) for name, value in found.items()}
    return {"info": said, "items": texts, "parameters": named}
