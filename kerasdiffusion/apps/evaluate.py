"""`kerasdiffusion evaluate`: how well a model of scenes paints what it is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from kerasdiffusion.apps import options


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="judge the pictures of the bundled model",
        description="Paints captions of rendered scenes and prints how often a "
        "classifier, trained apart from the model, names the object right and the "
        "border has the ground's colour; beside the same for the true renders, and "
        "for these through the model's autoencoder. Needs the font Noto Color Emoji "
        "(Debian: fonts-noto-color-emoji).",
    )
    parser.add_argument(
        "--preset",
        default="emoji",
        metavar="MODEL",
        help="a model of rendered scenes (default: %(default)s)",
    )
    parser.add_argument(
        "--count",
        type=options.whole,
        metavar="N",
        help="pictures (default: 200; with --samplers and --weights 20 for each cell)",
    )
    parser.add_argument(
        "--samplers",
        nargs="*",
        type=options.sampler,
        metavar="NAME",
        help="a table of these samplers (the usual ones, if none is named) by steps: "
        "the share of pictures with the right object and, for those that add no "
        "noise, the distance of the latents from a run of 1,000 steps from the same "
        "noise",
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        type=options.whole,
        metavar="N",
        help="the steps of that table (default: 2 4 8 15 25 50)",
    )
    parser.add_argument(
        "--classifier",
        type=Path,
        default=Path("classifier.keras"),
        metavar="FILE",
        help="where the classifier is kept; it is trained first if there is none, "
        "some minutes on a CPU (default: %(default)s)",
    )
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="also write a sheet of pictures"
    )
    parser.add_argument(
        "--weights",
        choices=("a1111", "compel"),
        metavar="HOW",
        help="paint two objects as (this:0.5) and (that:1.5) and so on, and print "
        "which of them the classifier finds; a1111 or compel",
    )
    options.add_backend_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the scores."""
    options.choose_backend(args.backend)
    import keras

    from kerasdiffusion import images
    from kerasdiffusion.datasets import SceneConfig
    from kerasdiffusion.stable_diffusion import StableDiffusion
    from kerasdiffusion.training.classifier import train_classifier
    from kerasdiffusion.training.evaluate import evaluate
    from kerasdiffusion.training.evaluate_samplers import (
        STEPS,
        evaluate_samplers,
        markdown,
    )
    from kerasdiffusion.training.evaluate_weights import evaluate_weights

    model = StableDiffusion.from_preset(args.preset)
    if args.classifier.exists():
        classifier = keras.models.load_model(args.classifier)
    else:
        classifier = train_classifier(SceneConfig(), model.img_height)
        classifier.save(args.classifier)
    if args.samplers is not None:
        cells = evaluate_samplers(
            model,
            classifier,
            SceneConfig(),
            args.samplers,
            args.steps or STEPS,
            args.count or 20,
        )
        print(markdown(cells))
        return 0
    if args.weights is not None:
        evaluate_weights(
            model,
            classifier,
            SceneConfig(),
            count=args.count or 20,
            weighting=args.weights,
        )
        return 0
    _, pictures, _ = evaluate(model, classifier, SceneConfig(), args.count or 200)
    if args.sheet is not None:
        print(f"Wrote {images.save_png(images.grid(pictures[:64]), args.sheet)}")
    return 0
