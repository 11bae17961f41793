"""Painting and what came of it: progress, the gallery, and where its pictures go on."""

from __future__ import annotations

import random

import gradio as gr
from starlette.concurrency import run_in_threadpool

from kerasdiffusion.apps.page.asking import LARGER
from kerasdiffusion.apps.page.beginnings import STRENGTHS
from kerasdiffusion.apps.page.page import QUIET, Page
from kerasdiffusion.apps.page.painting import problem, seed_of
from kerasdiffusion.apps.page.sessions import Session, Shown
from kerasdiffusion.apps.server.errors import Refused

#: Where a picture may go on, and what is done there.
SENT = {
    "Over it": "image_to_image",
    "A part": "inpaint",
    "Beyond it": "outpaint",
    "Larger": LARGER,
}
#: How far a variation goes.
VARIED = 0.3


def buttons(page: Page) -> None:
    """Paint and cancel."""
    with gr.Row(elem_id="kd-buttons"):
        page.paint = gr.Button(
            "Paint  (Ctrl+Enter)", variant="primary", scale=3, elem_id="kd-paint"
        )
        page.cancel = gr.Button("Cancel", scale=1, elem_id="kd-cancel", min_width=80)


def gallery(page: Page) -> None:
    """How it goes, and the pictures that there are."""
    page.now = gr.HTML(elem_id="kd-now")
    page.gallery = gr.Gallery(
        label="Pictures",
        format="png",
        columns=3,
        object_fit="contain",
        height=520,
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id="kd-gallery",
    )
    page.send = {}
    with gr.Row(elem_classes="kd-send"):
        for label in SENT:
            name = label.lower().replace(" ", "-")
            page.send[label] = gr.Button(label, size="sm", elem_id=f"kd-send-{name}")
        page.vary = gr.Button("Vary", size="sm", elem_id="kd-vary")
        page.again = gr.Button("Its settings", size="sm", elem_id="kd-again")


def wire(page: Page) -> None:
    """What buttons do."""
    seed = page.widgets["seed"]
    outputs = [page.now, page.gallery, seed]

    async def paint(request: gr.Request, browser, keep, *args):
        session, values = page.session(request, browser), page.values(args)
        async for told in run(page, session, values, keep):
            yield told

    page.paint.click(
        paint,
        [page.browser, page.keep_seed, *page.widgets.values()],
        outputs,
        trigger_mode="multiple",
        concurrency_limit=None,
        **QUIET,
    )

    async def vary(request: gr.Request, browser, *args):
        session, values = page.session(request, browser), page.values(args)
        if session.shown:
            values |= varied(chosen(session))
        async for told in run(page, session, values, False):
            yield told

    page.vary.click(
        vary,
        page.inputs,
        outputs,
        trigger_mode="multiple",
        concurrency_limit=None,
        **QUIET,
    )

    def cancel(request: gr.Request, browser):
        session = page.session(request, browser)
        page.sessions.cancel(list(session.jobs))

    page.cancel.click(cancel, page.browser, None, **QUIET)

    def choose(request: gr.Request, event: gr.SelectData, browser):
        page.session(request, browser).chosen = int(event.index)

    page.gallery.select(choose, page.browser, None, **QUIET)

    def reuse(request: gr.Request, browser):
        session = page.session(request, browser)
        if not session.shown:
            return gr.skip(), gr.skip()
        return str(chosen(session).text["seed"]), True

    page.reuse.click(reuse, page.browser, [seed, page.keep_seed], **QUIET)
    for label, button in page.send.items():

        def send(request: gr.Request, browser, task=SENT[label]):
            session = page.session(request, browser)
            return sent(page, chosen(session), task)

        button.click(send, page.browser, sending(page), **QUIET)


def sending(page: Page) -> list:
    """The widgets that a picture goes to."""
    names = ("task", "picture", "width", "height", "strength", "fit")
    return [page.widgets[name] for name in names]


def sent(page: Page, shown: Shown | None, task: str) -> list:
    """What sets these to a picture and what is done with it."""
    if shown is None:
        gr.Info("There is no picture yet.")
        return [gr.skip()] * 6
    file = page.handed.picture(shown.path, shown.text)
    height, width = shown.size
    return [task, file, width, height, STRENGTHS.get(task, 0.8), "cut to the size"]


def chosen(session: Session) -> Shown | None:
    """The picture that is chosen in a tab's gallery."""
    if not session.shown:
        return None
    return session.shown[min(session.chosen, len(session.shown) - 1)]


def varied(shown: Shown) -> dict:
    """Values that paint a picture like another."""
    return {
        "seed": str(shown.text["seed"]),
        "variation_seed": str(random.randrange(2**32)),
        "variation_strength": VARIED,
    }


async def run(page: Page, session: Session, values: dict, keep: bool):
    """Paints for a tab: progress, then its gallery and seed."""
    painting = page.painting
    try:
        job = await run_in_threadpool(painting.ask, session, values)
    except Refused as error:
        yield problem([error.message]), gr.skip(), gr.skip()
        return
    async for told in painting.follow(session, [job]):
        yield told, gr.skip(), gr.skip()
    seed = seed_of(job) if keep else gr.skip()
    async for told in finished(page, session, [job]):
        yield *told, seed


async def finished(page: Page, session: Session, jobs: list):
    """What came of jobs: what is left to say, and the gallery."""
    problems = await page.painting.finish(session, jobs)
    try:
        shown = shown_in(page, session)
    except Refused as error:
        problems, shown = [*problems, error.message], gr.skip()
    yield page.painting.told(session) or problem(problems), shown


def shown_in(page: Page, session: Session):
    """A tab's gallery, the latest picture first and large."""
    pictures = page.painting.gallery(session.shown)
    return gr.update(value=pictures, selected_index=0 if pictures else None)
