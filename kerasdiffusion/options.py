"""The keywords that all tasks share, in one place."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable
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
        clip_skip: Where the text encoder is left: 1 behind its last layer, 2 behind the
            one before, as A1111 counts; the model's own by default.
        prompt_weighting: What weights in prompts do: `"a1111"` scales vectors and keeps
            their mean, `"compel"` draws them away from the empty prompt. Both read the
            language of `kerasdiffusion.prompts`; with `"none"` a prompt is plain text.
        callback: Called with a `Step` after each step. If it returns `False`, the run
            stops there, and the picture is as noisy as it then was.
        progress_bar: Whether a run of more than some seconds shows a bar.
    """

    sampler: str | None = None
    spacing: str | None = None
    eta: float | None = None
    clip_skip: int | None = None
    prompt_weighting: str = "a1111"
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
