"""Pictures to begin with: painted over, in part, beyond their edges, or larger."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from kerasdiffusion.apps.page import sizes
from kerasdiffusion.apps.page.asking import FITS, LARGER, TASKS, tasks_of
from kerasdiffusion.apps.page.page import QUIET, Page
from kerasdiffusion.apps.page.widgets import widget
from kerasdiffusion.apps.server.pictures import from_bytes
from kerasdiffusion.pictures.formats import open_image
from kerasdiffusion.pictures.read import size_of
from kerasdiffusion.requests.fields import OF_PICTURES
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.requests.text import SIDES

#: How much is painted anew where nobody has said.
STRENGTHS = {LARGER: 0.35} | {
    task: FIELDS["strength"].default_for(task)
    for task in TASKS
    if task in FIELDS["strength"].asked.tasks
}
#: A quarter of the width more; in the browser, so that it is there at once.
_MORE = (
    "(pixels, width) => "
    "(pixels || 0) + Math.max(8, Math.floor((width || 512) / 32) * 8)"
)
#: Drawings that wait for being painted at most, of all browsers.
_DRAWINGS = 64
#: How many brushes go side by side into the model's pictures.
_BRUSHES = 16
_ARROWS = {"top": "▲", "left": "◀", "right": "▶", "bottom": "▼"}


def tasks(page: Page) -> None:
    """What there is to do with the model."""
    own = tasks_of(page.config(None))
    page.add(
        "task",
        gr.Radio(
            [(TASKS[task], task) for task in own],
            value=own[0],
            label="What to do",
            elem_id="kd-task",
        ),
    )


def pictures(page: Page) -> None:
    """The picture, how it comes to the size, and what each task asks beside it."""
    with gr.Column(visible=False) as page.with_picture:
        page.add(
            "picture",
            gr.Image(
                type="filepath",
                image_mode=None,
                format="png",
                label="Picture to begin with",
                sources=["upload", "clipboard"],
                buttons=["fullscreen"],
                height=260,
                elem_id="kd-picture",
            ),
        )
        with gr.Row():
            page.add(
                "fit",
                gr.Dropdown(list(FITS), value=next(iter(FITS)), label="It is"),
            )
            page.add(
                "strength",
                widget("strength", value=0.8, info=None, elem_id="kd-strength"),
            )
    _inpainting(page)
    _outpainting(page)
    with gr.Column(visible=False) as page.with_times:
        page.add(
            "times",
            gr.Slider(1.0, 4.0, 2.0, step=0.25, label="Times as many pixels a side"),
        )
        gr.Markdown(
            "Enlarged by Lanczos, then painted over: there are no upscaling networks.",
            elem_classes="kd-quiet",
        )
    with gr.Column(visible=False) as page.with_depth:
        page.add(
            "depth_file",
            gr.Image(
                type="filepath",
                image_mode=None,
                label="Map of depths, near in white",
                sources=["upload"],
                height=200,
            ),
        )
    with gr.Column(visible=False) as page.with_told:
        page.add("image_guidance_scale", widget("image_guidance_scale", maximum=5.0))
        page.add("noise_level", widget("noise_level", maximum=350))


def _inpainting(page: Page) -> None:
    brush = max(2, page.config(None).generation.width // _BRUSHES)
    with gr.Column(visible=False) as page.with_mask:
        editor = gr.ImageEditor(
            type="pil",
            image_mode="RGBA",
            format="png",
            sources=(),
            transforms=(),
            layers=False,
            brush=gr.Brush(
                default_size=brush,
                colors=[("rgb(255, 45, 45)", 0.75)],
                default_color=("rgb(255, 45, 45)", 0.75),
                color_mode="fixed",
            ),
            eraser=gr.Eraser(default_size=brush),
            label="Draw over what shall be painted anew",
            buttons=["fullscreen"],
            height=420,
            elem_id="kd-editor",
        )
        # (A drawing is unpacked within the server's bounds.)
        editor.convert_and_format_image = _unpacked
        editor.blob_storage = _Latest()
        page.add("editor", editor)
        with gr.Accordion("More of the mask", open=False):
            page.add("invert", gr.Checkbox(False, label="Paint all but what is drawn"))
            page.add("feather", widget("feather", maximum=128))
            page.add("padding", widget("padding"))
            page.add(
                "mask_file",
                gr.Image(
                    type="filepath",
                    image_mode=None,
                    label="A mask, white where it is painted",
                    sources=["upload"],
                    height=180,
                ),
            )


class _Latest(dict):
    """Drawings that browsers have sent and not asked to be painted: the latest."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        while len(self) > _DRAWINGS:
            del self[next(iter(self))]


def _unpacked(file, flatten_on_white: bool = False):
    """What a browser's canvas is as a picture: bounded ahead of being unpacked."""
    if file is None:
        return None
    is_bytes = isinstance(file, (bytes, bytearray, memoryview))
    content = bytes(file) if is_bytes else Path(file.path).read_bytes()
    return from_bytes(content, "mask")


def _outpainting(page: Page) -> None:
    """Pixels beyond each edge, by arrows."""
    with gr.Column(visible=False) as page.with_sides:
        arrows = {}
        with gr.Row(elem_classes="kd-arrows"):
            for side in ("left", "top", "bottom", "right"):
                arrows[side] = gr.Button(
                    f"{_ARROWS[side]} {side}", size="sm", elem_id=f"kd-{side}-more"
                )
            clear = gr.Button("None", size="sm")
        with gr.Row():
            for side in SIDES:
                page.add(
                    side,
                    gr.Number(
                        0,
                        label=side.capitalize(),
                        precision=0,
                        minimum=0,
                        step=8,
                        min_width=70,
                        elem_id=f"kd-{side}",
                    ),
                )
        page.add("overlap", widget("overlap"))
    page.arrows, page.no_sides = arrows, clear


def wire(page: Page) -> None:
    """What is seen of it depends on what there is to do."""
    groups = {
        page.with_picture: (*OF_PICTURES, LARGER),
        page.with_mask: ("inpaint",),
        page.with_sides: ("outpaint",),
        page.with_times: (LARGER,),
        page.with_depth: ("depth_to_image",),
        page.with_told: ("edit", "upscale"),
    }
    task, picture = page.widgets["task"], page.widgets["picture"]

    def seen(name: str):
        shown = [gr.update(visible=name in tasks) for tasks in groups.values()]
        return [*shown, gr.update(visible=name in STRENGTHS)]

    strength = page.widgets["strength"]
    task.change(seen, task, [*groups, strength], **QUIET)
    task.input(lambda name: STRENGTHS.get(name, gr.skip()), task, strength, **QUIET)

    def drawn_on(file: str | None):
        if not file:
            return None
        return {"background": file, "layers": [], "composite": file}

    picture.change(drawn_on, picture, page.widgets["editor"], **QUIET)

    def measured(file: str | None, model: str):
        if not file:
            return gr.skip(), gr.skip()
        try:
            tall, wide = open_image(file, size_of)
        except (ValueError, OSError):  # it is said when it is to be painted over
            return gr.skip(), gr.skip()
        ratio = min(8.0, max(0.125, wide / tall))
        height, width = sizes.size_for(ratio, page.config(model))
        return width, height

    picture.upload(
        measured,
        [picture, page.widgets["model"]],
        [page.widgets["width"], page.widgets["height"]],
        **QUIET,
    )
    _wire_sides(page)


def _wire_sides(page: Page) -> None:
    sides, width = [page.widgets[side] for side in SIDES], page.widgets["width"]
    for name, arrow in page.arrows.items():
        side = page.widgets[name]
        arrow.click(None, [side, width], side, js=_MORE)
    page.no_sides.click(lambda: [0] * len(SIDES), None, sides, **QUIET)
