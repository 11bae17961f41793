"""OpenAI's images API: `/v1/images/...` and `/v1/models`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping

import numpy as np
from fastapi import APIRouter
from fastapi import Request as Asked
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response, StreamingResponse

from kerasdiffusion.apps.server import jobs, openai_fields
from kerasdiffusion.apps.server.core import Core, Watching, read_body
from kerasdiffusion.apps.server.errors import Refused, body
from kerasdiffusion.apps.server.openai_fields import Asking
from kerasdiffusion.apps.server.pictures import encoded, from_bytes, to_base64
from kerasdiffusion.apps.server.work import Job

API = "openai"
#: Pictures of one call, and other parts of its form.
_MOST_IMAGES, _MOST_FIELDS = 16, 64
_NO_TOKENS = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


def _schema(of_form: bool) -> dict:
    """What OpenAPI says of a call's body."""
    fields = {name: kind.schema for name, kind in openai_fields.TAKEN.items()}
    file = {"type": "string", "format": "binary"}
    required = ["prompt"]
    kind = "application/json"
    if of_form:
        kind = "multipart/form-data"
        fields |= {"image": file, "mask": file}
        required = ["image"]
    schema = {"type": "object", "properties": fields, "required": required}
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


def routes(core: Core) -> APIRouter:
    """The routes of `/v1`."""
    router = APIRouter(prefix="/v1", tags=["openai"])

    async def paint(asked: Asked, read, kind: str) -> Response:
        def take() -> tuple[Asking, Job]:
            asking = read()
            client = core.client(asked)
            job = core.desk.hand_in(
                asking.request, client, asking.model, asking.size, API
            )
            if asking.found.get("response_format") == "url":
                core.keep(job, lambda job: jobs.record(core, job))
            return asking, job

        with core.queue.expecting():
            asking, job = await run_in_threadpool(take)
        if asking.found.get("stream"):
            stream = _stream(core, asking, job, kind)
            return StreamingResponse(stream, media_type="text/event-stream")
        await core.finished(job, asked)
        base = str(asked.base_url).rstrip("/")
        found = await run_in_threadpool(_answer, core, asking, job, base)
        return JSONResponse(found)

    @router.post("/images/generations", openapi_extra=_schema(False))
    async def generations(asked: Asked) -> Response:
        """Pictures of a prompt; streamed with previews if asked for."""
        values = await read_body(asked)

        def read() -> Asking:
            _check_url(values)
            return openai_fields.read(values, core)

        return await paint(asked, read, "image_generation")

    @router.post("/images/edits", openapi_extra=_schema(True))
    async def edits(asked: Asked) -> Response:
        """Pictures painted over: as a whole, or where a mask is clear."""
        texts, images, mask = await _form(asked)

        def read() -> Asking:
            _check_url(texts)
            return openai_fields.read(
                texts, core, *_opened(images, mask), prompt=texts.get("prompt")
            )

        return await paint(asked, read, "image_edit")

    @router.post("/images/variations", openapi_extra=_schema(True))
    async def variations(asked: Asked) -> Response:
        """Other pictures like one."""
        texts, images, _ = await _form(asked)

        def read() -> Asking:
            _check_url(texts)
            pictures, _ = _opened(images, None)
            return openai_fields.read(texts, core, pictures, prompt="")

        return await paint(asked, read, "image_edit")

    @router.get("/models")
    async def models() -> dict:
        """The models that there are."""
        return {"object": "list", "data": [_model(x) for x in core.models.names()]}

    @router.get("/models/{name}")
    async def model(name: str) -> dict:
        """One of them."""
        return _model(core.models.find(name))

    return router


def _model(name: str) -> dict:
    return {"id": name, "object": "model", "created": 0, "owned_by": "kerasdiffusion"}


def _check_url(values: Mapping) -> None:
    """What an address leads to is a PNG."""
    kind = values.get("output_format", "png")
    if values.get("response_format") == "url" and kind not in (None, "png"):
        raise Refused(
            422, "`output_format` must be png for an address.", "output_format"
        )


async def _form(asked: Asked) -> tuple[dict, list[bytes], bytes | None]:
    """The texts, pictures and mask of a form."""
    kind = asked.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise Refused(422, "The body must be multipart/form-data.")
    texts, images, mask = {}, [], None
    async with asked.form(max_files=_MOST_IMAGES + 1, max_fields=_MOST_FIELDS) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                content = await value.read()
                if name in ("image", "image[]"):
                    images.append(content)
                elif name == "mask":
                    mask = content
                else:
                    raise Refused(422, "A file must be `image` or `mask`.", name[:100])
            elif name in texts:
                raise Refused(422, f"`{name[:100]}` must be given once.", name[:100])
            elif value or name == "prompt":
                texts[name] = value
    if not images:
        raise Refused(422, "`image` must be given, as a file.", "image")
    return openai_fields.formed(texts), images, mask


def _opened(images: list[bytes], mask: bytes | None) -> tuple[list, object]:
    opened = [from_bytes(each, "image") for each in images]
    return opened, None if mask is None else from_bytes(mask, "mask")


def _answer(core: Core, asking: Asking, job: Job, base: str) -> dict:
    if asking.found.get("response_format") == "url":
        count = len(job.pictures)
        data = [{"url": f"{base}/jobs/{job.id}/pictures/{i}"} for i in range(count)]
    else:
        data = [{"b64_json": each} for each in _encoded(core, asking, job)]
    return {"created": int(time.time()), "data": data, **_described(asking, job)}


def _encoded(core: Core, asking: Asking, job: Job) -> list[str]:
    """The pictures in base64, in the format that is asked for."""
    quality = asking.found.get("output_compression", 100)
    texts = core.desk.described(job)
    return [
        to_base64(encoded(picture, text, asking.kind, quality))
        for picture, text in zip(job.pictures, texts, strict=True)
    ]


def _described(asking: Asking, job: Job) -> dict:
    pictures = job.pictures
    height, width = pictures[0].shape[:2] if pictures else (0, 0)
    return {
        "background": "opaque",
        "output_format": asking.kind,
        "quality": asking.found.get("quality", "auto"),
        "size": f"{width}x{height}",
        "usage": _NO_TOKENS,
    }


async def _stream(core: Core, asking: Asking, job: Job, kind: str) -> AsyncIterator:
    """Previews at even shares of the steps, then each picture."""
    count = asking.found.get("partial_images", 0)
    shares = [(i + 1) / (count + 1) for i in range(count)]
    shown = 0
    try:
        async with Watching(job) as changes:
            while not job.has_ended:
                if not await changes.next(10.0):
                    yield ": still there\n\n"
                if shown < count and job.progress >= shares[shown]:
                    look = await run_in_threadpool(_look, asking, job)
                    if look is None:
                        continue
                    values = {"b64_json": look, "partial_image_index": shown}
                    yield _event(f"{kind}.partial_image", values, asking, job)
                    shown += 1
        if job.error is not None:
            told = json.dumps(body("/v1/", Refused(*job.error)))
            yield f"event: error\ndata: {told}\n\n"
            return
        for each in await run_in_threadpool(_encoded, core, asking, job):
            yield _event(f"{kind}.completed", {"b64_json": each}, asking, job)
    finally:
        with contextlib.suppress(RuntimeError):
            if not job.has_ended:  # the client has left
                core.queue.cancel(job)


def _event(name: str, values: Mapping, asking: Asking, job: Job) -> str:
    told = {"type": name, "created_at": int(time.time()), **_described(asking, job)}
    return f"event: {name}\ndata: {json.dumps(told | dict(values))}\n\n"


def _look(asking: Asking, job: Job) -> str | None:
    """A preview, of at least eight times as many pixels a side as there are latents."""
    picture = job.preview()
    if picture is None:
        return None
    image = Image.fromarray(picture)
    if max(image.size) < 256:
        image = image.resize([8 * side for side in image.size])
    return to_base64(encoded(np.asarray(image), None, asking.kind))
