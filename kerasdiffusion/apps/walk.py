"""`kerasdiffusion walk`: an animation between prompts and seeds."""

from __future__ import annotations

import argparse

from kerasdiffusion.apps import flags, load, options
from kerasdiffusion.presets.named import find_preset


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "walk",
        help="paint the way between prompts",
        usage="%(prog)s PROMPT [PROMPT ...] FILE [options]",
        description="Paints the way from prompt to prompt, from seed to seed, or "
        "around a circle through noise, and writes it as a GIF or MP4. A file that "
        "exists is never overwritten.",
        epilog='Example: kerasdiffusion walk "a red apple on a blue background" '
        '"a dog on a blue background" --frames 24 --seed 1 walk.gif',
        intermixed=True,
    )
    parser.add_argument(
        "prompts",
        nargs="+",
        metavar="PROMPT",
        help="what to pass, in quotes and in this order",
    )
    parser.add_argument(
        "output", metavar="FILE", help="where to write; ends in .gif or .mp4"
    )
    flags.add_model_flag(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but the file's name"
    )
    group = parser.add_argument_group("the way")
    group.add_argument(
        "--frames",
        type=options.whole,
        default=60,
        metavar="N",
        help="pictures (default: 60)",
    )
    group.add_argument(
        "--fps",
        type=options.finite,
        default=12.0,
        metavar="X",
        help="pictures a second (default: 12)",
    )
    group.add_argument(
        "--closed",
        action="store_true",
        help="leads back to the first prompt and seed, for a film without end",
    )
    group.add_argument(
        "--circle",
        action="store_true",
        help="goes around a circle through the noise of two seeds; one prompt will do",
    )
    for name, default in (("text", "linear"), ("noise", "spherical")):
        group.add_argument(
            f"--{name}-path",
            choices=("linear", "spherical"),
            help=f"how {name} is mixed (default: {default})",
        )
    flags.add_paint_flags(
        parser,
        "frames that are painted at once (default: 1)",
        "one seed for all frames, or those to pass, as 1,2,3 (default: random)",
        options.seeds,
    )
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Paints, writes and says where."""
    from kerasdiffusion.pictures.animations import check_animation

    seeds = args.seed and (args.seed if len(args.seed) > 1 else args.seed[0])
    if args.circle:
        if args.closed or args.noise_path:
            args.refuse("--circle goes without --closed and --noise-path")
    elif len(args.prompts) == 1 and not isinstance(seeds, list):
        args.refuse("a walk is between two prompts, two seeds, or --circle")
    check_animation(args.output, args.fps).parent.mkdir(parents=True, exist_ok=True)
    args.preset = args.preset or "emoji"
    find_preset(args.preset)  # a mistyped name is said before a framework loads
    options.choose_backend(args.backend)
    from kerasdiffusion.pictures.animations import save_animation

    model = load.make_model(args)
    keywords = load.ready(model, args, flags.given(args, flags.KEYWORDS))
    task, names = model.circular_walk, ("text_path",)
    if not args.circle:
        task, names = model.interpolate, ("text_path", "noise_path", "closed")
    for name in names:
        if getattr(args, name):
            keywords[name] = getattr(args, name)
    frames = task(
        args.prompts,
        args.negative_prompt,
        args.batch_size,
        args.steps,
        args.guidance_scale,
        seeds,
        frames=args.frames,
        progress_bar=not args.quiet,
        **keywords,
    )
    path = save_animation(frames, args.output, args.fps)
    print(path if args.quiet else f"Wrote {path} ({len(frames)} frames)")
    if not args.quiet:
        load.say_what_painted(args, "walk")
    return 0
