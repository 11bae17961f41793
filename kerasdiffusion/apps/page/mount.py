"""The page in the server's own process: built, fenced and mounted."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import tempfile
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import RedirectResponse

from kerasdiffusion.apps.page.fence import Fence
from kerasdiffusion.apps.page.handed import Handed
from kerasdiffusion.apps.server.core import Core
from kerasdiffusion.apps.server.kept import Kept
from kerasdiffusion.storage.bounds import BOUNDS

PATH = "/page"
#: Gradio's own words for what must not leave the machine.
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_VIBE_MODE": "",
}


def mount(app: FastAPI, core: Core) -> None:
    """Mounts the page at `PATH`, which `/` leads to.

    Args:
        app: The server's application.
        core: Its parts; results are kept in a folder that ends with the process where
            none is named.
    """
    handed = Handed(_folder() / "handed")
    os.environ |= _QUIET | {"GRADIO_TEMP_DIR": str(handed.folder)}
    import gradio as gr

    from kerasdiffusion.apps.page.layout import build

    if core.kept is None:
        core.kept = Kept(_folder() / "kept", core.settings.keep)
    blocks = build(core, handed)

    @app.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse(f"{PATH}/")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> RedirectResponse:
        return RedirectResponse(f"{PATH}/favicon.ico")

    @app.get("/manifest.json", include_in_schema=False)
    async def manifest() -> dict:
        return {"name": "kerasdiffusion", "start_url": f"{PATH}/", "display": "browser"}

    here = files("kerasdiffusion.apps.page")
    keys = here.joinpath("keys.js").read_text("utf-8")
    gr.mount_gradio_app(
        app,
        blocks,
        PATH,
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        max_file_size=BOUNDS["server_body"].most,
        theme=gr.themes.Default(
            primary_hue="teal",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=here.joinpath("look.css").read_text("utf-8"),
        head=f"<script>{keys}</script>",
    )
    # (Else it takes a mounted page for one that is not served, and checks no paths.)
    blocks.has_launched = True
    mounted = app.router.routes[-1]
    _hang_up_at_end(app, core, mounted.app)
    mounted.app = Fence(mounted.app, handed)


def _hang_up_at_end(app: FastAPI, core: Core, mounted) -> None:
    """Has the streams end that open tabs hold: a server waits for them to the last."""
    before = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def life(app):
        loop = asyncio.get_running_loop()

        def hang_up():
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(mounted.stop_event.set)

        core.at_end.append(hang_up)
        async with before(app) as state:
            yield state

    app.router.lifespan_context = life


def _folder() -> Path:
    """A folder of this process; it goes when that ends."""
    return Path(_made().name)


@functools.cache
def _made() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="kerasdiffusion-page-")
