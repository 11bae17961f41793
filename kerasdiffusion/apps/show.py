"""`kerasdiffusion show`: how pictures were made, and what makes them here."""

from __future__ import annotations

import argparse
import re
import traceback
from pathlib import Path

from kerasdiffusion.apps import cli, options

# All but line breaks and tabs; and what turns the direction of writing.
_CONTROL = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]"
)


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "show",
        help="print how a picture was made, what is in a file of weights, or what this "
        "machine does by default",
        description="Prints the prompt and the other parameters that are written in "
        "PNG, JPEG and WebP files by this library, AUTOMATIC1111's web UI, ComfyUI, "
        "SwarmUI, Fooocus, InvokeAI, NovelAI, Draw Things and Easy Diffusion.",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", type=Path, help="a picture, or weights"
    )
    parser.add_argument(
        "--machine",
        action="store_true",
        help="print the backend, the device and the precision that are taken here",
    )
    options.add_backend_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints each file's parameters; a file without some does not stop the others."""
    from kerasdiffusion.adapters.telling import describe_file, is_weights
    from kerasdiffusion.pictures import metadata

    if not args.files and not args.machine:
        raise ValueError("`show` takes files, or --machine. Received: neither")
    if args.machine:
        options.choose_backend(args.backend)
        from kerasdiffusion.compute import backend

        for name, value in backend.describe_machine().items():
            print(f"{name}: {value}")
    code = 0
    for path in args.files:
        try:
            if is_weights(path):
                parameters = describe_file(path)
            else:
                parameters = metadata.read_parameters(path)
        except Exception as error:  # whatever is wrong with one, the next are shown
            if args.traceback:
                traceback.print_exc()
            cli.report(error)
            code = cli.FAILED
            continue
        if len(args.files) > 1:
            print(f"{path}:")
        for name, value in parameters.items():
            if value != "":
                print(f"{printable(name.replace('_', ' '))}: {printable(value)}")
    return code


def printable(value) -> str:
    """Text that a terminal prints and does not obey: control characters are written."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], str(value))
