"""The application: routes behind guards, and the painter's life."""

from __future__ import annotations

import contextlib
import logging

from fastapi import FastAPI
from fastapi import Request as Asked
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from kerasdiffusion._version import __version__
from kerasdiffusion.apps.server import jobs, openai, web_ui
from kerasdiffusion.apps.server.core import Core, Gone, Settings
from kerasdiffusion.apps.server.errors import Refused, body
from kerasdiffusion.apps.server.guards import Guards

log = logging.getLogger("kerasdiffusion.server")

#: What a client that has left is answered, for the counts.
_GONE = 499


def create_app(settings: Settings | None = None) -> FastAPI:
    """A server as an ASGI application.

    Args:
        settings: How it is set up; the bundled model by default.

    Returns:
        A `FastAPI`, whose `state.core` is the `Core`.
    """
    settings = settings or Settings()
    core = Core(settings)

    @contextlib.asynccontextmanager
    async def life(app):
        core.start()
        yield
        await run_in_threadpool(core.stop)

    app = FastAPI(
        title="kerasdiffusion",
        version=__version__,
        description="Stable Diffusion behind one queue.",
        lifespan=life,
        redoc_url=None,
    )
    app.state.core = core
    _catch(app, core)
    _watch(app, core)
    app.include_router(jobs.routes(core))
    app.include_router(web_ui.routes(core))
    app.include_router(openai.routes(core))
    if settings.page:
        from kerasdiffusion.apps.page.mount import mount

        mount(app, core)
    else:

        @app.get("/", include_in_schema=False)
        async def front() -> RedirectResponse:
            return RedirectResponse("/docs")

    app.add_middleware(
        Guards,
        keys=settings.keys,
        users=settings.users,
        hosts=settings.hosts,
        origins=settings.origins,
        asks_people=settings.page,
    )
    return app


def _watch(app: FastAPI, core: Core) -> None:
    @app.get("/health", tags=["watch"], summary="Whether the server lives")
    async def health() -> JSONResponse:
        """200 while it takes requests, 503 when it ends."""
        if core.queue.closed or not core.painter.is_alive():
            return JSONResponse({"status": "ending"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", tags=["watch"], summary="Counts for Prometheus")
    def metrics() -> PlainTextResponse:
        """Jobs, pictures, seconds; nothing of what was asked."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return PlainTextResponse(core.metrics.text(), media_type=kind)


def _catch(app: FastAPI, core: Core) -> None:
    """Errors in the shape of the API that was asked; never where in the code."""

    def answer(asked: Asked, error: Refused) -> JSONResponse:
        status = error.status
        if status == 422 and asked.url.path.startswith("/v1/"):
            status = error.status = 400  # as OpenAI answers
        core.metrics.refused.labels(str(status)).inc()
        return JSONResponse(body(asked.url.path, error), status, error.headers)

    @app.exception_handler(Refused)
    async def refused(asked: Asked, error: Refused):
        return answer(asked, error)

    @app.exception_handler(Gone)
    async def gone(asked: Asked, error: Gone):
        return Response(status_code=_GONE)

    @app.exception_handler(RequestValidationError)
    async def invalid(asked: Asked, error: RequestValidationError):
        first = error.errors()[0]
        name = str(first["loc"][-1])[:100]
        return answer(asked, Refused(422, f"`{name}`: {first['msg']}.", name))

    @app.exception_handler(HTTPException)
    async def known(asked: Asked, error: HTTPException):
        refusal = Refused(error.status_code, str(error.detail))
        refusal.headers = dict(error.headers or {})
        return answer(asked, refusal)

    @app.exception_handler(Exception)
    async def unknown(asked: Asked, error: Exception):
        log.error("An error that was not foreseen: %s", type(error).__name__)
        log.debug("It was this", exc_info=error)
        return answer(asked, Refused(500, "Something is wrong in the server."))
