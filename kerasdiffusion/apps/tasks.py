"""Which task the flags ask for, and what it takes beside the prompt."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from kerasdiffusion.apps import flags, options
from kerasdiffusion.apps.flags import Flag, option


class Task(NamedTuple):
    """A task with a picture.

    Args:
        method: Of `StableDiffusion`.
        flag: The flag that asks for it.
        takes: Other flags that it knows.
        sized: A flag by which it paints at the size of the model, not the picture's.
    """

    method: str
    flag: Flag
    takes: tuple[str, ...] = ()
    sized: str | None = None


TASKS = (
    Task(
        "inpaint",
        Flag("mask", str, "FILE", "paints --image anew where this picture is white"),
        ("strength", "feather", "padding"),
        "padding",
    ),
    Task(
        "outpaint",
        Flag(
            "outpaint",
            options.sides,
            "SIDES",
            "paints beyond the edges of --image, pixels by side: left=32,right=32",
            "Outpaint",
        ),
        ("strength", "feather", "overlap"),
        "outpaint",
    ),
    Task(
        "depth_to_image",
        Flag(
            "depth",
            str,
            "FILE|auto",
            "keeps the depth of --image: a map of it, or `auto` to estimate one; for "
            "depth models, as --preset sd2-depth",
        ),
        ("strength",),
    ),
    Task(
        "edit",
        Flag(
            "instruction",
            str,
            "TEXT",
            "changes --image as told, in place of PROMPT; for InstructPix2Pix models",
        ),
        ("image_guidance_scale",),
    ),
    Task(
        "upscale",
        Flag(
            "upscale",
            bool,
            None,
            "four times as many pixels a side; for --preset sd2-upscaler",
            more={"action": "store_true"},
        ),
        ("noise_level",),
    ),
)
PLAIN = Task("image_to_image", Flag("image", str, "FILE", ""), ("strength",))
WITH = (
    Flag(
        "strength",
        options.share,
        "S",
        "how much is painted anew, 0 to 1 (default: 0.8; with --mask and --outpaint 1)",
    ),
    Flag(
        "feather",
        options.pixels,
        "N",
        "pixels beyond --mask over which the new fades into the old (default: 0)",
        "Feather",
    ),
    Flag(
        "padding",
        options.pixels,
        "N",
        "paints only what is up to so many pixels from --mask, at the model's own size",
        "Padding",
    ),
    Flag(
        "overlap",
        options.pixels,
        "N",
        "pixels of what is there that --outpaint goes on from, a window at a time "
        "(default: half a window)",
        "Overlap",
    ),
    Flag(
        "image_guidance_scale",
        options.finite,
        "X",
        "how strongly --image guides beside --instruction (default: 1.5)",
        "Image CFG scale",
    ),
    Flag(
        "noise_level",
        options.pixels,
        "N",
        "noise that --upscale puts on --image first (default: 20)",
        "Noise level",
    ),
)
CONTROLS = ("scale", "start", "end")


def add_task_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--image` and what goes with it, and `--control`."""
    group = parser.add_argument_group(
        "pictures in", "One of --mask, --outpaint, --depth, --instruction, --upscale."
    )
    group.add_argument(
        "--image", metavar="FILE", help="a picture to begin with; it has a size itself"
    )
    for flag in (*(task.flag for task in TASKS), *WITH):
        kind = (
            {}
            if "action" in flag.more
            else {"type": flag.kind, "metavar": flag.metavar}
        )
        group.add_argument(option(flag.name), help=flag.help, **kind, **flag.more)
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
        ("scale", options.finite, "how strongly a control counts (default: 1)"),
        ("start", options.share, "the share of the steps where it begins (default: 0)"),
        ("end", options.share, "and where it ends (default: 1)"),
    ):
        group.add_argument(
            f"--control-{name}",
            type=kind,
            action="append",
            metavar="X",
            help=f"{text}; one for all, or once for each",
        )


class Chosen(NamedTuple):
    """A task as the flags ask for it.

    Args:
        method: Its name.
        pictures: What comes before the prompt.
        keywords: What it takes beside `Options`.
        controls: Arguments of `Control`, one for each.
        described: What a picture's parameters say of all this.
    """

    method: str
    pictures: tuple
    keywords: dict
    controls: list[dict]
    described: dict


def choose(args: argparse.Namespace) -> Chosen:
    """The task that flags ask for; pictures are read before a framework loads.

    Raises:
        SystemExit: If flags do not go together.
        ValueError: If a picture cannot be read.
    """
    asked = [task for task in TASKS if getattr(args, task.flag.name)]
    if len(asked) > 1:
        both = " and ".join(option(task.flag.name) for task in asked)
        args.refuse(f"{both} do not go together")
    if asked and args.image is None:
        args.refuse(f"{option(asked[0].flag.name)} is for --image")
    task = asked[0] if asked else PLAIN if args.image is not None else None
    keywords = flags.given(args, WITH)
    for name in keywords:
        if task is None or name not in task.takes:
            knows = [t.flag.name for t in (PLAIN, *TASKS) if name in t.takes]
            args.refuse(f"{option(name)} is for {' or '.join(map(option, knows))}")
    sized = task is not None and task.sized and getattr(args, task.sized) is not None
    if task is not None and args.size is not None and not sized:
        args.refuse("--image has a size of its own, and goes without --size")
    if args.instruction is not None and args.prompts:
        args.refuse("--instruction stands in place of PROMPT")
    controls = _controls(args)
    if task is None:
        return Chosen("text_to_image", (), {}, controls, _of_controls(controls))
    described = {
        flag.label: keywords[flag.name]
        for flag in WITH
        if flag.label and flag.name in keywords
    }
    described |= _of_controls(controls)
    pictures = (_picture(args.image),)
    if task.method == "inpaint":
        pictures += (_picture(args.mask),)
    elif task.method == "outpaint":
        keywords |= args.outpaint
        told = ",".join(f"{side}={count}" for side, count in args.outpaint.items())
        described["Outpaint"] = told
    elif task.method == "depth_to_image" and args.depth != "auto":
        _picture(args.depth)  # Refuses at once.
        keywords["depth"] = args.depth  # It may have 16 bits.
    return Chosen(task.method, pictures, keywords, controls, described)


def _picture(path):
    from kerasdiffusion.pictures.read import read_pictures

    return read_pictures(path)[0]


def _controls(args: argparse.Namespace) -> list[dict]:
    """Arguments of `Control`, one for each `--control`."""
    controls = [
        {"network": network, "picture": file} for network, file in args.control or ()
    ]
    for name in CONTROLS:
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

    name = file.removeprefix("edges:")
    return _picture(file) if name == file else canny_edges(name)


def _of_controls(controls: list[dict]) -> dict[str, str]:
    """What a picture's parameters say of controls."""
    return {
        f"Control {i}": " ".join(
            [control["network"]]
            + [f"{name}={control[name]:g}" for name in CONTROLS if name in control]
        )
        for i, control in enumerate(controls, 1)
    }
