"""AUTOMATIC1111's `/sdapi/v1`: painting, progress, options, lists.

Reference:
    `modules/api/api.py` of AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from fastapi import APIRouter
from fastapi import Request as Asked
from starlette.concurrency import run_in_threadpool

from kerasdiffusion.apps.server import styles as words
from kerasdiffusion.apps.server import (
    web_ui_control,
    web_ui_extras,
    web_ui_fields,
    web_ui_lists,
    web_ui_pictures,
)
from kerasdiffusion.apps.server.core import Core, read_body
from kerasdiffusion.apps.server.desk import refusing
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import (
    encoded,
    from_base64,
    to_base64,
)
from kerasdiffusion.apps.server.web_ui_answers import (
    answer,
    painted_of,
    stamp,
)
from kerasdiffusion.apps.server.web_ui_fields import Asking
from kerasdiffusion.apps.server.web_ui_options import Options
from kerasdiffusion.apps.server.work import Client, Job
from kerasdiffusion.requests.request import Request

API = "sdapi"
#: What is asked for, described as OpenAPI has it: an object, whose fields are tables.
_KINDS = web_ui_fields.TAKEN, web_ui_fields.OF_HIRES, web_ui_fields.OF_IMAGES


def _body(of_images: bool) -> dict:
    """What OpenAPI says of a call's body."""
    kinds = _KINDS[0] | (_KINDS[2] if of_images else _KINDS[1])
    fields = {
        name: {"anyOf": [kind.schema, {"type": "null"}]} for name, kind in kinds.items()
    }
    text = {"type": "string", "description": "A picture in base64."}
    fields["styles"] = {"anyOf": [words.SCHEMA, {"type": "null"}]}
    if of_images:
        fields |= {"init_images": {"type": "array", "items": text}, "mask": text}
    fields |= {name: {"type": "object"} for name in web_ui_fields.APART[:2]}
    schema = {"type": "object", "properties": fields}
    return _json(schema | ({"required": ["init_images"]} if of_images else {}))


def _json(schema: dict) -> dict:
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


_OBJECT = _json({"type": "object"})


def routes(core: Core) -> APIRouter:
    """The routes of `/sdapi/v1` and of `/controlnet`."""
    router, options = (
        APIRouter(prefix="/sdapi/v1", tags=["sdapi"]),
        Options(core.models),
    )

    async def paint(asked: Asked, of_images: bool) -> dict:
        values = await read_body(asked)

        def take() -> tuple[Asking, Job]:
            asking = web_ui_fields.read(values, core, options, of_images)
            return asking, _hand_in(core, asking, asking.request, asked)

        with core.queue.expecting():
            asking, job = await run_in_threadpool(take)
        await core.finished(job, asked)

        def give() -> dict:
            return answer(values, asking, painted_of(core, job))

        return await run_in_threadpool(give)

    @router.post("/txt2img", openapi_extra=_body(False))
    async def txt2img(asked: Asked) -> dict:
        """Pictures of a prompt."""
        return await paint(asked, False)

    @router.post("/img2img", openapi_extra=_body(True))
    async def img2img(asked: Asked) -> dict:
        """Pictures painted over others, or a part of them."""
        return await paint(asked, True)

    @router.get("/progress")
    async def progress(asked: Asked, skip_current_image: bool = False) -> dict:
        """How far the client's own pictures are."""
        own = _own(core, core.client(asked))
        return await run_in_threadpool(_progress, core, own, not skip_current_image)

    @router.post("/interrupt")
    async def interrupt(asked: Asked) -> dict:
        """Ends what is painted for the client; it gets what there is."""
        for job in core.queue.running():
            if job.client == core.client(asked) and job.api == API:
                job.interrupted = True
        return {}

    @router.post("/skip")
    async def skip(asked: Asked) -> dict:
        """Ends the client's pictures that are being painted, as noisy as they are."""
        for job in core.queue.running():
            if job.client == core.client(asked) and job.api == API:
                job.skipped = True
        return {}

    @router.get("/options")
    async def get_options() -> dict:
        """The options that are here."""
        return options.all()

    @router.post("/options", openapi_extra=_OBJECT)
    async def set_options(asked: Asked) -> dict:
        """Sets options for all that is asked from now on."""
        values = await read_body(asked)
        await run_in_threadpool(options.set, values)
        return {}

    _add_lists(router, core)
    web_ui_extras.add(router)
    whole = APIRouter()
    whole.include_router(router)
    whole.include_router(_control(core))
    return whole


def _hand_in(core: Core, asking: Asking, request: Request, asked: Asked) -> Job:
    client = core.client(asked)
    return core.desk.hand_in(request, client, asking.model, asking.size, API)


def _own(core: Core, client: Client) -> list[Job]:
    return [job for job in core.queue.jobs() if job.client == client]


def _progress(core: Core, own: list[Job], with_picture: bool) -> dict:
    job = own[0] if own else None
    picture = job.preview() if job is not None and with_picture else None
    steps = 0 if job is None else job.steps // max(1, len(job.pieces))
    return {
        "progress": 0.0 if job is None else job.progress,
        "eta_relative": 0.0 if job is None else core.queue.seconds_left(job),
        "state": {
            "skipped": False,
            "interrupted": bool(job and job.interrupted),
            "stopping_generation": False,
            "job": "" if job is None else "task",
            "job_count": sum(len(each.pieces) for each in own),
            "job_timestamp": stamp(),
            "job_no": 0,
            "sampling_step": 0 if job is None else int(job.step) % max(1, steps),
            "sampling_steps": steps,
        },
        "current_image": None if picture is None else to_base64(encoded(picture)),
        "textinfo": None,
    }


def _add_lists(router: APIRouter, core: Core) -> None:
    """What there is, and what does nothing since it is always so."""
    models = core.models
    lists = {
        "samplers": web_ui_lists.samplers,
        "schedulers": web_ui_lists.schedulers,
        "upscalers": web_ui_lists.upscalers,
        "latent-upscale-modes": web_ui_lists.latent_modes,
        "sd-models": lambda: web_ui_lists.sd_models(models),
        "loras": lambda: web_ui_lists.loras(models),
        "prompt-styles": lambda: web_ui_lists.styles(models),
        "memory": lambda: web_ui_lists.memory(models),
        "scripts": lambda: web_ui_lists.scripts(models),
        "embeddings": lambda: {"loaded": {}, "skipped": {}},
        "cmd-flags": lambda: {"api": True, "nowebui": True},
        **{
            name: list
            for name in (
                *("sd-vae", "hypernetworks", "face-restorers", "realesrgan-models"),
                *("script-info", "extensions"),
            )
        },
    }
    for name, function in lists.items():

        def get(function=function):
            return function()

        router.add_api_route(
            f"/{name}", _named(get, name), methods=["GET"], response_model=None
        )
    for name in ("checkpoints", "vae", "loras", "embeddings"):

        def refresh() -> None:
            """Looks again: folders are looked into whenever they are asked for."""

        path = f"refresh-{name}"
        router.add_api_route(f"/{path}", _named(refresh, path), methods=["POST"])

    def unload() -> dict:
        """Gives up the weights of all models; they are read again when asked for."""
        models.unload()
        return {}

    def reload() -> dict:
        """A model is read when it is asked for: nothing is to do."""
        return {}

    for path, function in (
        ("unload-checkpoint", unload),
        ("reload-checkpoint", reload),
    ):
        router.add_api_route(f"/{path}", function, methods=["POST"])


def _named(function, name: str):
    """A function whose parameters nobody can set from outside."""

    def named():
        return function()

    named.__name__ = name.replace("-", "_")
    named.__doc__ = function.__doc__
    return named


def _control(core: Core) -> APIRouter:
    """The extension's own routes, where it has networks to follow."""
    router = APIRouter(prefix="/controlnet", tags=["controlnet"])

    @router.get("/version")
    async def version() -> dict:
        """The version of its API."""
        return {"version": web_ui_control.API_VERSION}

    @router.get("/model_list")
    async def model_list() -> dict:
        """The networks that there are."""
        return {"model_list": list(core.models.control_files())}

    @router.get("/module_list")
    async def module_list() -> dict:
        """What makes pictures to follow."""
        return web_ui_control.module_list()

    @router.get("/control_types")
    async def control_types() -> dict:
        """Which modules go with which networks."""
        return web_ui_control.control_types(core.models)

    @router.get("/settings")
    async def settings() -> dict:
        """How many units there may be."""
        return {"control_net_unit_count": web_ui_control._MOST_UNITS}

    @router.post("/detect", openapi_extra=_OBJECT)
    async def detect(asked: Asked) -> dict:
        """Pictures to follow, made of others."""
        values = await read_body(asked)
        return await run_in_threadpool(_detect, values)

    return router


def _detect(values: Mapping) -> dict:
    given = values.get("controlnet_input_images") or values.get("controlnet_images")
    if not isinstance(given, list) or not 0 < len(given) <= 16:
        raise Refused(
            422,
            "`controlnet_input_images` must be a list of pictures.",
            "controlnet_input_images",
        )
    how = {
        f"threshold_{each}": values.get(f"controlnet_threshold_{each}") for each in "ab"
    }
    module = str(values.get("controlnet_module", "none"))
    found = []
    for each in given:
        picture = web_ui_pictures.plain(from_base64(each, "controlnet_input_images"))
        with refusing():
            made = web_ui_control.prepared(picture, module, how)
        found.append(to_base64(encoded(np.asarray(made.convert("RGB")))))
    return {"images": found, "info": "Success"}
