"""Files that are no Stable Diffusion model, known by their keys."""

from __future__ import annotations

import re

from kerasdiffusion.weights.base import TensorFile, WeightsError

# Keys of files that are no Stable Diffusion model, and what they are.
_UNET = r"(model\.diffusion_model\.)?"
STRANGERS = (
    (_UNET + r"joint_blocks\.|text_encoders\.", "a Stable Diffusion 3 checkpoint"),
    (_UNET + r"double_blocks\.", "a Flux checkpoint"),
    (_UNET + r"double_layers\.", "an AuraFlow checkpoint"),
    (
        r"control_model\.|controlnet_cond_embedding\.|.*zero_convs\.",
        "a ControlNet, to be passed as `control=Control(file, picture)`",
    ),
    (
        r"(adapter\.)?body\.\d+\.(in_conv|block1|resnets)\.",
        "a T2I-Adapter, to be passed as `control=Control(file, picture)`",
    ),
    (r"ip_adapter\.|image_proj\.", "an IP-Adapter"),
    (
        r"(lora|lycoris)_(te|unet)|.*[._]lora(_|\.)?(A|B|up|down)\.",
        "a LoRA, which `load_adapter` and --adapter read",
    ),
    (r".*motion_modules\.", "a motion module of AnimateDiff"),
    (
        r"string_to_param|emb_params$|clip_[lg]$|<.+>$",
        "a textual-inversion embedding, which `load_embedding` and --embedding read",
    ),
    (r"(encoder\.block|shared)\.", "a T5 text encoder"),
    (r"(embedder\.)?vision_model\.|visual\.", "a CLIP image encoder"),
    (_UNET + r"(down|up)_blocks\.\d+\.\d+\.", "a Stable Cascade checkpoint"),
    (r"(.*\.)?single_transformer_blocks\.", "a Flux checkpoint"),
    (
        r"(transformer\.)?(transformer_blocks|blocks)\.\d|pos_embed\.proj|adaln_single",
        "a diffusion transformer (Stable Diffusion 3, PixArt or another)",
    ),
    (r"model\.\d+\.(sub\.\d|weight)|conv_first\.", "an upscaler of pictures (ESRGAN)"),
)
# Parts of a model, and how they are read.
ALONE = (
    (
        r"(first_stage_model\.)?(en|de)coder\.(conv_in|layers\.0)\.",
        "an autoencoder alone: pass it as `vae` beside a whole model",
    ),
    (
        r"(text_model\.)?embeddings\.token_embedding|transformer\.resblocks\.",
        "a text encoder alone: pass it as `text_encoder` beside a whole model",
    ),
    (
        r"down_blocks\.\d+\.resnets\.|input_blocks\.0\.0\.",
        "a U-Net alone: pass it as `unet` beside a whole model",
    ),
)


def refuse_strangers(file: TensorFile, among=STRANGERS) -> None:
    """Raise for a file that is something else, and say what."""
    for pattern, what in among:
        matcher = re.compile(pattern)
        if any(matcher.match(key) for key in file.keys()):
            raise WeightsError(
                f"The file is {what}; this reads Stable Diffusion 1, 2, XL and models "
                f"of their layouts. Received: {file.path}"
            )
