"""`kerasdiffusion evaluate`: how well a model of scenes paints what it is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from kerasdiffusion._version import __version__
from kerasdiffusion.apps import batch, options, outputs


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
        metavar="N",
        help="pictures of each of the three sets (default: 340; with --samplers and "
        "--weights 20 for each cell, with --inpainting 50, with --cheaper 100)",
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
        help="the steps of that table (default: 2 4 8 15 25 50), or of --cheaper (one "
        "number)",
    )
    parser.add_argument(
        "--cheaper",
        action="store_true",
        help="a table of what makes steps cheaper (a guidance interval, DeepCache, "
        "UCache, EasyCache, Spectrum, token merging, 8-bit weights): time of a "
        "picture, its U-Net calls, how far it is from the plain one, the share of "
        "pictures with the right object",
    )
    parser.add_argument(
        "--classifier",
        type=Path,
        metavar="FILE",
        help="where the classifier is kept; it is trained first if there is none, "
        "many minutes on a CPU; ends in .safetensors (default: in the user's "
        "cache)",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="also write a sheet: in each row a true render, the same through the "
        "autoencoder, and what was painted",
    )
    parser.add_argument(
        "--weights",
        choices=("a1111", "compel"),
        metavar="HOW",
        help="paint two objects as (this:0.5) and (that:1.5) and so on, and print "
        "which of them the classifier finds; a1111 or compel",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="in place of scenes, paint the captions of a folder of pictures (text "
        "files of their names, or metadata.jsonl), and print the CLIP score and the "
        'Fréchet distance to them; needs pip install ".[metrics]" in a checkout',
    )
    parser.add_argument(
        "--rows",
        type=Path,
        metavar="FILE",
        help="write what is painted to be judged as rows for `kerasdiffusion batch`, "
        "and paint nothing; ends in .jsonl",
    )
    parser.add_argument(
        "--of",
        type=outputs.place,
        metavar="DIR",
        help="judge the pictures of a batch: of --rows by the classifier, others by "
        "the CLIP score and, beside --reference, the Fréchet distance",
    )
    batch.add_engine_flags(parser, "with --of: where to compute")
    parser.add_argument(
        "--inpainting",
        action="store_true",
        help="paint a dog over an apple's region, and print in how many of 50 pictures "
        "the classifier finds it",
    )
    options.add_backend_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the scores."""
    options.choose_backend(args.backend)
    from kerasdiffusion.pictures import write
    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
    from kerasdiffusion.training.bundled.model_card import read_scenes
    from kerasdiffusion.training.judging import evaluate_cheaper as cheaper
    from kerasdiffusion.training.judging.evaluate import contact_sheet, evaluate
    from kerasdiffusion.training.judging.evaluate_inpainting import evaluate_inpainting
    from kerasdiffusion.training.judging.evaluate_samplers import (
        STEPS,
        evaluate_samplers,
        markdown,
    )
    from kerasdiffusion.training.judging.evaluate_weights import evaluate_weights
    from kerasdiffusion.training.judging.kept_classifier import check_place

    if args.rows is not None:
        from kerasdiffusion.batch.judging import write_rows

        scenes = read_scenes(args.preset)
        count = write_rows(args.rows, scenes, args.count or 340)
        print(f"Wrote {args.rows}, {count} rows")
        return 0
    if args.of is not None:
        return _of_batch(args)
    if args.reference is not None:
        return _beside_pictures(args)
    if args.classifier is not None:
        check_place(args.classifier)
    scenes = read_scenes(args.preset)
    model = StableDiffusion.from_preset(args.preset)
    classifier = _classifier(args, scenes, model.img_height)
    if args.samplers is not None:
        cells = evaluate_samplers(
            model,
            classifier,
            scenes,
            args.samplers,
            args.steps or STEPS,
            args.count or 20,
        )
        print(markdown(cells))
        return 0
    if args.weights is not None:
        count = args.count or 20
        evaluate_weights(model, classifier, scenes, count=count, weighting=args.weights)
        return 0
    if args.cheaper:
        eight_bit = StableDiffusion.from_preset(args.preset)
        eight_bit.quantize("int8")
        rows = cheaper.evaluate_cheaper(
            model,
            eight_bit,
            classifier,
            scenes,
            count=args.count or 100,
            num_steps=args.steps and args.steps[0],
        )
        print(cheaper.markdown(rows))
        return 0
    if args.inpainting:
        evaluate_inpainting(model, classifier, scenes, args.count or 50)
        return 0
    count = args.count or 340
    judged = evaluate(model, classifier, scenes, count)
    if args.sheet is not None:
        command = f"kerasdiffusion evaluate --preset {args.preset} --count {count}"
        told = {"prompt": "", "version": f"kerasdiffusion {__version__}"}
        told |= {"model": outputs.name_of(args.preset), "Made by": command}
        print(f"Wrote {write.save_png(contact_sheet(judged), args.sheet, told)}")
    return 0


def _of_batch(args: argparse.Namespace) -> int:
    """Prints how well a batch's pictures show what they were asked for."""
    from kerasdiffusion.batch import judging, spreading

    where = spreading.Here()
    if args.engine == "ray":
        where = spreading.OnCluster(args.devices, args.address)
    if judging.is_of_scenes(args.of):
        from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
        from kerasdiffusion.training.bundled.model_card import read_scenes

        scenes = read_scenes(args.preset)
        side = StableDiffusion(weights=args.preset).img_height
        given = judging.Sent(_classifier(args, scenes, side), scenes)
        lines = judging.judge(_absolute(args.of), scenes, given, where)
    else:
        lines = judging.figures(_absolute(args.of), args.reference, where)
    for line in lines:
        print(line)
    return 0


def _absolute(place: str | Path) -> str | Path:
    """The folder of a batch, wherever another process is."""
    return place if isinstance(place, str) else place.absolute()


def _beside_pictures(args: argparse.Namespace) -> int:
    """Prints how well a model paints the captions of pictures."""
    import numpy as np

    from kerasdiffusion.datasets import FolderDataset
    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
    from kerasdiffusion.training.judging.metrics import clip_score, frechet_distance

    model = StableDiffusion.from_preset(args.preset)
    data = FolderDataset(args.reference, image_size=model.img_height, seed=None)
    count = args.count or len(data.files)
    references, captions, _ = data.batch(0, min(count, len(data.files)))
    captions = [captions[i % len(captions)] for i in range(count)]
    pictures = np.concatenate(
        [
            model.text_to_image(caption, seed=2000 + i, progress_bar=False)
            for i, caption in enumerate(captions)
        ]
    )
    print(f"{count} pictures, {len(references)} references")
    print(f"CLIP score        {clip_score(pictures, captions):.2f}")
    print(f"Fréchet distance  {frechet_distance(pictures, references):.2f}")
    return 0


def _classifier(args: argparse.Namespace, scenes, image_size: int):
    """The classifier that is kept, or a new one."""
    from kerasdiffusion.training.judging.judge import train_classifier
    from kerasdiffusion.training.judging.kept_classifier import (
        read_classifier,
        save_classifier,
        usual_place,
    )

    path = args.classifier or usual_place(scenes, image_size)
    if path is not None and path.exists():
        return read_classifier(path, scenes)
    classifier = train_classifier(scenes, image_size)
    if path is not None:
        save_classifier(classifier, path)
    return classifier
