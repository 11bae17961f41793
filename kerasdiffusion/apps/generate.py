"""`kerasdiffusion generate`: pictures of prompts."""

from __future__ import annotations

import argparse
import inspect
import os
import warnings
from pathlib import Path

from kerasdiffusion._version import __version__
from kerasdiffusion.apps import flags, load, options, tasks
from kerasdiffusion.presets.named import PRESETS, find_preset
from kerasdiffusion.requests.web_ui_names import WEB_UI_NAMES
from kerasdiffusion.storage.places import expand_user

OTHER_FORMATS = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


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
        help="a PNG of this library, AUTOMATIC1111's web UI or ComfyUI, to be painted "
        "again as it says; options given here count more",
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
    flags.add_paint_flags(
        parser,
        "pictures of each prompt (default: 1)",
        "the first picture's seed; each next one has the next (default: random)",
    )
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Paints, writes and says where."""
    from kerasdiffusion.apps import reproduce
    from kerasdiffusion.presets.config import ScheduleConfig
    from kerasdiffusion.sampling.noise import resolve_seeds

    parameters = {} if args.source is None else _read(args)
    chosen = tasks.choose(args)
    reproduce.sampling_options(parameters, ScheduleConfig())  # Refuses at once.
    if args.instruction is not None:
        args.prompts = [args.instruction]
    if not args.prompts:
        args.refuse("the following arguments are required: PROMPT")
    args.preset = args.preset or "emoji"
    find_preset(args.preset)  # a mistyped name is said before a framework loads
    prompts = [prompt for prompt in args.prompts for _ in range(args.batch_size)]
    same = args.variation_strength or parameters.get("Variation seed strength")
    seeds = resolve_seeds(args.seed, 1 if same else len(prompts))
    seeds = seeds * (len(prompts) if same else 1)
    _check_output(args.output)
    options.choose_backend(args.backend)
    from kerasdiffusion.pictures import write

    model = load.make_model(args)
    sampling = {}
    if parameters:
        sampling = reproduce.sampling_options(parameters, model.config.schedule)
    own = flags.given(args, flags.KEYWORDS)
    if args.steps is not None or {"spacing", "sigmas", "timesteps"} & set(own):
        sampling.pop("sigmas", None)
    if {"sigmas", "timesteps"} & set(own):
        sampling.pop("num_steps", None)
        sampling.pop("spacing", None)
    sampling |= own
    if args.steps is not None:
        sampling["num_steps"] = args.steps
    task = getattr(model, chosen.method)
    known = inspect.signature(task).parameters
    if "strength" in known:
        sampling["strength"] = known["strength"].default
    sampling |= chosen.keywords
    pictures = task(
        *chosen.pictures,
        args.prompts,
        args.negative_prompt,
        args.batch_size,
        unconditional_guidance_scale=args.guidance_scale,
        seed=seeds,
        progress_bar=not args.quiet,
        **load.ready(model, args, sampling, chosen.controls),
    )
    size = pictures.shape[1:3]
    if args.grid:
        pictures, prompts, seeds = [write.grid(pictures)], prompts[:1], seeds[:1]
    for picture, prompt, seed in zip(pictures, prompts, seeds, strict=True):
        path = args.output
        if not _is_file(path):
            path = path / write.filename_for(prompt, seed)
        described = describe(model, args, sampling, prompt, seed, size)
        described |= chosen.described
        path = write.save_png(picture, path, described)
        print(path if args.quiet else f"Wrote {path} (seed {seed})")
    if not args.quiet:
        load.say_what_painted(args, "generate")
    return 0


def _read(args: argparse.Namespace) -> dict:
    """The parameters of `--from`; what is not given is set from them."""
    from kerasdiffusion.apps import reproduce
    from kerasdiffusion.pictures import write

    parameters = write.read_parameters(args.source)
    for name in ("negative_prompt", "guidance_scale", "seed"):
        if getattr(args, name) is None:
            setattr(args, name, parameters.get(name))
    if not args.prompts:
        args.prompts = [parameters["prompt"]] if parameters.get("prompt") else []
    if args.size is None and "width" in parameters and "height" in parameters:
        args.size = parameters["height"], parameters["width"]
    if args.preset is None and parameters.get("model") in PRESETS:
        args.preset = parameters["model"]
    found, followed = flags.read(parameters)
    for name, value in found.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    unsupported = reproduce.unsupported(parameters)
    unsupported = [name for name in unsupported if name not in followed]
    if args.image is None:
        unsupported += ["strength"] * ("strength" in parameters)
    elif args.strength is None and not (args.instruction or args.upscale):
        args.strength = parameters.get("strength")
    for name in unsupported:
        warnings.warn(f"{name!r} of {args.source} is not followed.", stacklevel=2)
    return parameters


def describe(
    model,
    args: argparse.Namespace,
    sampling: dict,
    prompt: str,
    seed: int,
    size: tuple[int, int],
) -> dict:
    """How a picture was made, as arguments of `format_parameters`."""
    from kerasdiffusion.sampling.samplers import find_sampler

    defaults = model.config.generation
    canonical = find_sampler(sampling.get("sampler", defaults.sampler)).name
    sampler, schedule_type = WEB_UI_NAMES[canonical]
    scale = args.guidance_scale
    own = sampling.get("sigmas", sampling.get("timesteps", ()))
    steps = sampling.get("num_steps", len(own))
    rngs = {name: name for name in options.RNGS[1:]} | {
        "torch": "CPU",
        "torch-cuda": "NV",
    }
    return {
        "prompt": prompt,
        "negative_prompt": args.negative_prompt,
        "steps": steps or defaults.num_steps,
        "sampler": sampler,
        "schedule_type": schedule_type,
        "guidance_scale": defaults.guidance_scale if scale is None else scale,
        "seed": seed,
        "height": size[0],
        "width": size[1],
        "model": _model_name(args.preset),
        "version": f"kerasdiffusion {__version__}",
        "strength": sampling.get("strength"),
        "Spacing": sampling.get("spacing"),
        "Sigmas": sampling.get("sigmas") and " ".join(map(str, sampling["sigmas"])),
        "Eta": sampling.get("eta"),
        "Sigma churn": sampling.get("s_churn"),
        "Sigma noise": sampling.get("s_noise"),
        "RNG": rngs.get(sampling.get("rng")),
        "Variation seed": sampling.get("variation_seed"),
        "Variation seed strength": sampling.get("variation_strength"),
        **flags.described(sampling | flags.given(args, flags.PARTS)),
    }


def _model_name(preset: str) -> str:
    """A preset's or a hub model's name; of a path, what it ends in."""
    if preset in PRESETS or "://" in preset:
        return preset.partition("://")[2] or preset
    path = expand_user(preset).resolve()
    return path.name if path.is_dir() else path.stem


def _is_file(path: Path) -> bool:
    return path.suffix.lower() == ".png" and not path.is_dir()


def _check_output(path: Path) -> None:
    """Makes the folder, so that a place that cannot be written is known at once."""
    if path.suffix.lower() in OTHER_FORMATS and not path.is_dir():
        raise ValueError(
            f"--output must be a file that ends in .png, or a folder. Received: {path}"
        )
    folder = path.parent if _is_file(path) else path
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--output must be in a folder. Received: {path}")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--output must be where you may write. Received: {path}")
