"""Where the files of a part lie in a model folder, on a disk or on the hub."""

from __future__ import annotations

from collections.abc import Callable

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
