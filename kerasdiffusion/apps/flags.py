"""The keywords that tasks share, as flags: one row each.

A row's flag is the keyword's name with dashes. What was given reaches the task, is
written into the picture's parameters under the row's label, and is read from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kerasdiffusion.apps import options
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.requests.web_ui_names import WEB_UI_NAMES


class Flag(NamedTuple):
    """A keyword on the command line.

    Args:
        name: The keyword; the flag with dashes.
        kind: From text to value.
        metavar: What the help calls the value.
        help: What it does.
        label: Its name in a picture's parameters; `None` for those that `generate`
            writes on its own.
        more: Other arguments of `add_argument`.
    """

    name: str
    kind: Callable
    metavar: str | None
    help: str
    label: str | None = None
    more: Mapping = {}


ALONE = [
    name for name in WEB_UI_NAMES if not name.endswith(("_karras", "_exponential"))
]
SAMPLING = (
    Flag(
        "sampler",
        options.sampler,
        "NAME",
        f"one of {', '.join(ALONE)}, most also with _karras or _exponential behind; "
        "or what other programs call it",
    ),
    Flag(
        "spacing",
        options.spacing,
        "NAME",
        "how the steps are spaced: karras, trailing, sgm_uniform and others (default: "
        "the sampler's own)",
    ),
    Flag(
        "timesteps",
        options.numbers(),
        "T,T,...",
        "in place of --steps: training steps, falling numbers from 999 to 0",
        "Timesteps",
    ),
    Flag(
        "sigmas",
        options.numbers(),
        "S,S,...",
        "in place of --steps: noise levels, falling numbers above 0",
    ),
    Flag(
        "eta", options.finite, "X", "fresh noise, for samplers that take it: 0 is none"
    ),
    Flag("s_churn", options.finite, "X", "noise ahead of steps, for some samplers"),
    Flag("s_noise", options.finite, "X", "what fresh noise is multiplied by"),
    Flag(
        "rng",
        str,
        None,
        "whose noise a seed stands for: this library's, diffusers' and ComfyUI's, or "
        "the web UI's (default: numpy)",
        more={"choices": ("numpy", "torch", "torch-cuda")},
    ),
    Flag("variation_seed", options.seed, "N", "a seed to go towards"),
    Flag(
        "variation_strength",
        options.finite,
        "X",
        "how far to go towards it, 0 to 1",
    ),
)
GUIDANCE = (
    Flag(
        "guidance_rescale",
        options.share,
        "X",
        "draws contrast back to the prompt's own, 0 to 1 (Lin et al. 2024)",
        "Guidance rescale",
    ),
    Flag(
        "guidance_interval",
        options.numbers(2, 2),
        "LOW,HIGH",
        "guides only at these noise levels, as sigmas (Kynkäänniemi et al. 2024)",
        "Guidance interval",
    ),
    Flag(
        "dynamic_thresholding",
        options.numbers(1, 2),
        "SCALE[,SHARE]",
        "the range of this lower guidance scale; what is beyond the share is cut",
        "Dynamic thresholding",
    ),
    Flag(
        "apg",
        options.numbers(1, 3),
        "ETA[,NORM[,MOMENTUM]]",
        "adaptive projected guidance, for large scales: 0,7.5,-0.75 as in Sadat et al. "
        "2024",
        "APG",
    ),
    Flag(
        "pag_scale",
        options.finite,
        "X",
        "perturbed-attention guidance, 3 for example (Ahn et al. 2024)",
        "PAG scale",
    ),
    Flag(
        "pag_applied_layers",
        options.names,
        "NAME,...",
        "the self-attention that it perturbs: mid, down, up or a layer (default: mid)",
        "PAG layers",
    ),
    Flag(
        "sag_scale",
        options.finite,
        "X",
        "self-attention guidance, 0.75 for example (Hong et al. 2022)",
        "SAG scale",
    ),
    Flag(
        "freeu",
        options.numbers(4, 4),
        "B1,B2,S1,S2",
        "FreeU's factors (Si et al. 2023), 1.5,1.6,0.9,0.2 for SD 1",
        "FreeU",
    ),
)
CHEAPER = (
    Flag(
        "deep_cache",
        options.numbers(1, 2),
        "N[,BRANCH]",
        "runs the whole U-Net in every N-th step, its outer layers alone in the others "
        "(DeepCache, Ma et al. 2023)",
        "DeepCache",
    ),
    Flag(
        "merge_tokens",
        options.finite,
        "X",
        "the share of pixels that self-attention merges, 0 to 0.75 (ToMe, Bolya and "
        "Hoffman 2023)",
        "Token merging ratio",
    ),
)
TEXT = (
    Flag(
        "clip_skip",
        options.whole,
        "N",
        "leaves the text encoder behind its last layer (1), the one before (2), ...",
        "clip_skip",
    ),
    Flag(
        "prompt_weighting",
        str,
        None,
        "what (weights:1.2) in prompts do (default: a1111)",
        "Prompt weighting",
        {"choices": ("a1111", "compel", "none")},
    ),
    Flag(
        "prompt_2",
        str,
        "TEXT",
        "what SDXL's second text encoder reads (default: the prompt)",
        "Prompt 2",
    ),
    Flag(
        "negative_prompt_2",
        str,
        "TEXT",
        "the same for the negative prompt",
        "Negative prompt 2",
    ),
)
SIZES = (
    Flag(
        "original_size",
        options.size,
        "N|WxH",
        "what SDXL is told of a picture's size before it was scaled",
        "Original size",
    ),
    Flag(
        "target_size", options.size, "N|WxH", "and of its size after it", "Target size"
    ),
    Flag(
        "crop",
        options.numbers(2, 2),
        "TOP,LEFT",
        "and of the pixels that were cut off",
        "Crop",
    ),
    Flag(
        "aesthetic_score",
        options.finite,
        "X",
        "how beautiful SDXL's refiner is told the picture is, 1 to 10",
        "Aesthetic score",
    ),
    Flag(
        "negative_aesthetic_score",
        options.finite,
        "X",
        "the same for the negative prompt",
        "Negative aesthetic score",
    ),
)
REFINER = (
    Flag("refiner", str, "MODEL", "a model that takes the last steps", "Refiner"),
    Flag(
        "refiner_start",
        options.share,
        "X",
        "the share of the noise levels after which it does (default: 0.8)",
        "Refiner start",
    ),
)
#: Arguments of `StableDiffusion` itself, and the mode of its `quantize`.
PARTS = (
    Flag("vae", str, "SOURCE", "another autoencoder: a folder or file", "VAE"),
    Flag("text_encoder", str, "SOURCE", "another (first) text encoder", "Text encoder"),
    Flag(
        "quantize",
        str,
        None,
        "keep the weights of the text encoders and the U-Net in 8 bits",
        "Quantization",
        {"choices": ("int8",)},
    ),
    Flag(
        "prediction_type",
        str,
        None,
        "where it is not what the weights say",
        "Prediction type",
        {"choices": ("epsilon", "v_prediction", "sample")},
    ),
)
KEYWORDS = (*SAMPLING, *GUIDANCE, *CHEAPER, *TEXT, *SIZES, *REFINER)
GROUPS = (
    ("steps and noise", SAMPLING),
    ("guidance", GUIDANCE),
    ("cheaper steps", CHEAPER),
    ("text", TEXT),
    ("Stable Diffusion XL", (*SIZES, *REFINER)),
    ("the model's parts", PARTS),
)


def add_model_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--preset`."""
    parser.add_argument(
        "--preset",
        metavar="MODEL",
        help="the model: a preset's name, hf://owner/name, a folder or a file "
        f"(default: emoji, the bundled one). Presets: {', '.join(PRESETS)}",
    )


def add_paint_flags(
    parser: argparse.ArgumentParser,
    batch_size: str,
    seed: str,
    seed_type: Callable = options.seed,
) -> None:
    """Adds what every task takes, in groups.

    Args:
        parser: Of the command.
        batch_size: Help of `--batch-size`.
        seed: Help of `--seed`.
        seed_type: Its type.
    """
    group = parser.add_argument_group("what to paint")
    group.add_argument(
        "--negative-prompt", metavar="TEXT", help="what to keep away from"
    )
    group.add_argument(
        "--batch-size",
        type=options.whole,
        default=1,
        metavar="N",
        help=batch_size,
    )
    group.add_argument(
        "--steps", type=options.whole, metavar="N", help="denoising steps"
    )
    group.add_argument(
        "--guidance-scale",
        type=options.finite,
        metavar="X",
        help="how strongly the prompt guides; 1 is not at all",
    )
    group.add_argument("--seed", type=seed_type, metavar="N", help=seed)
    group.add_argument(
        "--size",
        type=options.size,
        metavar="N|WxH",
        help="pixels, as 512 or 768x512. Where one of these is not given, the model "
        "has a default",
    )
    for title, flags in GROUPS:
        group = parser.add_argument_group(title)
        for flag in flags:
            group.add_argument(
                option(flag.name),
                type=flag.kind,
                metavar=flag.metavar,
                help=flag.help,
                **flag.more,
            )
    options.add_machine_options(parser)
    options.add_memory_option(parser)


def option(name: str) -> str:
    """`--pag-scale` for `pag_scale`."""
    return f"--{name.replace('_', '-')}"


def given(args: argparse.Namespace, flags) -> dict:
    """The values that were given, by the keywords' names."""
    values = {flag.name: getattr(args, flag.name) for flag in flags}
    return {name: value for name, value in values.items() if value is not None}


def described(values: Mapping) -> dict[str, object]:
    """Keywords as a picture's parameters: labels and texts."""
    return {
        flag.label: _written(flag, values[flag.name])
        for flag in (*KEYWORDS, *PARTS)
        if flag.label and flag.name in values
    }


def _written(flag: Flag, value):
    """A value as its flag takes it; several are joined by commas."""
    if flag.kind is options.size:
        return f"{value[1]}x{value[0]}"
    if isinstance(value, (list, tuple)):
        return ",".join(str(each).removesuffix(".0") for each in value)
    return value


def read(parameters: Mapping) -> tuple[dict, set[str]]:
    """Keywords from parameters that `described` wrote, and the labels of these.

    Of other programs' pictures only what means the same there is read.

    Raises:
        ValueError: If one is not what its flag takes.
    """
    ours = str(parameters.get("version", "")).startswith("kerasdiffusion")
    found, labels = {}, set()
    for flag in (*KEYWORDS, *PARTS):
        if flag.label in parameters and (ours or flag.label == "clip_skip"):
            try:
                found[flag.name] = flag.kind(str(parameters[flag.label]))
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"{flag.label!r} in a picture {error}") from None
            labels.add(flag.label)
    return found, labels
