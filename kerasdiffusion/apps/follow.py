"""`--from`: what a picture says, where the flags say nothing."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kerasdiffusion.apps import fetching, flags, tasks
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.requests.fields import WALKS
from kerasdiffusion.requests.kinds import Number
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.requests.subject import IN

#: What every text has, or what is followed beside the fields of a request.
_KNOWN = {
    *("prompt", "negative_prompt", "seed", "steps", "sampler", "schedule_type"),
    *("guidance_scale", "height", "width", "size", "model", "version", "model_hash"),
    tasks.WINDOW,
}
#: What a walk's text calls its pictures a second.
FPS = "FPS"
#: What is named by a hint of its own.
_NAMED = {"model"}
#: Fields that say how many steps there are, and where.
_STEPS = ("num_steps", "spacing", "sigmas", "timesteps")


@dataclass(frozen=True)
class Followed:
    """A picture's text, and what it asks of the sampler.

    Args:
        parameters: What `read_parameters` gives; empty where the request has all.
        given: The fields that flags gave.
        position: The picture's among those of its batch; `None` for all.
    """

    parameters: Mapping
    given: frozenset
    position: int | None = None

    def sampling(self, args: argparse.Namespace, schedule) -> dict:
        """Fields that sample as the program did that wrote the text.

        Args:
            args: The flags.
            schedule: The model's `ScheduleConfig`.
        """
        if not self.parameters:
            return {}
        from kerasdiffusion.apps import reproduce

        found = reproduce.sampling_options(self.parameters, schedule)
        if {"num_steps", "spacing", "sigmas", "timesteps"} & self.given:
            found.pop("sigmas", None)
        if {"sigmas", "timesteps"} & self.given:
            found.pop("num_steps", None)
            found.pop("spacing", None)
        return {name: each for name, each in found.items() if name not in self.given}


def read(args: argparse.Namespace) -> Followed:
    """Reads `--from`; what no flag says is set from it.

    Raises:
        ValueError: If a value is none, or the sampler is unknown.
    """
    from kerasdiffusion.apps import reproduce
    from kerasdiffusion.pictures.metadata import read_parameters
    from kerasdiffusion.presets.config import ScheduleConfig
    from kerasdiffusion.requests.batches import batch_in
    from kerasdiffusion.requests.text import is_ours

    parameters = read_parameters(args.source)
    if is_ours(parameters) and parameters.get("Task") in WALKS:
        raise ValueError(
            "An animation must be painted again by `kerasdiffusion walk --from`. "
            f"Received: --from {args.source}"
        )
    given = frozenset(flags.given(args))
    before, own_words = fetching.named(args), bool(args.prompts)
    prompt, negative, remarks = reproduce.prompts(parameters)
    if not args.prompts and args.instruction is None and prompt:
        args.prompts = [prompt]
    if negative:
        _set(args, negative_prompt=negative)
    name = parameters.get("model")
    if args.preset is None and name in PRESETS:
        args.preset = name
    elif args.preset is None and name:
        _warn(f"the model {name!r}", args, "name it by --preset")
    if is_ours(parameters):
        batch = None
        if not own_words and not given & {"batch_size", "seed", "variation_seed"}:
            batch = batch_in(parameters)
        if batch is not None:
            args.prompts = list(batch[0].pop("prompt"))
            _set(args, **batch[0])
            args.grid = args.grid or batch[1] is None
        _follow(args, parameters, given)
        fetching.check(args, before)
        return Followed({}, given, batch and batch[1])
    found, followed = reproduce.keywords(parameters)
    for word, field in (
        ("guidance_scale", "unconditional_guidance_scale"),
        ("seed", "seed"),
    ):
        if word in parameters:
            found[field] = parameters[word]
    _set(args, **found)
    _set_size(args, parameters)
    if args.image is not None and not (args.instruction or args.upscale):
        followed.add("strength")
        if "strength" in parameters:
            _set(args, strength=parameters["strength"])
    followed |= _NAMED
    for name in dict.fromkeys(reproduce.unsupported(parameters, followed) + remarks):
        _warn(repr(name), args)
    fetching.check(args, before)
    parameters = _without(parameters, given)
    reproduce.sampling_options(parameters, ScheduleConfig())  # Refuses at once.
    return Followed(parameters, given)


def read_walk(args: argparse.Namespace) -> None:
    """Reads `walk --from`; what no flag says is set from the animation.

    Raises:
        ValueError: If it is no walk of this library, or a value is none.
    """
    from kerasdiffusion.pictures.metadata import read_parameters
    from kerasdiffusion.requests import batches
    from kerasdiffusion.requests.text import fields_in, is_ours, labels

    parameters = read_parameters(args.source)
    task = parameters.get("Task")
    if not is_ours(parameters) or task not in WALKS:
        raise ValueError(
            "`walk --from` must be given an animation that `walk` wrote; a picture is "
            f"for `generate --from`. Received: {args.source}"
        )
    before = fetching.named(args)
    found = batches.walk_in(parameters) | fields_in(parameters, str(args.source))
    passed = found.pop("prompt")
    if set(_STEPS) & set(flags.given(args)):
        found = {name: each for name, each in found.items() if name not in _STEPS}
    args.prompts = args.prompts or list(passed)
    args.circle = args.circle or task == "circular_walk"
    _set(args, **found, **flags.parts_in(parameters))
    if FPS in parameters:
        _set(args, fps=Number().read(str(parameters[FPS])))
    name = parameters.get("model")
    if args.preset is None and name in PRESETS:
        args.preset = name
    elif args.preset is None and name:
        _warn(f"the model {name!r}", args, "name it by --preset")
    if args.size is None and {"width", "height"} <= set(parameters):
        args.size = parameters["height"], parameters["width"]
    known = _KNOWN | labels() | batches.labels() | {"Task", FPS}
    known |= flags.follow_machine(args, parameters)
    known |= {part.label for part in flags.PARTS}
    for name in parameters:
        if name not in known:
            _warn(repr(name), args)
    fetching.check(args, before)


def _without(parameters: Mapping, given: frozenset) -> dict:
    """The parameters but those that flags stand in place of."""
    left_out = {"sampler": ("sampler", "schedule_type"), "num_steps": ("steps",)}
    words = {word for name in given for word in left_out.get(name, ())}
    return {name: value for name, value in parameters.items() if name not in words}


def _follow(args: argparse.Namespace, parameters: Mapping, given: frozenset) -> None:
    """Sets what a text of this library says, if no flag does."""
    from kerasdiffusion.requests import batches
    from kerasdiffusion.requests.text import fields_in, labels

    found = fields_in(parameters, str(args.source))
    if set(_STEPS) & given:
        found = {name: each for name, each in found.items() if name not in _STEPS}
    if args.instruction is None and parameters.get("Task") == "edit":
        if args.prompts[:1] == [parameters.get("prompt")]:
            args.instruction, args.prompts = args.prompts[0], []
    followed = tasks.follow(args, parameters) | flags.follow_machine(args, parameters)
    in_group = {field.name for field in flags.in_group(IN)}
    for name in ("image", "mask", "depth"):
        if name in found:
            label = flags.FIELDS[name].asked.label
            found[name] = _file(args, found[name], parameters.get(f"{label} hash"))
            followed.add(f"{label} hash")
    if "image" not in found and args.image is None:
        larger = {FIELDS[name].asked.label for name in ("hires_scale", "hires_size")}
        over = "strength" in parameters and not larger & set(parameters)
        if over or "Task" in parameters:
            _warn(f"{parameters.get('Task', 'strength')!r}", args, "pass its --image")
        found = {name: each for name, each in found.items() if name not in in_group}
    _set(args, **found)
    _set(args, **flags.parts_in(parameters))
    if args.image is None or tasks.WINDOW in parameters:
        _set_size(args, parameters)
    known = (
        _KNOWN
        | labels()
        | batches.labels()
        | followed
        | {part.label for part in flags.PARTS}
    )
    for name in parameters:
        if name not in known:
            _warn(repr(name), args)


def _file(args, path: str, short: str | None) -> str:
    """A file that a text names, from here or from beside the picture."""
    from kerasdiffusion.weights.fingerprint import of_file

    beside = Path(args.source).parent / path
    found = path if Path(path).is_file() or not beside.is_file() else str(beside)
    if short and Path(found).is_file() and not of_file(found).startswith(short):
        warnings.warn(
            f"{found} is not what {args.source} was painted from: it has changed.",
            stacklevel=2,
        )
    return found


def _set(args: argparse.Namespace, **values) -> None:
    for name, value in values.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _set_size(args: argparse.Namespace, parameters: Mapping) -> None:
    if args.size is not None:
        return
    from kerasdiffusion.apps.options import size

    if tasks.WINDOW in parameters:
        args.size = size(str(parameters[tasks.WINDOW]))
    elif "width" in parameters and "height" in parameters and args.image is None:
        args.size = parameters["height"], parameters["width"]


def _warn(what: str, args: argparse.Namespace, hint: str = "") -> None:
    hint = f": {hint}" if hint else ""
    warnings.warn(f"{what} of {args.source} is not followed{hint}.", stacklevel=2)
