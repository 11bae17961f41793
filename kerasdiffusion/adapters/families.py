"""What an adapter is for, from the names and the shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kerasdiffusion.presets import families
from kerasdiffusion.presets.config import ControlNetConfig, ModelConfig

FAMILIES = {
    "Stable Diffusion 1": families.SD1,
    "Stable Diffusion 2": families.SD2_BASE,
    "SDXL": families.SDXL,
    "SDXL's refiner": families.SDXL_REFINER,
    "Stable Diffusion's upscaler": families.UPSCALER,
}
#: What flat and dotted names have before a block that counts from the network's root.
_ROOT = r"^((lora_unet|base_model\.model|diffusion_model|transformer)[._])?"
CONTROLNET = "a ControlNet: `control_network(network, adapters=FILE)` puts it in"
#: Names in files for models that are not read here.
STRANGERS = (
    (r"double_blocks|single_blocks|single_transformer_blocks", "Flux"),
    (
        rf"joint_blocks|transformer[._]transformer_blocks|{_ROOT}transformer_blocks",
        "Stable Diffusion 3, Qwen-Image or another transformer",
    ),
    (r"motion_modules", "AnimateDiff (a motion module)"),
    (r"ip_adapter|image_proj", "IP-Adapter (it has an image encoder beside it)"),
    (r"^lora_controlnet$", "Control-LoRA (a whole ControlNet, in factors)"),
    (r"lllite_", "ControlNet-LLLite"),
    (
        r"^(base_model\.model\.|control_model[._])?(controlnet_(down_blocks|mid_block|"
        r"cond_embedding)|input_hint_block|zero_convs|middle_block_out)",
        CONTROLNET,
    ),
    (
        _ROOT + r"blocks[._]\d+[._](self|cross)_attn[._]\w+_proj",
        "Anima or another of Cosmos's kin",
    ),
    (_ROOT + r"blocks[._]\d+[._](self|cross)_attn", "Wan"),
    (_ROOT + r"blocks[._]\d+[._](attn|mlp)[._]", "Krea 2 or another transformer"),
    (r"noise_refiner|context_refiner", "Lumina or Z-Image"),
    (r"lora_prior|(down|up)_blocks[._]\d+[._]\d+[._]", "Stable Cascade"),
    (r"lora_te3|t5xxl", "a model with a T5 text encoder"),
    (r"model\.layers\.\d+\.(self_attn|mlp)", "a language model"),
)


def family_of(config: ModelConfig | ControlNetConfig) -> str:
    """What a model's family is called.

    Args:
        config: What it is made of, or a ControlNet.

    Example:

    >>> family_of(ModelConfig())
    'Stable Diffusion 1'
    """
    if isinstance(config, ControlNetConfig):
        return "a ControlNet"
    own = config.diffusion_model
    for name, other in FAMILIES.items():
        theirs = other.diffusion_model
        if (own.context_width, own.block_widths) == (
            theirs.context_width,
            theirs.block_widths,
        ):
            return name
    return f"a model of {own.context_width} channels of text"


def stranger(keys: Iterable[str], alone: bool = False) -> str | None:
    """The family that is not read here that keys speak of, if they do.

    Args:
        keys: Names that mean no module.
        alone: Whether there are no others: then a ControlNet's part is all of it.
    """
    keys = list(keys)
    starts = "controlnet.", "lora_controlnet_"
    if alone and any(key.startswith(starts) for key in keys):
        return CONTROLNET
    for key in keys:
        for pattern, name in STRANGERS:
            if re.search(pattern, key):
                return name
    return None
