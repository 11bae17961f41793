"""The server's own API: jobs, of a request as `Request` has it in JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi import Request as Asked
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from kerasdiffusion.apps.server.core import Core, Watching, read_body
from kerasdiffusion.apps.server.desk import refusing, seconds
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import encoded, to_base64
from kerasdiffusion.apps.server.work import QUEUED, RUNNING, Job
from kerasdiffusion.requests.kinds import Whole
from kerasdiffusion.requests.request import Request
from kerasdiffusion.requests.subject import LARGEST
from kerasdiffusion.storage.bounds import shown

#: What a job says beside its request.
BESIDE = ("model", "width", "height")
#: What is not kept of a request: pictures and arrays that were given.
_LARGE = (
    *("image", "mask", "depth", "control"),
    *("encoded_text", "pooled_text", "diffusion_noise"),
)
#: Seconds between events of one job, at least, and at most.
_SOONEST, _LATEST = 0.1, 15.0


def schema() -> dict:
    """The JSON schema of what `POST /jobs` takes."""
    found = Request.schema()
    found.pop("$schema")
    side = {"type": "integer", "minimum": 8, "maximum": LARGEST, "multipleOf": 8}
    for each in found["oneOf"]:
        each["properties"] |= {
            "model": {"type": "string", "description": "One that the server has."},
            "width": side,
            "height": side,
        }
    return found


def read_job(values: dict) -> tuple[Request, str | None, tuple[int, int] | None]:
    """A request, a model's name and a size, of the JSON of a job.

    Raises:
        Refused: If it is none.
    """
    values = dict(values)
    model, width, height = (values.pop(name, None) for name in BESIDE)
    if model is not None and not isinstance(model, str):
        raise Refused(422, f"`model` must be a string. Received: {shown(model)}")
    with refusing():
        request = Request.from_json(values, files=False)
        if width is None and height is None:
            return request, model, None
        sides = [
            Whole(8, LARGEST).check(side, name)
            for side, name in ((height, "height"), (width, "width"))
        ]
    whole = request.task != "outpaint" and request.padding is None
    if request.image is not None and whole:
        rule = "`width` must be left out where a picture is painted over as a whole."
        raise Refused(422, rule, "width")
    return request, model, (sides[0], sides[1])


def told(core: Core, job: Job) -> dict:
    """What is said of a job that is in memory."""
    found = {
        "id": job.id,
        "state": job.state,
        "task": job.request.task,
        "model": job.model,
        "created": job.created,
        "progress": round(job.progress, 4),
        "step": int(job.step),
        "steps": job.steps,
    }
    if job.state == QUEUED:
        found["position"] = core.queue.position(job)
    if job.state in (QUEUED, RUNNING):
        found["seconds_left"] = seconds(core.queue.seconds_left(job))
    if job.error is not None:
        found["error"] = {"status": job.error[0], "message": job.error[1]}
    if job.has_ended:
        found["ended"] = job.ended
        found["pictures"] = _links(job.id, len(job.pictures))
    return found


def record(core: Core, job: Job) -> tuple[dict, list[bytes]]:
    """What is kept of a job: all that is said of it, and its pictures."""
    found = told(core, job) | {"client": list(job.client)}
    texts = core.desk.described(job) if job.pictures else []
    pairs = zip(job.pictures, texts, strict=True)
    contents = [encoded(picture, text or None) for picture, text in pairs]
    values = job.request.to_values()
    found["request"] = {k: x for k, x in values.items() if k not in _LARGE}
    found["parameters"] = texts
    return found, contents


def routes(core: Core) -> APIRouter:
    """The routes of `/jobs`."""
    router = APIRouter(tags=["jobs"])

    @router.post(
        "/jobs",
        status_code=202,
        summary="Ask for pictures",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schema()}},
            }
        },
    )
    async def post(asked: Asked) -> JSONResponse:
        """Takes a request in; its job is painted when its turn comes."""
        values = await read_body(asked)

        def take() -> Job:
            request, model, size = read_job(values)
            job = core.desk.hand_in(request, core.client(asked), model, size)
            core.keep(job, lambda job: record(core, job))
            return job

        with core.queue.expecting():
            job = await run_in_threadpool(take)
        where = {"Location": f"/jobs/{job.id}"}
        return JSONResponse(told(core, job), 202, where)

    @router.get("/jobs", summary="What this client has asked for")
    async def every(asked: Asked) -> dict:
        """The client's jobs, the oldest first; of earlier servers too."""
        client = core.client(asked)
        kept = core.kept.all() if core.kept else []
        found = [_short(each) for each in kept if each["client"] == list(client)]
        own = [job for job in list(core.jobs.values()) if job.client == client]
        names = {each["id"] for each in found}
        return {"jobs": found + [told(core, x) for x in own if x.id not in names]}

    @router.get("/jobs/{id}", summary="How far a job is")
    async def get(id: str) -> dict:
        """State, step, position in the queue, time left; in the end its pictures."""
        return _told_of(core, id)

    @router.get("/jobs/{id}/pictures/{number}", summary="A picture of a job")
    async def picture(id: str, number: int) -> Response:
        """A PNG, with the parameters that made it."""
        job = core.jobs.get(id)
        if job is not None and job.has_ended and 0 <= number < len(job.pictures):
            content = await run_in_threadpool(_encoded, core, job, number)
            return Response(content, media_type="image/png")
        path = None
        if core.kept and job is None and 0 <= number < 10**6:
            path = core.kept.picture(id, number)
        if path is None:
            raise Refused(404, "There must be such a picture, of a job that is done.")
        return FileResponse(path, media_type="image/png")

    @router.get("/jobs/{id}/events", summary="How a job goes, as it goes")
    async def events(id: str, preview: bool = True) -> Response:
        """Server-sent events: `progress`, with a preview, and how it ended."""
        job = core.jobs.get(id)
        if job is None:
            found = _told_of(core, id)
            return Response(_event(found["state"], found), media_type=_EVENTS)
        return StreamingResponse(_events(core, job, preview), media_type=_EVENTS)

    @router.delete("/jobs/{id}", summary="Cancel or forget a job")
    async def delete(id: str) -> dict:
        """Stops a job within a step; one that has ended is forgotten."""
        job = core.jobs.get(id)
        if job is not None and not job.has_ended:
            core.queue.cancel(job)
            return told(core, job)
        found = _told_of(core, id)
        core.jobs.pop(id, None)
        if core.kept is not None:
            await run_in_threadpool(core.kept.drop, id)
        return found

    return router


_EVENTS = "text/event-stream"


async def _events(core: Core, job: Job, preview: bool) -> AsyncIterator[str]:
    async with Watching(job) as changes:
        while not job.has_ended:
            found = told(core, job)
            look = await run_in_threadpool(_preview, job) if preview else None
            if look is not None:
                found["preview"] = look
            yield _event("progress", found)
            await asyncio.sleep(_SOONEST)
            if not job.has_ended and not await changes.next(_LATEST):
                yield ": still there\n\n"
    yield _event(job.state, told(core, job))


def _preview(job: Job) -> str | None:
    picture = job.preview()
    if picture is None:
        return None
    return f"data:image/png;base64,{to_base64(encoded(picture))}"


def _event(name: str, values: dict) -> str:
    return f"event: {name}\ndata: {json.dumps(values, ensure_ascii=False)}\n\n"


def _encoded(core: Core, job: Job, number: int) -> bytes:
    return encoded(job.pictures[number], core.desk.described(job)[number] or None)


def _told_of(core: Core, id: str) -> dict:
    job = core.jobs.get(id)
    if job is not None:
        return told(core, job)
    kept = core.kept.get(id) if core.kept else None
    if kept is None:
        raise Refused(404, "There must be such a job; results are kept for a while.")
    return {name: value for name, value in kept.items() if name != "client"}


def _short(kept: dict) -> dict:
    left = ("client", "request", "parameters")
    return {name: value for name, value in kept.items() if name not in left}


def _links(id: str, count: int) -> list[str]:
    return [f"/jobs/{id}/pictures/{number}" for number in range(count)]
