"""The page: what stands where, and what happens when it is opened."""

from __future__ import annotations

import gradio as gr

from kerasdiffusion.apps.page import (
    beginnings,
    beside,
    grids,
    looking_back,
    results,
    what,
)
from kerasdiffusion.apps.page.handed import Handed
from kerasdiffusion.apps.page.page import Page
from kerasdiffusion.apps.server.core import Core

_DARK = "() => document.querySelector('body').classList.toggle('dark')"
#: Seconds between looks for files of the page that are old, and how old they are then.
_CACHE = (3600, 86400)


def build(core: Core, handed: Handed) -> gr.Blocks:
    """The page as Gradio's blocks.

    Args:
        core: The server's parts.
        handed: Where files for browsers are.
    """
    page = Page(core, handed)
    with gr.Blocks(
        title="kerasdiffusion",
        analytics_enabled=False,
        delete_cache=_CACHE,
        fill_width=True,
    ) as blocks:
        page.browser.render()
        page.presets.render()
        with gr.Tabs(selected="paint") as page.tabs:
            with gr.Tab("Paint", id="paint"):
                _paint(page)
            with gr.Tab("History", id="history", elem_id="kd-history") as history:
                looking_back.past(page)
        what.count(page)
        what.wire(page)
        beginnings.wire(page)
        beside.wire(page)
        results.wire(page)
        grids.wire(page)
        looking_back.wire(page)
        _open(page, blocks, history)
    blocks.queue(default_concurrency_limit=None)
    return blocks


def _paint(page: Page) -> None:
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            what.prompts(page)
            results.buttons(page)
            beginnings.tasks(page)
            beginnings.pictures(page)
            what.measures(page)
            with gr.Accordion("Model and settings", open=False, elem_id="kd-more"):
                beside.models(page)
                beside.settings(page)
            with gr.Accordion("Adapters (LoRA)", open=False, elem_id="kd-adapters"):
                beside.adapters(page)
            with gr.Accordion(
                "A picture to follow (ControlNet)", open=False, elem_id="kd-controls"
            ):
                beside.control(page)
            with gr.Accordion("X/Y/Z grid", open=False, elem_id="kd-grid"):
                grids.axes(page)
        with gr.Column(scale=6, min_width=320):
            results.gallery(page)
            looking_back.dropping(page)
            with gr.Accordion("Presets", open=False, elem_id="kd-kept"):
                looking_back.presets(page)
            with gr.Row():
                dark = gr.Button("Light or dark", size="sm", elem_id="kd-dark")
            gr.Markdown(beside.MISSING, elem_classes="kd-quiet")
    dark.click(None, None, None, js=_DARK)


def _open(page: Page, blocks: gr.Blocks, history: gr.Tab) -> None:
    """What happens when a tab is opened, chosen or closed."""
    config = page.config(None).generation

    async def opened(request: gr.Request, browser: str, presets: dict):
        browser = browser or page.new_browser()
        session = page.session(request, browser)
        hints = [
            gr.update(placeholder=f"{value:g}, {what.sizes.OWN}")
            for value in (config.num_steps, config.guidance_scale)
        ]
        names = gr.update(choices=list(presets or {}))
        rest = (browser, names, *hints)
        if not session.jobs:
            yield *rest, "", gr.skip()
            return
        # It was loaded anew while something was painted for it.
        jobs = list(session.jobs)
        async for told in page.painting.follow(session, jobs):
            yield *rest, told, gr.skip()
        async for told in results.finished(page, session, jobs):
            yield *rest, *told

    blocks.load(
        opened,
        [page.browser, page.presets],
        [
            page.browser,
            page.preset_names,
            page.widgets["num_steps"],
            page.widgets["unconditional_guidance_scale"],
            page.now,
            page.gallery,
        ],
        show_progress="hidden",
        api_visibility="private",
    )
    look, outputs = page.look_back
    history.select(
        look,
        page.browser,
        outputs,
        show_progress="hidden",
        api_visibility="private",
    )

    def closed(request: gr.Request):
        page.sessions.leave(str(request.session_hash))

    blocks.unload(closed)
