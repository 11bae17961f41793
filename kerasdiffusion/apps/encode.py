"""`kerasdiffusion encode`: a folder of pictures as `teach` sees them, resumably."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from kerasdiffusion.apps import batch, options, outputs, teach
from kerasdiffusion.presets.named import find_preset
from kerasdiffusion.training.lessons.lesson import CAPTIONS, PICTURES, WHAT, Lesson

#: What of a lesson counts here.
FIELDS = ("instance_prompt", "resolution", "buckets", "upscale", "alpha_mask")


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "encode",
        help="encode pictures and captions for teach, and go on after any crash",
        description="Encodes pictures and their captions to latents and texts, by one "
        "process or a cluster. What is recorded as done is not encoded again. "
        "`kerasdiffusion teach FOLDER --encoded DIR/encoded`, with the same flags, "
        "then finds all of it.",
        epilog="Example: kerasdiffusion encode dog --base sd1.5 --out dog-encoded",
    )
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="pictures and captions, as `kerasdiffusion teach` takes them: a folder, "
        "or a table of paths and captions",
    )
    batch.add_place_flags(parser)
    parser.add_argument(
        "--base",
        default="emoji",
        metavar="MODEL",
        help="the model that is to be taught (default: emoji, the bundled toy)",
    )
    for title in (WHAT, PICTURES, CAPTIONS):
        fields = [
            each
            for each in dataclasses.fields(Lesson)
            if each.name in FIELDS and each.metadata["group"] == title
        ]
        group = parser.add_argument_group(title) if fields else None
        for each in fields:
            teach.add_field(group, each)
    batch.add_engine_flags(parser)
    group = parser.add_argument_group("how to compute")
    options.add_backend_option(group)
    group.add_argument(
        "--precision",
        choices=options.PRECISIONS,
        default="auto",
        help="as of teach, which takes mixed_bfloat16 for whole models where auto is "
        "half precision (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Encodes, and says how to teach with it."""
    find_preset(args.base)  # a mistyped name is said before a framework loads
    outputs.check_name(args.out)
    options.choose_backend(args.backend)
    from kerasdiffusion.batch.encoding import FOLDER, encode
    from kerasdiffusion.batch.going import Way

    given = {name: getattr(args, name) for name in FIELDS}
    lesson = Lesson(**{n: value for n, value in given.items() if value is not None})
    way = Way(
        args.engine,
        args.devices,
        args.address,
        retry_failed=args.retry_failed,
        progress_bar=not args.quiet,
    )
    how = {"precision": args.precision, "way": way}
    if args.quiet:
        how["report"] = lambda line: None
    with batch.saying_how_to_go_on(args):
        done = encode(args.folder, args.out, args.base, lesson, **how)
    code = batch.say(args, done, "Encoded")
    if not args.quiet:
        print(f"Teach with it: --encoded {args.out / FOLDER}")
    return code
