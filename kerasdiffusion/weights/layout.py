"""Where the files of a part lie in a model folder, on a disk or on the hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

PARTS = (
    "text_encoder",
    "text_encoder_2",
    "diffusion_model",
    "image_encoder",
    "decoder",
)

# Folder and stems of the weights files in diffusers' layout.
FOLDERS = {
    "text_encoder": ("text_encoder", ("model", "pytorch_model")),
    "text_encoder_2": ("text_encoder_2", ("model", "pytorch_model")),
    "diffusion_model": ("unet", ("diffusion_pytorch_model",)),
    "image_encoder": ("vae", ("diffusion_pytorch_model",)),
    "decoder": ("vae", ("diffusion_pytorch_model",)),
}

# The field of `ModelConfig` that describes each part.
FIELDS = {
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
    "diffusion_model": "diffusion_model",
    "image_encoder": "autoencoder",
    "decoder": "autoencoder",
}

# KerasCV's files, by the names under which they are published.
KERAS_CV = {
    "text_encoder": "kcv_encoder.h5",
    "diffusion_model": "kcv_diffusion_model.h5",
    "decoder": "kcv_decoder.h5",
    "image_encoder": "vae_encoder.h5",
}

# Tried in this order; the others serve folders that hold nothing else.
VARIANTS = (None, "fp16", "bf16")
FORMATS = (
    "{stem}{variant}.safetensors",
    "{stem}.safetensors.index{variant}.json",
    "{stem}{variant}.safetensors.index.json",
    "{stem}{variant}.bin",
    "{stem}.bin.index{variant}.json",
    "{stem}{variant}.bin.index.json",
)


#: The files that make up a model folder, and are replaced with it: all others stay.
OWN = re.compile(
    r"(model_index|kerasdiffusion)\.json"
    r"|(unet|vae|text_encoder(_2)?)/config\.json"
    r"|(unet|vae)/diffusion_pytorch_model[\w.-]*\.(safetensors|bin|json)"
    r"|text_encoder(_2)?/(pytorch_)?model[\w.-]*\.(safetensors|bin|json)"
    r"|(low_res_)?scheduler/scheduler_config\.json"
    r"|tokenizer(_2)?/(vocab|added_tokens|tokenizer|tokenizer_config"
    r"|special_tokens_map)\.json"
    r"|tokenizer(_2)?/merges\.txt"
)


def is_model_folder(folder: Path) -> bool:
    """Whether a folder is a model in diffusers' layout, by what it holds."""
    marks = ("model_index.json", "kerasdiffusion.json", "unet/config.json")
    return any((folder / name).is_file() for name in marks)


def find_weights(
    is_file: Callable[[str], bool], part: str, variant: str | None, root: str = ""
) -> str | None:
    """The name of a part's weights file: safetensors first, plain precision first.

    Args:
        is_file: Whether there is a file of a name.
        part: One of `PARTS`.
        variant: Which of several precisions (`"fp16"`, ...) is wanted; any if `None`.
        root: What every name begins with: the part's folder and `"/"`, or nothing.

    Returns:
        The first name that there is, or `None`.
    """
    for wanted in VARIANTS if variant is None else (variant,):
        suffix = f".{wanted}" if wanted else ""
        for form in FORMATS:
            for stem in FOLDERS[part][1]:
                name = root + form.format(stem=stem, variant=suffix)
                if is_file(name):
                    return name
    return None
