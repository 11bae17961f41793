"""`kerasdiffusion train`: a model from nothing."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from kerasdiffusion.apps import options


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train the bundled model from nothing",
        description="Trains a model from nothing, on scenes that are rendered on the "
        "way. A run that was stopped goes on where it was. Takes hours on a CPU. "
        "Needs the font Noto Color Emoji (Debian: fonts-noto-color-emoji).",
        epilog="Example: kerasdiffusion train emoji --out runs/emoji",
    )
    parser.add_argument(
        "recipe",
        choices=["emoji", "starter"],
        help="what to train: 'emoji' paints all objects in 128x128 pixels, 'starter' "
        "149 of them in 64x64",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where checkpoints, logs and, in DIR/preset, the model go",
    )
    parser.add_argument(
        "--toy",
        action="store_true",
        help="a run of a minute, to see that everything works; it paints nothing",
    )
    parser.add_argument(
        "--precision",
        choices=options.PRECISIONS[1:-1],
        help="dtype policy of the networks (default: the recipe's, mixed_bfloat16 for "
        "'emoji', where float32 is faster on a CPU that does not multiply bfloat16)",
    )
    parser.add_argument(
        "--workers",
        type=options.whole,
        default=1,
        metavar="N",
        help="processes that render (default: %(default)s)",
    )
    parser.add_argument(
        "--sheets",
        type=options.whole,
        default=0,
        metavar="N",
        help="how often on the way the model so far is written, to DIR/so_far, and "
        "paints a sheet (default: never)",
    )
    parser.add_argument(
        "--start",
        metavar="MODEL",
        help="a preset of the recipe's geometry to begin with, in place of nothing: "
        "'emoji', or DIR/so_far of another run; its encoder stays as it is",
    )
    parser.add_argument(
        "--seed",
        type=options.whole,
        help="seed of the scenes and the draws, another one for other scenes than "
        "an earlier run's (default: the recipe's, 0)",
    )
    parser.add_argument(
        "--epochs",
        type=options.whole,
        metavar="N",
        help="epochs of the U-Net and the text encoder (default: the recipe's)",
    )
    options.add_backend_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains and says where the model is."""
    options.choose_backend(args.backend)
    from kerasdiffusion.training.bundled import emoji
    from kerasdiffusion.training.bundled.recipes import RECIPES

    recipe = RECIPES["toy" if args.toy else args.recipe]
    if args.precision is not None:
        recipe = dataclasses.replace(recipe, precision=args.precision)
    if args.seed is not None:
        recipe = dataclasses.replace(recipe, seed=args.seed)
    if args.epochs is not None:
        stage = dataclasses.replace(recipe.diffusion, epochs=args.epochs)
        recipe = dataclasses.replace(recipe, diffusion=stage)
    preset = emoji.train(args.out, recipe, args.workers, args.sheets, args.start)
    print(f'Wrote {preset}. Try it: kerasdiffusion generate --preset {preset} "..."')
    return 0
