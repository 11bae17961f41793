"""Flags of what a request has, made from its fields; and those of the model.

A flag's value is the field's own: checked as text here, written into the picture's
text under the field's label, and read from there.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kerasdiffusion.adapters.sources import VARIABLE
from kerasdiffusion.apps import options
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.requests.fields import Field
from kerasdiffusion.requests.kinds import Choice, Switch
from kerasdiffusion.requests.manner import CHEAPER, GUIDANCE, STEPS
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.requests.subject import WHAT
from kerasdiffusion.requests.telling import LARGE, TEXT

#: The titles of what every task takes, in the order of `--help`.
GROUPS = (STEPS, GUIDANCE, CHEAPER, TEXT, LARGE)


class Part(NamedTuple):
    """What a model is made with, as a flag.

    An argument of `StableDiffusion`; or what `quantize` or `load_embedding` takes.

    Args:
        name: The argument; the flag with dashes.
        metavar: What the help calls the value.
        help: What it does.
        label: Its name in a picture's text.
        choices: The values that it takes; any text by default.
    """

    name: str
    metavar: str | None
    help: str
    label: str
    choices: tuple[str, ...] | None = None


PARTS = (
    Part("vae", "SOURCE", "another autoencoder: a folder or file", "VAE"),
    Part("text_encoder", "SOURCE", "another (first) text encoder", "Text encoder"),
    Part("text_encoder_2", "SOURCE", "another second one", "Text encoder 2"),
    Part("unet", "SOURCE", "another U-Net", "U-Net"),
    Part(
        "embedding",
        "FILE",
        "a word to paint with, of textual inversion: the file's name, or its own",
        "Embedding",
    ),
    Part(
        "quantize",
        None,
        "keep the weights of the text encoders and the U-Net in 8 bits",
        "Quantization",
        ("int8",),
    ),
    Part(
        "prediction_type",
        None,
        "where it is not what the weights say",
        "Prediction type",
        ("epsilon", "v_prediction", "sample"),
    ),
    Part(
        "zero_terminal_snr",
        None,
        "whether the last training step is noise alone, likewise",
        "Zero terminal SNR",
        ("true", "false"),
    ),
)


#: What `--jit`, `--no-jit` and `--openvino` are called in a picture's text.
COMPILERS = {"jit": True, "none": False, "openvino": "openvino"}


def add_model_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--preset`."""
    parser.add_argument(
        "--preset",
        metavar="MODEL",
        help="the model: a preset's name, hf://owner/name, a folder or a file "
        f"(default: emoji, the bundled one). Presets: {', '.join(PRESETS)}",
    )


def add_paint_flags(
    parser: argparse.ArgumentParser, helps: Mapping[str, str] | None = None
) -> None:
    """Adds what every task takes, in groups.

    Args:
        parser: Of the command.
        helps: Of fields that do something else here.
    """
    group = parser.add_argument_group(WHAT)
    add_fields(group, in_group(WHAT), helps)
    group.add_argument(
        "--size",
        type=options.size,
        metavar="N|WxH",
        help="pixels, as 512 or 768x512. Where one of these is not given, the model "
        "has a default",
    )
    parser.add_argument(
        "--adapters",
        dest="folder_of_adapters",  # not the field that `--adapter` fills
        type=folder_of_adapters,
        metavar="DIR",
        help="the folder of the adapters that --adapter and <lora:NAME:WEIGHT> in "
        f"prompts name (default: what {VARIABLE} says)",
    )
    for title in GROUPS:
        add_fields(parser.add_argument_group(title), in_group(title), helps)
    group = parser.add_argument_group("the model's parts")
    for part in PARTS:
        group.add_argument(
            option(part.name),
            metavar=part.metavar,
            choices=part.choices,
            help=part.help,
        )
    options.add_strict_option(group)
    options.add_machine_options(parser)
    options.add_memory_option(parser)


def folder_of_adapters(text: str) -> Path:
    """The folder, which is looked in from now on."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(
            f"There must be such a folder. Received: {text}"
        )
    os.environ[VARIABLE] = str(path)
    return path


def in_group(title: str) -> list[Field]:
    """The fields with flags that stand under a title."""
    return [
        each
        for each in FIELDS.values()
        if each.asked.flag is not None and each.asked.group == title
    ]


def add_fields(
    group, fields: Iterable[Field], helps: Mapping[str, str] | None = None
) -> None:
    """Adds a flag for each field; what is not given is `None`."""
    for field in fields:
        own = field.asked
        help = (helps or {}).get(field.name) or own.flag.help or own.help
        arguments = {"dest": field.name, "help": help.replace("%", "%%")}
        if isinstance(own.kind, Switch):
            arguments |= {"action": "store_true", "default": None}
        else:
            choices = own.flag.choices
            if isinstance(own.kind, Choice):
                choices = choices or own.kind.names
            arguments |= {"type": reader(field), "metavar": own.flag.metavar}
            arguments |= {"choices": choices} if choices else {}
            if getattr(own.kind, "repeats", False):
                arguments["action"] = "extend"
        group.add_argument(flag_of(field.name), **arguments)


def reader(field: Field) -> Callable:
    """The type of a flag: from text to the field's value."""

    def read(text: str):
        try:
            return field.asked.kind.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return str if isinstance(field.asked.kind, Choice) else read


def flag_of(name: str) -> str:
    """`--guidance-scale` for the field `unconditional_guidance_scale`."""
    return option(FIELDS[name].asked.flag.name or name)


def option(name: str) -> str:
    """`--pag-scale` for `pag_scale`."""
    return f"--{name.replace('_', '-')}"


def given(args: argparse.Namespace) -> dict:
    """The fields of a request that were given, by name."""
    values = {name: getattr(args, name, None) for name in FIELDS}
    return {name: value for name, value in values.items() if value is not None}


def parts(args: argparse.Namespace) -> dict:
    """The model's parts that were given, by name."""
    values = {part.name: getattr(args, part.name) for part in PARTS}
    return {name: value for name, value in values.items() if value is not None}


def described(args: argparse.Namespace) -> dict[str, str]:
    """What a picture's text says of the model's parts, and of how it was computed."""
    found = parts(args)
    texts = {part.label: found[part.name] for part in PARTS if part.name in found}
    if args.precision != "auto":
        texts["Precision"] = args.precision
    if args.jit is not None:
        texts["Compiler"] = {jit: name for name, jit in COMPILERS.items()}[args.jit]
    return texts


def follow_machine(args: argparse.Namespace, parameters: Mapping) -> set[str]:
    """Sets how a text of this library says that it was computed, if no flag does.

    Returns:
        The labels that are followed.

    Raises:
        ValueError: If a value is none.
    """
    precision = str(parameters.get("Precision", "auto"))
    compiler = str(parameters.get("Compiler", "jit"))
    Choice(options.PRECISIONS).check(precision, "Precision")
    Choice(tuple(COMPILERS)).check(compiler, "Compiler")
    if args.precision == "auto":
        args.precision = precision
    if args.jit is None and "Compiler" in parameters:
        args.jit = COMPILERS[compiler]
    return {"Precision", "Compiler"}


def parts_in(parameters: Mapping) -> dict[str, str]:
    """The model's parts in a text that this library wrote.

    Raises:
        ValueError: If one is not what its flag takes.
    """
    found = {}
    for part in PARTS:
        if part.label not in parameters:
            continue
        value = found[part.name] = str(parameters[part.label])
        if part.choices and value not in part.choices:
            raise ValueError(
                f"{part.label!r} in a picture must be one of "
                f"{', '.join(part.choices)}. Received: {value}"
            )
    return found
