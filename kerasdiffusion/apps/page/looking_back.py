"""History, dropped pictures and presets: settings that come back."""

from __future__ import annotations

import gradio as gr
from starlette.concurrency import run_in_threadpool

from kerasdiffusion.apps.page import history
from kerasdiffusion.apps.page.page import FILES, QUIET, Page
from kerasdiffusion.apps.page.painting import problem
from kerasdiffusion.apps.page.restore import settings_of
from kerasdiffusion.apps.page.results import SENT, sending, sent
from kerasdiffusion.apps.page.results import chosen as chosen_of
from kerasdiffusion.apps.server.errors import Refused

#: Presets that a browser keeps.
MOST_PRESETS = 100


def dropping(page: Page) -> None:
    """Where a picture is dropped whose settings shall come back."""
    page.dropped = gr.File(
        label="Drop a picture here: its settings come back",
        file_types=["image"],
        height=110,
        elem_id="kd-drop",
    )
    page.restored = gr.Markdown(elem_classes="kd-quiet", elem_id="kd-restored")


def presets(page: Page) -> None:
    """Settings under names, kept by the browser."""
    with gr.Row():
        page.preset_names = gr.Dropdown(
            [], label="Presets", value=None, scale=2, elem_id="kd-presets"
        )
        page.preset_take = gr.Button("Take", size="sm", min_width=60, elem_id="kd-take")
        page.preset_drop = gr.Button("Drop", size="sm", min_width=60)
    with gr.Row():
        page.preset_name = gr.Textbox(
            label="Keep these settings as", scale=2, elem_id="kd-preset-name"
        )
        page.preset_keep = gr.Button("Keep", size="sm", min_width=60, elem_id="kd-keep")


def past(page: Page) -> None:
    """What this browser has had painted."""
    page.past = gr.Gallery(
        label="What this browser has had painted, the latest first",
        format="png",
        columns=6,
        object_fit="contain",
        height=420,
        allow_preview=True,
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id="kd-past",
    )
    page.past_text = gr.Textbox(
        label="How it was made", lines=3, interactive=False, elem_id="kd-past-text"
    )
    page.past_send = {}
    with gr.Row(elem_classes="kd-send"):
        page.past_take = gr.Button("Its settings", size="sm", elem_id="kd-past-take")
        for label in SENT:
            page.past_send[label] = gr.Button(label, size="sm")
        page.past_drop = gr.Button("Forget it", size="sm", elem_id="kd-forget")
        page.past_more = gr.Button("Older ones", size="sm")
        page.past_look = gr.Button("Look again", size="sm", elem_id="kd-past-look")


def wire(page: Page) -> None:
    """What these do."""
    everything = page.settable

    async def taken(file: str | None):
        if not file:
            return [gr.skip()] * (len(everything) + 1)
        return await _settings(page, file)

    page.dropped.upload(
        taken, page.dropped, [*everything, page.restored], api_visibility="private"
    )

    async def again(request: gr.Request, browser):
        shown = chosen_of(page.session(request, browser))
        if shown is None:
            return [gr.skip()] * (len(everything) + 1)
        return await _settings(page, str(shown.path))

    page.again.click(again, page.browser, [*everything, page.restored], **QUIET)
    _wire_past(page, everything)
    _wire_presets(page, everything)


async def _settings(page: Page, file: str) -> list:
    """What sets the widgets to a picture's settings, and what is to say of it."""
    try:
        values, remarks = await run_in_threadpool(settings_of, file, page.models)
    except Refused as error:
        return [*[gr.skip()] * len(page.settable), problem([error.message])]
    lines = ["Its settings are here.", *remarks]
    return [*page.updates(values), "  \n".join(lines)]


def _wire_past(page: Page, everything: list) -> None:
    async def look(request: gr.Request, browser, after: int = 0):
        session = page.session(request, browser)
        found = await run_in_threadpool(history.past, page.painting, session, after)
        session.past, session.picked = found, 0
        return page.painting.gallery(found), ""

    async def older(request: gr.Request, browser):
        session = page.session(request, browser)
        seen = session.seen + len(session.past)
        session.seen = seen if session.past else 0
        return await look(request, browser, session.seen)

    async def newest(request: gr.Request, browser):
        page.session(request, browser).seen = 0
        return await look(request, browser)

    outputs = [page.past, page.past_text]
    page.look_back = newest, outputs
    page.past_look.click(newest, page.browser, outputs, **QUIET)
    page.past_more.click(older, page.browser, outputs, **QUIET)

    def pick(request: gr.Request, event: gr.SelectData, browser):
        session = page.session(request, browser)
        session.picked = int(event.index)
        there = session.picked < len(session.past)
        return history.said(session.past[session.picked]) if there else ""

    page.past.select(pick, page.browser, page.past_text, **QUIET)

    def picked(request, browser):
        session = page.session(request, browser)
        there = session.picked < len(session.past)
        return session.past[session.picked] if there else None

    async def take(request: gr.Request, browser):
        shown = picked(request, browser)
        if shown is None:
            return [gr.skip()] * (len(everything) + 2)
        return [*await _settings(page, str(shown.path)), gr.update(selected="paint")]

    page.past_take.click(
        take, page.browser, [*everything, page.restored, page.tabs], **QUIET
    )
    for label, button in page.past_send.items():

        def send(request: gr.Request, browser, task=SENT[label]):
            found = sent(page, picked(request, browser), task)
            return [*found, gr.update(selected="paint")]

        button.click(send, page.browser, [*sending(page), page.tabs], **QUIET)

    async def drop(request: gr.Request, browser):
        shown = picked(request, browser)
        if shown is not None:
            await run_in_threadpool(history.forget, page.painting, shown)
        return await newest(request, browser)

    page.past_drop.click(drop, page.browser, outputs, **QUIET)


def _wire_presets(page: Page, settable: list) -> None:
    names = [name for name in page.widgets if name not in FILES]

    def keep(name: str, presets: dict, *args):
        name = (name or "").strip()[:60]
        if not name:
            gr.Info("A preset must have a name.")
            return gr.skip(), gr.skip()
        own = dict(zip(names, args, strict=True))
        presets = {**(presets or {}), name: own}
        presets = dict(list(presets.items())[-MOST_PRESETS:])
        return presets, gr.update(choices=list(presets), value=name)

    there = [page.presets, page.preset_names]
    page.preset_keep.click(
        keep, [page.preset_name, page.presets, *settable], there, **QUIET
    )

    def take(name: str, presets: dict):
        found = (presets or {}).get(name) or {}
        return [
            gr.update(value=found[each]) if each in found else gr.skip()
            for each in names
        ]

    page.preset_take.click(take, [page.preset_names, page.presets], settable, **QUIET)

    def drop(name: str, presets: dict):
        left = {each: x for each, x in (presets or {}).items() if each != name}
        return left, gr.update(choices=list(left), value=None)

    page.preset_drop.click(drop, [page.preset_names, page.presets], there, **QUIET)
