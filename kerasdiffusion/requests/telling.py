"""Fields of a request: what networks are told of text and picture, and of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kerasdiffusion.requests.adapters import Adapters
from kerasdiffusion.requests.fields import Flag, asked
from kerasdiffusion.requests.kinds import Choice, Function, Number, Switch, Whole
from kerasdiffusion.requests.objects import Controls, Model, Prompts
from kerasdiffusion.requests.several import Size

TEXT, LARGE = "text", "Stable Diffusion XL"
#: `prompts.weighting.WEIGHTINGS` is the same.
WEIGHTINGS = ("a1111", "compel", "none")


@dataclass(frozen=True, kw_only=True, eq=False)
class Telling:
    """What networks are told, and who watches."""

    clip_skip: int | None = asked(
        Whole(1, 1000),
        help="leaves the text encoder behind its last layer (1), the one before (2), "
        "...",
        text="Where the text encoder is left: 1 behind its last layer, 2 behind the "
        "one before, as A1111 counts; the model's own by default.",
        label="Clip skip",
        flag=Flag(metavar="N"),
        group=TEXT,
    )
    prompt_weighting: str = asked(
        Choice(WEIGHTINGS),
        "a1111",
        help="what (weights:1.2) in prompts do (default: a1111)",
        text='What weights in prompts do: `"a1111"` scales vectors and keeps their '
        'mean, `"compel"` draws them away from the empty prompt. Both read the '
        'language of `kerasdiffusion.prompts`; with `"none"` a prompt is plain text.',
        label="Prompt weighting",
        group=TEXT,
    )
    prompt_2: str | Sequence[str] | None = asked(
        Prompts(),
        help="what SDXL's second text encoder reads (default: the prompt)",
        text="What SDXL's second text encoder reads; the prompt by default.",
        label="Prompt 2",
        flag=Flag(metavar="TEXT"),
        group=TEXT,
    )
    negative_prompt_2: str | Sequence[str] | None = asked(
        Prompts(),
        help="the same for the negative prompt",
        text="What it reads for the negative prompt; that by default.",
        label="Negative prompt 2",
        flag=Flag(metavar="TEXT"),
        group=TEXT,
    )
    original_size: tuple[int, int] | None = asked(
        Size(),
        help="what SDXL is told of a picture's size before it was scaled",
        text="Height and width in pixels that SDXL is told a picture had before it was "
        "scaled; the size of the pictures by default.",
        label="Original size",
        flag=Flag(metavar="N|WxH"),
        group=LARGE,
    )
    crop: tuple[int, int] = asked(
        Size(is_corner=True),
        (0, 0),
        help="and of the pixels that were cut off",
        text="Pixels that SDXL is told were cut off at the top and at the left.",
        label="Crop",
        flag=Flag(metavar="TOP,LEFT"),
        group=LARGE,
    )
    target_size: tuple[int, int] | None = asked(
        Size(),
        help="and of its size after it",
        text="Height and width that SDXL is told a picture has; the size of the "
        "pictures by default.",
        label="Target size",
        flag=Flag(metavar="N|WxH"),
        group=LARGE,
    )
    aesthetic_score: float = asked(
        Number(),
        6.0,
        help="how beautiful SDXL's refiner is told the picture is, 1 to 10",
        text="How beautiful SDXL's refiner is told a picture is, 1 to 10.",
        label="Aesthetic score",
        flag=Flag(metavar="X"),
        group=LARGE,
    )
    negative_aesthetic_score: float = asked(
        Number(),
        2.5,
        help="the same for the negative prompt",
        text="The same for the negative prompt.",
        label="Negative aesthetic score",
        flag=Flag(metavar="X"),
        group=LARGE,
    )
    refiner: Any = asked(
        Model(),
        help="a model that takes the last steps",
        text="A `StableDiffusion` of the same latents that takes the last steps.",
        label="Refiner",
        flag=Flag(metavar="MODEL"),
        group=LARGE,
    )
    refiner_start: float = asked(
        Number(0.0, 1.0, above=True),
        0.8,
        help="the share of the noise levels after which it does (default: 0.8)",
        text="The share of the noise levels after which it does, over 0 and under 1.",
        label="Refiner start",
        flag=Flag(metavar="X"),
        group=LARGE,
    )
    adapters: Any = asked(
        Adapters(),
        help="a LoRA or one of its kin: a file or a name in the folder of adapters, "
        "and how much of it; may be given several times",
        text="`(file, weight)`, or a list of them: LoRA and its kin that are used in "
        "this call beside the model's own, see `load_adapter`. A third number is the "
        "text encoders' weight.",
        label="Adapters",
        flag=Flag(name="adapter", metavar="FILE[:WEIGHT]"),
        group=TEXT,
    )
    control: Any = asked(
        Controls(),
        help="pictures that the result follows",
        text="A `Control(network, picture)`, or a list of them: pictures that the "
        "result follows, their edges, depth or a pose (ControlNet, T2I-Adapter).",
        flag=None,
    )
    callback: Callable[[Any], bool | None] | None = asked(
        Function(),
        help="called with a `Step` after each step",
        text="Called with a `Step` after each step. If it returns `False`, the run "
        "stops there, and the picture is as noisy as it then was.",
        flag=None,
        paints=False,
    )
    progress_bar: bool = asked(
        Switch(),
        True,
        help="whether a run of more than some seconds shows a bar",
        text="Whether a run of more than some seconds shows a bar.",
        flag=None,
        paints=False,
    )
