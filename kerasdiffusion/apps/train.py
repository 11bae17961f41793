"""`kerasdiffusion train`: a model from nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from kerasdiffusion.apps import options


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train the bundled model from nothing",
        description="Trains the bundled model from nothing, on scenes that are "
        "rendered on the way. A run that was stopped goes on where it was. Hours on a "
        "CPU. Needs the font Noto Color Emoji (Debian: fonts-noto-color-emoji).",
        epilog="Example: kerasdiffusion train emoji --out runs/emoji",
    )
    parser.add_argument("recipe", choices=["emoji"], help="what to train")
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
    options.add_backend_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains and says where the model is."""
    options.choose_backend(args.backend)
    from kerasdiffusion.training import emoji

    preset = emoji.train(args.out, emoji.TOY if args.toy else emoji.Recipe())
    print(f'Wrote {preset}. Try it: kerasdiffusion generate --preset {preset} "..."')
    return 0
