"""What an adapter is for, from the names and the shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kerasdiffusion.presets import families
from kerasdiffusion.presets.config import ModelConfig

FAMILIES = {
    "Stable Diffusion 1": families.SD1,
    "Stable Diffusion 2": families.SD2_BASE,
    "SDXL": families.SDXL,
    "SDXL's refiner": families.SDXL_REFINER,
    "Stable Diffusion's upscaler": families.UPSCALER,
}
#: Names in files for models that are not read here.
STRANGERS = (
    (r"double_blocks|single_blocks|single_transformer_blocks", "Flux"),
    (r"joint_blocks|transformer[._]transformer_blocks", "Stable Diffusion 3"),
    (r"motion_modules", "AnimateDiff (a motion module)"),
    (r"ip_adapter|image_proj", "IP-Adapter (it has an image encoder beside it)"),
    (r"(^|[._])blocks[._]\d+[._](self_attn|cross_attn)", "Wan"),
    (r"noise_refiner|context_refiner", "Lumina or Z-Image"),
    (r"lora_prior|(down|up)_blocks[._]\d+[._]\d+[._]", "Stable Cascade"),
    (r"lora_te3|t5xxl", "a model with a T5 text encoder"),
    (r"model\.layers\.\d+\.(self_attn|mlp)", "a language model"),
)


def family_of(config: ModelConfig) -> str:
    """What a model's family is called.

    Args:
        config: What it is made of.

    Example:

    >>> family_of(ModelConfig())
    'Stable Diffusion 1'
    """
    own = config.diffusion_model
    for name, other in FAMILIES.items():
        theirs = other.diffusion_model
        if (own.context_width, own.block_widths) == (
            theirs.context_width,
            theirs.block_widths,
        ):
            return name
    return f"a model of {own.context_width} channels of text"


def stranger(keys: Iterable[str]) -> str | None:
    """The family that is not read here that keys speak of, if they do."""
    for key in keys:
        for pattern, name in STRANGERS:
            if re.search(pattern, key):
                return name
    return None
