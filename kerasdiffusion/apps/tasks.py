"""Which task the flags ask for, and the fields of a request that they stand for."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import NamedTuple

from kerasdiffusion.apps import flags, options
from kerasdiffusion.apps.flags import option
from kerasdiffusion.requests.control import TOLD
from kerasdiffusion.requests.fields import TASKS
from kerasdiffusion.requests.kinds import SHARE, Number
from kerasdiffusion.requests.larger import LARGER
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.requests.subject import IN

#: The flag that asks for each task with a picture.
BY_FLAG = {
    "inpaint": "mask",
    "outpaint": "outpaint",
    "depth_to_image": "depth",
    "edit": "instruction",
    "upscale": "upscale",
}
PLAIN = "image_to_image"
#: Flags by which a task paints at the size of the model, not the picture's.
SIZED = {"inpaint": "padding", "outpaint": "outpaint"}
#: What a picture's text calls the size of the model then.
WINDOW = "Window"
EDGES = "edges:"
_CONTROL = re.compile(r"Control (\d+)( image( hash)?)?")


class Chosen(NamedTuple):
    """A task as the flags ask for it.

    Args:
        task: Its name.
        fields: Of the request, but the prompts and the controls.
        controls: Arguments of `Control`, one for each.
    """

    task: str
    fields: dict
    controls: list[dict]


def add_task_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--image` and what goes with it, and `--control`."""
    group = parser.add_argument_group(
        IN, "One of --mask, --outpaint, --depth, --instruction, --upscale."
    )
    flags.add_fields(group, flags.in_group(IN))
    group.add_argument(
        "--outpaint",
        type=options.sides,
        metavar="SIDES",
        help="paints beyond the edges of --image, pixels by side: left=32,right=32",
    )
    group.add_argument(
        "--upscale",
        action="store_true",
        help="four times as many pixels a side; for --preset sd2-upscaler",
    )
    group.add_argument(
        "--control",
        nargs=2,
        action="append",
        metavar=("NETWORK", "FILE"),
        help="a ControlNet or T2I-Adapter (canny, depth, ..., t2i-canny, a folder or "
        "file) and the picture that it follows; edges:FILE makes one of a picture's "
        "edges; several may be given",
    )
    for name, kind, text in (
        ("scale", Number(), "how strongly a control counts (default: 1)"),
        ("start", SHARE, "the share of the steps where it begins (default: 0)"),
        ("end", SHARE, "and where it ends (default: 1)"),
    ):
        group.add_argument(
            f"--control-{name}",
            type=options.checked(kind),
            action="append",
            metavar="X",
            help=f"{text}; one for all, or once for each",
        )
    flags.add_fields(parser.add_argument_group(LARGER), flags.in_group(LARGER))


def choose(args: argparse.Namespace) -> Chosen:
    """The task that flags ask for; pictures are looked at before a framework loads.

    Raises:
        SystemExit: If flags do not go together.
        ValueError: If a picture cannot be read.
    """
    asked = [task for task, name in BY_FLAG.items() if getattr(args, name)]
    if len(asked) > 1:
        both = " and ".join(option(BY_FLAG[task]) for task in asked)
        args.refuse(f"{both} do not go together")
    if asked and args.image is None:
        args.refuse(f"{option(BY_FLAG[asked[0]])} is for --image")
    plain = "text_to_image" if args.image is None else PLAIN
    task = asked[0] if asked else plain
    fields = flags.given(args)
    fields.pop("instruction", None)
    fields.pop("control", None)
    for name in fields:
        if task not in FIELDS[name].asked.tasks:
            knows = [each for each in (PLAIN, *TASKS) if takes(each, name)]
            by = dict.fromkeys(option(BY_FLAG.get(each, "image")) for each in knows)
            if not by:
                args.refuse(f"{flags.flag_of(name)} goes without {option('image')}")
            args.refuse(f"{flags.flag_of(name)} is for {' or '.join(by)}")
    sized = task in SIZED and getattr(args, SIZED[task]) is not None
    if task != "text_to_image" and args.size is not None and not sized:
        args.refuse("--image has a size of its own, and goes without --size")
    if args.instruction is not None and args.prompts:
        args.refuse("--instruction stands in place of PROMPT")
    for name in ("image", "mask"):
        if name in fields:
            _picture(fields[name])  # Refuses at once.
    if task == "outpaint":
        fields |= args.outpaint
    if task == "depth_to_image":
        if args.depth == "auto":
            del fields["depth"]
        else:
            _picture(args.depth)
    return Chosen(task, fields, _controls(args))


def takes(task: str, name: str) -> bool:
    """Whether a task with a picture takes a field."""
    return task in FIELDS[name].asked.tasks and (task == PLAIN or task in BY_FLAG)


def _picture(path):
    from kerasdiffusion.pictures.read import read_pictures

    return read_pictures(path)[0]


def _controls(args: argparse.Namespace) -> list[dict]:
    """Arguments of `Control`, one for each `--control`."""
    controls = [
        {"network": network, "picture": file} for network, file in args.control or ()
    ]
    for name in TOLD:
        values = getattr(args, f"control_{name}") or []
        if values and not controls:
            args.refuse(f"--control-{name} is for --control")
        if len(values) not in (0, 1, len(controls)):
            args.refuse(
                f"--control-{name} must be given once, or once for each --control"
            )
        for control, value in zip(controls, values * len(controls), strict=False):
            control[name] = value
    for control in controls:
        control["picture"] = _followed(control["picture"])
    return controls


def _followed(file: str):
    """The picture of a control, or the edges of one."""
    from kerasdiffusion.pictures.control_pictures import canny_edges

    name = file.removeprefix(EDGES)
    if name != file:
        return canny_edges(name)
    _picture(file)  # Refuses at once.
    return file


def described(args: argparse.Namespace, size: tuple[int, int]) -> dict[str, str]:
    """What a picture's text says beside its request.

    That is edges that were made of pictures, and the size of the model where that is
    not the picture's.
    """
    found = {
        f"Control {i} image": file
        for i, (_, file) in enumerate(args.control or (), 1)
        if file.startswith(EDGES)
    }
    if args.outpaint or args.padding is not None:
        found[WINDOW] = f"{size[1]}x{size[0]}"
    return found


def follow(args: argparse.Namespace, parameters: Mapping) -> set[str]:
    """Sets what a text of this library says of tasks and controls, if no flag does.

    Returns:
        The labels that are followed.
    """
    followed = {label for label in parameters if _CONTROL.fullmatch(label)}
    task = parameters.get("Task")
    if args.outpaint is None and "Outpaint" in parameters:
        args.outpaint = options.sides(str(parameters["Outpaint"]))
    args.upscale = args.upscale or task == "upscale"
    if task == "depth_to_image" and args.depth is None and "Depth" not in parameters:
        args.depth = "auto"
    if task == "edit" and args.instruction is None and not args.prompts:
        args.instruction = str(parameters.get("prompt", ""))
    if args.control is None:
        _follow_controls(args, parameters)
    return followed | {"Task", "Outpaint"}


def _follow_controls(args: argparse.Namespace, parameters: Mapping) -> None:
    controls, i = [], 1
    told: dict[str, list[float]] = {name: [] for name in TOLD}
    while f"Control {i}" in parameters and f"Control {i} image" in parameters:
        network, *rest = str(parameters[f"Control {i}"]).split(" ")
        given = dict(each.partition("=")[::2] for each in rest)
        for name, default in TOLD.items():
            told[name].append(Number().read(given.get(name, str(default))))
        controls.append([network, str(parameters[f"Control {i} image"])])
        i += 1
    if controls:
        args.control = controls
        for name, values in told.items():
            setattr(args, f"control_{name}", values)
