"""X/Y/Z grids on the page: axes, and their pictures by the same queue."""

from __future__ import annotations

import random

import gradio as gr
from starlette.concurrency import run_in_threadpool

from kerasdiffusion.apps.page import grid, widgets
from kerasdiffusion.apps.page.page import Page
from kerasdiffusion.apps.page.painting import problem
from kerasdiffusion.apps.page.results import finished, shown_in
from kerasdiffusion.apps.page.sessions import Session
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import encoded
from kerasdiffusion.apps.server.work import DONE, Job
from kerasdiffusion.requests.batches import GRID


def axes(page: Page) -> None:
    """What goes along x, y and z."""
    page.axes = []
    names = list(grid.AXES)
    first = {"x": widgets.label_of("seed")}
    for each in "xyz":
        with gr.Row():
            page.axes += [
                gr.Dropdown(
                    names,
                    value=first.get(each, grid.NONE),
                    label=each.upper(),
                    min_width=130,
                    elem_id=f"kd-axis-{each}",
                ),
                gr.Textbox(
                    label=f"Values of {each.upper()}",
                    placeholder="with commas between; 1-5 for a range",
                    scale=3,
                    elem_id=f"kd-values-{each}",
                ),
            ]
    page.paint_grid = gr.Button("Paint the grid", elem_id="kd-paint-grid")
    gr.Markdown(
        "All else is as *Paint* has it. Cells that are alike are painted together; "
        "each is kept in the history too.",
        elem_classes="kd-quiet",
    )


def wire(page: Page) -> None:
    """What the button does."""
    count = len(page.axes)

    async def paint(request: gr.Request, browser, *args):
        session = page.session(request, browser)
        told, values = args[:count], page.values(args[count:])
        async for update in run(page, session, told, values):
            yield update

    page.paint_grid.click(
        paint,
        [page.browser, *page.axes, *page.widgets.values()],
        [page.now, page.gallery],
        trigger_mode="once",
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
    )


async def run(page: Page, session: Session, told, values: dict):
    """Paints a grid for a tab: progress, then its sheet and its cells."""
    jobs: list[Job] = []
    try:
        axes, cells = read(told, values)
        with page.core.queue.expecting():
            for cell in cells:
                jobs.append(
                    await run_in_threadpool(page.painting.ask, session, cell.values)
                )
    except Refused as error:
        page.sessions.cancel(jobs)
        yield problem([error.message]), gr.skip()
        return
    async for now in page.painting.follow(session, jobs):
        yield now, gr.skip()
    if any(job.state != DONE for job in jobs):
        page.sessions.cancel(jobs)
        async for now in finished(page, session, jobs):
            yield now
        return
    pictures = [job.pictures[0] for job in jobs]
    text = page.core.desk.described(jobs[0])[0]
    async for _ in finished(page, session, jobs):
        pass
    try:
        kept = await run_in_threadpool(keep, page, session, axes, pictures, text)
        session.shown[:0] = kept
        session.chosen = 0
        yield page.painting.told(session), shown_in(page, session)
    except (OSError, Refused) as error:
        reason = getattr(error, "message", None) or error.strerror
        rule = f"The grid's sheet cannot be written: {reason}"
        yield problem([rule]), gr.skip()


def read(told, values: dict):
    """Axes and cells of what the page says; pictures that can be compared."""
    pairs = zip(told[::2], told[1::2], strict=True)
    axes = [grid.axis(name, text or "") for name, text in pairs]
    if not any(each.name for each in axes):
        raise Refused(422, "A grid must have an axis: choose what goes along X.")
    if not values.get("seed"):
        values = values | {"seed": str(random.randrange(2**32 - 2**24))}
    return axes, grid.cells(values, axes)


def keep(page: Page, session: Session, axes, pictures, text: dict) -> list:
    """Keeps the sheets of a grid as a result of their own."""
    sheets = grid.sheet(pictures, axes)
    x, y, _ = axes
    texts = [
        text
        | {
            "height": sheet.shape[0],
            "width": sheet.shape[1],
            GRID: f"{len(x.values)}x{len(y.values)}",
        }
        for sheet in sheets
    ]
    contents = [encoded(sheet, own) for sheet, own in zip(sheets, texts, strict=True)]
    record = grid.record(session.client, texts, str(text.get("model", "")), axes)
    page.core.kept.put(record, contents)
    return page.painting.shown(record)
