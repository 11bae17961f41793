"""What is beside the prompt: the model, adapters, and pictures to follow."""

from __future__ import annotations

import gradio as gr
import numpy as np
from starlette.concurrency import run_in_threadpool

from kerasdiffusion.adapters.telling import describe_file
from kerasdiffusion.apps.page import sizes
from kerasdiffusion.apps.page.asking import FITS, TASKS, followed, tasks_of
from kerasdiffusion.apps.page.page import QUIET, ROWS, Page
from kerasdiffusion.apps.page.painting import problem
from kerasdiffusion.apps.page.widgets import more, widget
from kerasdiffusion.apps.server.desk import refusing
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import encoded
from kerasdiffusion.apps.server.web_ui_control import MODULES

#: What other pages have and this library has not, said where people look for it.
MISSING = (
    "An autoencoder of its own for each picture is not here: start the server with a "
    "model that has it. A picture as a prompt (IP-Adapter) is not here: this library "
    "has no such networks; begin *Over a picture* in its place."
)


def models(page: Page) -> None:
    """The model, and a button that looks for new ones."""
    names = list(page.models.names())
    with gr.Row():
        page.add(
            "model",
            gr.Dropdown(
                names,
                value=page.models.default,
                label="Model",
                scale=4,
                elem_id="kd-model",
            ),
        )
        page.refresh = gr.Button(
            "Look again", size="sm", min_width=90, scale=1, elem_id="kd-refresh"
        )


def settings(page: Page) -> None:
    """Every other field of a request, by the titles that the command line has."""
    with gr.Row():
        page.add("num_steps", widget("num_steps", info=None, elem_id="kd-steps"))
        page.add(
            "unconditional_guidance_scale",
            widget("unconditional_guidance_scale", info=None, elem_id="kd-scale"),
        )
    with gr.Row():
        page.add("sampler", widget("sampler", info=None, elem_id="kd-sampler"))
        page.add("spacing", widget("spacing", info=None))
    with gr.Row():
        page.add("variation_seed", widget("variation_seed", placeholder="random"))
        page.add("variation_strength", widget("variation_strength"))
    for title, fields in more():
        with gr.Accordion(title.capitalize(), open=False):
            for field in fields:
                if field.name in page.widgets:
                    continue
                options = {}
                if field.name == "refiner":
                    names = [(name, name) for name in page.models.names()]
                    options = {"choices": [("none", ""), *names]}
                page.add(field.name, widget(field.name, **options))


def adapters(page: Page) -> None:
    """Rows of adapters: name, weight, and the words that they were taught."""
    names = _adapter_names(page)
    page.adapter_rows, page.adapter_words = [], []
    for i in range(ROWS):
        with gr.Column():
            name = page.add(
                f"adapter_{i}",
                gr.Dropdown(
                    [("none", ""), *names],
                    value="",
                    label=f"Adapter {i + 1}",
                    elem_id=f"kd-adapter-{i}",
                ),
            )
            page.add(
                f"weight_{i}",
                gr.Slider(-2.0, 2.0, 1.0, step=0.05, label="Weight"),
            )
            words = gr.Markdown(elem_classes="kd-quiet")
            add = gr.Button("Add its words to the prompt", size="sm", visible=False)
        page.adapter_rows.append(name)
        name.change(
            lambda chosen: _told(page, chosen),
            name,
            [words, add],
            **QUIET,
        )
        add.click(
            lambda prompt, chosen: _with_words(page, prompt, chosen),
            [page.widgets["prompt"], name],
            page.widgets["prompt"],
            **QUIET,
        )
    if not names:
        gr.Markdown(
            "There are none here: start with `--adapters DIR`, a folder of LoRA files.",
            elem_classes="kd-quiet",
        )


def _adapter_names(page: Page) -> list[tuple[str, str]]:
    return [(name, name) for name in page.models.adapter_files()]


def words_of(page: Page, name: str) -> tuple[dict, list[str]]:
    """What is known of an adapter's file, and the words that call it."""
    told = describe_file(page.models.adapter(name))
    words = [each for each in told.get("words", "").split(", ") if each]
    trigger = told.get("trigger phrase") or told.get("trigger")
    tags = [each.rpartition(" (")[0] for each in told.get("tags", "").split(", ")]
    return told, words or ([trigger] if trigger else [x for x in tags if x][:8])


def _told(page: Page, name: str):
    if not name:
        return "", gr.update(visible=False)
    try:
        told, words = words_of(page, name)
    except (ValueError, OSError, Refused) as error:
        return page.models.without_places(str(error)), gr.update(visible=False)
    lines = [f"{told.get('kind', '')} for {told.get('for', '?')}"]
    lines += [f"rank {told['rank']}"] * ("rank" in told)
    if words:
        lines.append("words: " + ", ".join(f"`{each}`" for each in words))
    return ", ".join(lines), gr.update(visible=bool(words))


def _with_words(page: Page, prompt: str, name: str) -> str:
    _, words = words_of(page, name)
    left = [each for each in words if each not in (prompt or "")]
    return ", ".join(filter(None, [prompt, *left]))


def control(page: Page) -> None:
    """A picture that the result follows, and what its network will see of it."""
    names = list(page.models.control_files())
    page.add(
        "control_picture",
        gr.Image(
            type="filepath",
            image_mode=None,
            label="Picture to follow",
            sources=["upload", "clipboard"],
            buttons=["fullscreen"],
            height=220,
            elem_id="kd-control",
        ),
    )
    with gr.Row():
        page.add(
            "control_network",
            gr.Dropdown(
                [("none", ""), *((name, name) for name in names)],
                value="",
                label="Network",
                elem_id="kd-network",
            ),
        )
        page.add(
            "control_module",
            gr.Dropdown(list(MODULES), value="none", label="What it is shown"),
        )
    with gr.Row():
        page.add("control_low", gr.Number(100, label="Low threshold", min_width=80))
        page.add("control_high", gr.Number(200, label="High threshold", min_width=80))
    with gr.Row():
        page.add("control_scale", gr.Slider(0.0, 2.0, 1.0, step=0.05, label="Weight"))
        page.add("control_start", gr.Slider(0.0, 1.0, 0.0, step=0.01, label="From"))
        page.add("control_end", gr.Slider(0.0, 1.0, 1.0, step=0.01, label="To"))
    page.add(
        "control_fit",
        gr.Dropdown(list(FITS)[:3], value=next(iter(FITS)), label="It is"),
    )
    page.add("control_guess_mode", gr.Checkbox(False, label="Guess without a prompt"))
    show = gr.Button("Show what it follows", size="sm", elem_id="kd-show-followed")
    seen = gr.Image(
        type="filepath",
        format="png",
        label="What it follows",
        interactive=False,
        buttons=["download", "fullscreen"],
        height=220,
        elem_id="kd-followed",
    )
    wrong = gr.HTML()
    if not names:
        gr.Markdown(
            "There are no networks here: start with `--controls DIR`, a folder of "
            "ControlNets and T2I-Adapters.",
            elem_classes="kd-quiet",
        )

    async def prepared(picture, module, low, high):
        told = {"picture": picture, "module": module, "low": low, "high": high}

        def make():
            with refusing(page.models):
                return encoded(np.asarray(followed(told)))

        try:
            content = await run_in_threadpool(make)
        except Refused as error:
            return None, problem([error.message])
        return page.handed.write(content, "followed.png"), ""

    names = ("picture", "module", "low", "high")
    show.click(
        prepared,
        [page.widgets[f"control_{name}"] for name in names],
        [seen, wrong],
        api_visibility="private",
    )


def wire(page: Page) -> None:
    """What a model is said to have, when it is chosen; what there is, when asked."""
    model, task = page.widgets["model"], page.widgets["task"]

    def known(name: str):
        config = page.config(name)
        own = config.generation
        return [
            gr.update(choices=[(TASKS[each], each) for each in tasks_of(config)]),
            gr.update(placeholder=f"{own.num_steps}, {sizes.OWN}"),
            gr.update(placeholder=f"{own.guidance_scale:g}, {sizes.OWN}"),
        ]

    names = ("num_steps", "unconditional_guidance_scale")
    hints = [page.widgets[name] for name in names]
    model.change(known, model, [task, *hints], **QUIET)

    def chosen(name: str, task: str):
        config = page.config(name)
        own, tasks = config.generation, tasks_of(config)
        task = task if task in tasks else tasks[0]
        return task, own.width, own.height, sizes.OWN

    sides = [page.widgets[name] for name in ("width", "height")]
    model.input(chosen, [model, task], [task, *sides, page.ratio], **QUIET)

    def looked():
        adapters = [("none", ""), *_adapter_names(page)]
        controls = [("none", ""), *((x, x) for x in page.models.control_files())]
        return [
            gr.update(choices=list(page.models.names())),
            gr.update(choices=list(page.models.styles.all())),
            *(gr.update(choices=adapters) for _ in page.adapter_rows),
            gr.update(choices=controls),
        ]

    page.refresh.click(
        looked,
        None,
        [
            model,
            page.widgets["styles"],
            *page.adapter_rows,
            page.widgets["control_network"],
        ],
        **QUIET,
    )
