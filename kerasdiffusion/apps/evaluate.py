"""`kerasdiffusion evaluate`: how well a model of scenes paints what it is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from kerasdiffusion.apps import options


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="judge the pictures of a model of rendered scenes",
        description="Paints captions of rendered scenes, seen ones and ones that were "
        "held out, and prints in how many of the pictures a classifier names the "
        "object right, the border has the ground's colour and the object is in its "
        "place; beside the same for the true renders and for these through the "
        "model's autoencoder, which are ceilings, and for training pictures that are "
        "looked up, which are a floor. Needs the font Noto Color Emoji (Debian: "
        "fonts-noto-color-emoji).",
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
        help="pictures of each set (default: %(default)s)",
    )
    parser.add_argument(
        "--classifier",
        type=Path,
        metavar="FILE",
        help="where the classifier is kept; it is trained first if there is none, "
        "many minutes on a CPU (default: classifier-MODEL.keras)",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="also write a sheet: in each row a true render, the same through the "
        "autoencoder, and what was painted",
    )
    options.add_backend_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the scores."""
    options.choose_backend(args.backend)
    from kerasdiffusion import images
    from kerasdiffusion.stable_diffusion import StableDiffusion
    from kerasdiffusion.training.evaluate import contact_sheet, evaluate

    scenes = _scenes(args.preset)
    model = StableDiffusion.from_preset(args.preset)
    classifier = _classifier(args, scenes, model.img_height)
    judged = evaluate(model, classifier, scenes, args.count)
    if args.sheet is not None:
        print(f"Wrote {images.save_png(contact_sheet(judged), args.sheet)}")
    return 0


def _scenes(preset: str):
    """What a preset was trained on."""
    from kerasdiffusion.presets import PRESETS
    from kerasdiffusion.training.model_card import read_scenes
    from kerasdiffusion.weights import hub

    source = PRESETS[preset].source if preset in PRESETS else preset
    return read_scenes(hub.resolve(source, configs_only=True))


def _classifier(args: argparse.Namespace, scenes, image_size: int):
    """The classifier that is kept, or a new one."""
    import keras

    from kerasdiffusion.training.judge import train_classifier

    path = args.classifier
    if path is None:
        path = Path(f"classifier-{Path(args.preset).name}.keras")
    if path.exists():
        return keras.models.load_model(path, compile=False)
    classifier = train_classifier(scenes, image_size)
    classifier.save(path)
    return classifier
