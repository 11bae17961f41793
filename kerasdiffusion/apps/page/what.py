"""What to paint: the prompt with its tokens, styles, sizes, number and seeds."""

from __future__ import annotations

import gradio as gr
from starlette.concurrency import run_in_threadpool

from kerasdiffusion.apps.page import counting, sizes
from kerasdiffusion.apps.page.page import QUIET, Page
from kerasdiffusion.apps.page.widgets import widget

_EXAMPLE = "a red apple on a blue background"


def prompts(page: Page) -> None:
    """The prompt and what to keep away from, with their tokens, and styles."""
    for name, lines, hint in (
        ("prompt", 3, _EXAMPLE),
        ("negative_prompt", 1, "what to keep away from"),
    ):
        page.add(
            name,
            widget(
                name,
                value="",
                lines=lines,
                max_lines=10,
                info=None,
                placeholder=hint,
                elem_id=f"kd-{name.replace('_', '-')}",
                autofocus=name == "prompt",
            ),
        )
        setattr(page, f"{name}_tokens", gr.HTML(elem_classes="kd-count"))
    names = list(page.models.styles.all())
    page.add(
        "styles",
        gr.Dropdown(names, value=[], multiselect=True, label="Styles", scale=1),
    )


def count(page: Page) -> None:
    """Has prompts counted while they are written."""

    async def counted(text: str, model: str) -> str:
        def read():
            return counting.told(
                text, page.models.get(page.models.find(model)).tokenizer
            )

        return await run_in_threadpool(read)

    model = page.widgets["model"]
    for name in ("prompt", "negative_prompt"):
        box, tokens = page.widgets[name], getattr(page, f"{name}_tokens")
        gr.on(
            [box.change, model.change],
            counted,
            [box, model],
            tokens,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )


def measures(page: Page) -> None:
    """Ratio, size, number of pictures and seed."""
    own = page.config(None)
    with gr.Row():
        ratio = gr.Dropdown(
            [sizes.OWN, *sizes.RATIOS],
            value=sizes.OWN,
            label="Ratio",
            min_width=130,
            scale=2,
            elem_id="kd-ratio",
        )
        for name, value in (
            ("width", own.generation.width),
            ("height", own.generation.height),
        ):
            page.add(
                name,
                gr.Number(
                    value,
                    label=name.capitalize(),
                    precision=0,
                    step=sizes.multiple_of(own),
                    minimum=8,
                    min_width=80,
                    elem_id=f"kd-{name}",
                ),
            )
    page.add(
        "batch_size", widget("batch_size", info=None, minimum=1, elem_id="kd-count")
    )
    with gr.Row(elem_classes="kd-seed"):
        page.add(
            "seed",
            widget(
                "seed",
                info=None,
                placeholder="random",
                min_width=120,
                elem_id="kd-seed",
            ),
        )
        page.reuse = gr.Button(
            "Reuse last", min_width=90, size="sm", elem_id="kd-reuse"
        )
        page.random = gr.Button("Random", min_width=80, size="sm", elem_id="kd-random")
    page.keep_seed = gr.Checkbox(False, label="Keep the seed", elem_id="kd-keep-seed")
    page.ratio = ratio


def wire(page: Page) -> None:
    """What a ratio and the buttons beside the seed set."""

    def chosen(name: str, model: str):
        height, width = sizes.size_of_choice(name, page.config(model))
        return width, height

    sides = [page.widgets["width"], page.widgets["height"]]
    page.ratio.input(chosen, [page.ratio, page.widgets["model"]], sides, **QUIET)
    seed = [page.widgets["seed"], page.keep_seed]
    page.random.click(lambda: ("", False), None, seed, **QUIET)
