"""`kerasdiffusion generate`: pictures of prompts."""

from __future__ import annotations

import argparse
from pathlib import Path

from kerasdiffusion.apps import flags, follow, load, options, outputs, tasks
from kerasdiffusion.presets.named import find_preset


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "generate",
        usage="%(prog)s [PROMPT ...] [options]",
        help="paint pictures of prompts",
        description="Paints pictures of prompts and writes them as PNG files, with "
        "the parameters in them (`kerasdiffusion show` prints these). A file that "
        "exists is never overwritten.",
        epilog='Example: kerasdiffusion generate "a red apple on a blue background" '
        "--seed 1",
    )
    parser.add_argument(
        "prompts",
        nargs="*",
        metavar="PROMPT",
        help="what to paint, in quotes; several give pictures of each",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="a picture of this library, AUTOMATIC1111's web UI, ComfyUI or another "
        "program, to be painted again as it says; options given here count more",
    )
    parser.add_argument(
        "--fetch",
        action="store_true",
        help="fetch the models that --from names, where they are not here yet",
    )
    flags.add_model_flag(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("."),
        metavar="PATH",
        help="where to write: a file that ends in .png, or a folder, where a picture "
        "is named after its prompt and seed (default: here)",
    )
    parser.add_argument(
        "--grid", action="store_true", help="write one picture of all, side by side"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but the files' names"
    )
    tasks.add_task_flags(parser)
    flags.add_paint_flags(parser)
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Paints, writes and says where."""
    from kerasdiffusion.requests.batches import of_grid
    from kerasdiffusion.requests.text import described, seeded

    followed = follow.read(args) if args.source is not None else None
    chosen = tasks.choose(args)
    prompts = args.prompts if args.instruction is None else [args.instruction]
    if not prompts:
        args.refuse("the following arguments are required: PROMPT")
    args.preset = args.preset or "emoji"
    find_preset(args.preset)  # a mistyped name is said before a framework loads
    name = "prompt" if args.instruction is None else "instruction"
    fields = chosen.fields | {name: prompts, "progress_bar": not args.quiet}
    request = seeded(load.make_request(chosen.task, fields, chosen.controls))
    outputs.check(args.output)
    options.choose_backend(args.backend)
    from kerasdiffusion.pictures import write

    model = load.make_model(args)
    if followed is not None:
        request = request.replace(**followed.sampling(args, model.config.schedule))
    size = model.img_height, model.img_width
    name = outputs.name_of(args.preset)
    texts = described(request, model.config.generation, size, name)
    pictures = load.paint(model, request)
    beside = flags.described(args) | tasks.described(args, size)
    size = request.told_size(pictures.shape[1:3], size)
    if followed is not None and followed.position is not None:
        only = slice(followed.position, followed.position + 1)
        pictures, texts = pictures[only], texts[only]
    if args.grid:
        sheet = write.grid(pictures)
        texts = [of_grid(texts, sheet.shape[1] // size[1])]
        pictures = [sheet]
    for picture, text in zip(pictures, texts, strict=True):
        text |= {"height": size[0], "width": size[1], **beside}
        path, seed = args.output, text["seed"]
        if not outputs.is_file(path):
            path = path / write.filename_for(text["prompt"], seed)
        path = write.save_png(picture, path, text)
        print(path if args.quiet else f"Wrote {path} (seed {seed})")
    if not args.quiet:
        load.say_what_painted(args, "generate")
    return 0
