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
        default=200,
        metavar="N",
        help="pictures (default: %(default)s)",
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

    model = StableDiffusion.from_preset(args.preset)
    if args.classifier.exists():
        classifier = keras.models.load_model(args.classifier)
    else:
        classifier = train_classifier(SceneConfig(), model.img_height)
        classifier.save(args.classifier)
    _, pictures, _ = evaluate(model, classifier, SceneConfig(), args.count)
    if args.sheet is not None:
        print(f"Wrote {images.save_png(images.grid(pictures[:64]), args.sheet)}")
    return 0
