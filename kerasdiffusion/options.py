"""The keywords that all tasks share, in one place."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kerasdiffusion.sampling.driver import Step


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the pictures of a call are made, whatever the task.

    Args:
        sampler: A name in `SAMPLERS`, or what other programs call it; the preset's by
            default.
        spacing: How the steps are spaced: `"leading"`, `"trailing"`, `"linspace"`,
            `"karras"` or `"exponential"`; the sampler's own by default.
        eta: Noise that is added anew, for samplers that take it.
        prompt_2: What SDXL's second text encoder reads; the prompt by default.
        negative_prompt_2: What it reads for the negative prompt; that by default.
        original_size: Height and width in pixels that SDXL is told a picture had before
            it was scaled; the size of the pictures by default.
        crop: Pixels that SDXL is told were cut off at the top and at the left.
        target_size: Height and width that SDXL is told a picture has; the size of the
            pictures by default.
        aesthetic_score: How beautiful SDXL's refiner is told a picture is, 1 to 10.
        negative_aesthetic_score: The same for the negative prompt.
        refiner: A `StableDiffusion` of the same latents that takes the last steps.
        refiner_start: The share of the noise levels after which it does, over 0 and
            under 1.
        callback: Called with a `Step` after each step. If it returns `False`, the run
            stops there, and the picture is as noisy as it then was.
        progress_bar: Whether a run of more than some seconds shows a bar.
    """

    sampler: str | None = None
    spacing: str | None = None
    eta: float | None = None
    prompt_2: str | Sequence[str] | None = None
    negative_prompt_2: str | Sequence[str] | None = None
    original_size: tuple[int, int] | None = None
    crop: tuple[int, int] = (0, 0)
    target_size: tuple[int, int] | None = None
    aesthetic_score: float = 6.0
    negative_aesthetic_score: float = 2.5
    refiner: object = None
    refiner_start: float = 0.8
    callback: Callable[[Step], bool | None] | None = None
    progress_bar: bool = True


def takes_options(task: Callable) -> Callable:
    """Gives a method the fields of `Options` as keywords; it is handed an `Options`.

    They stand in its signature and in its documentation as if written there.
    """
    own = inspect.signature(task)
    fields = {field.name: field for field in dataclasses.fields(Options)}

    @functools.wraps(task)
    def method(*args, **keywords):
        chosen = {name: keywords.pop(name) for name in fields if name in keywords}
        for name in keywords:
            if name not in own.parameters or name == "options":
                raise TypeError(
                    _unknown(task.__name__, name, [*own.parameters, *fields])
                )
        return task(*args, **keywords, options=Options(**chosen))

    parameters = [each for each in own.parameters.values() if each.name != "options"]
    shared = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=field.type,
        )
        for name, field in fields.items()
    ]
    method.__signature__ = own.replace(parameters=parameters + shared)
    return method


def _unknown(task: str, name: str, known: list[str]) -> str:
    known = [each for each in known if each not in ("self", "options")]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"`{task}` takes {', '.join(known)}.{hint} Received: {name!r}"
