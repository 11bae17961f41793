"""`kerasdiffusion walk`: an animation between prompts and seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

from kerasdiffusion.apps import flags, follow, load, options, outputs
from kerasdiffusion.presets.named import find_preset
from kerasdiffusion.requests.subject import WAY

#: Frames, and how many a second, where nobody says how many.
FRAMES, SPEED = 60, 12.0
#: What flags do here.
HELPS = {
    "frames": f"pictures (default: {FRAMES})",
    "batch_size": "frames that are painted at once (default: 1)",
    "seed": "one seed for all frames, or those to pass, as 1,2,3 (default: random)",
}


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "walk",
        help="paint the way between prompts",
        usage="%(prog)s PROMPT [PROMPT ...] FILE [options]",
        description="Paints the way from prompt to prompt, from seed to seed, or "
        "around a circle through noise, and writes it as a GIF or MP4, with the "
        "parameters in it (`kerasdiffusion show` prints these). A file that exists is "
        "never overwritten.",
        epilog='Example: kerasdiffusion walk "a red apple on a blue background" '
        '"a dog on a blue background" --frames 24 --seed 1 walk.gif',
        intermixed=True,
    )
    parser.add_argument(
        "prompts",
        nargs="*",
        metavar="PROMPT",
        help="what to pass, in quotes and in this order",
    )
    parser.add_argument(
        "output", metavar="FILE", help="where to write; ends in .gif or .mp4"
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="an animation that this command wrote, to be painted again as it says; "
        "prompts and options given here count more",
    )
    parser.add_argument(
        "--fetch",
        action="store_true",
        help="fetch the models that --from names, where they are not here yet",
    )
    flags.add_model_flag(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but the file's name"
    )
    group = parser.add_argument_group(WAY)
    flags.add_fields(group, flags.in_group(WAY), HELPS)
    group.add_argument(
        "--fps",
        type=options.finite,
        metavar="X",
        help=f"pictures a second (default: {SPEED:g})",
    )
    group.add_argument(
        "--circle",
        action="store_true",
        help="goes around a circle through the noise of two seeds; one prompt will do",
    )
    flags.add_paint_flags(parser, HELPS)
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Paints, writes and says where."""
    from kerasdiffusion.pictures.animations import check_animation
    from kerasdiffusion.requests.text import described_walk, seeded

    if args.source is not None:
        follow.read_walk(args)
    elif not args.prompts:
        args.refuse("the following arguments are required: PROMPT, or --from")
    if args.circle:
        if args.closed or args.noise_path:
            args.refuse("--circle goes without --closed and --noise-path")
    elif len(args.prompts) == 1 and not isinstance(args.seed, tuple):
        args.refuse("a walk is between two prompts, two seeds, or --circle")
    fps = SPEED if args.fps is None else args.fps
    output = check_animation(args.output, fps)
    outputs.check_name(output)
    outputs.check_writable(output.parent, output)
    outputs.check_name(output)  # now that its folder is there
    args.preset = args.preset or "emoji"
    find_preset(args.preset)  # a mistyped name is said before a framework loads
    fields = {"frames": FRAMES, **flags.given(args)}
    fields |= {"prompt": args.prompts, "progress_bar": not args.quiet}
    task = "circular_walk" if args.circle else "interpolate"
    request = seeded(load.make_request(task, fields, ()))
    options.choose_backend(args.backend)
    from kerasdiffusion.pictures.animations import comment_for, save_animation

    model = load.make_model(args)
    name, generation = outputs.name_of(args.preset), model.config.generation
    size = model.img_height, model.img_width
    told = described_walk(request, generation, size, name) | flags.described(args)
    if fps != SPEED:
        told[follow.FPS] = fps
    comment_for(output, told)  # refuses at once
    frames = load.paint(model, request)
    path = save_animation(frames, args.output, fps, told)
    print(path if args.quiet else f"Wrote {path} ({len(frames)} frames)")
    if not args.quiet:
        load.say_what_painted(args, "walk")
    return 0
