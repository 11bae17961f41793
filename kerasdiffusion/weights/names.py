"""Names and shapes of every tensor, in each layout, from the configurations.

The canonical names are diffusers'. A `Tensor` row gives beside it the name and shape
in the original single file (CompVis, Stability), so the tables are generated data:
loading, saving and detection look things up in them.

Reference:
    diffusers `loaders/single_file_utils.py` for the pairs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kerasdiffusion.presets.config import TinyAutoencoderConfig
from kerasdiffusion.weights import modules
from kerasdiffusion.weights.control_modules import (
    controlnet_modules,
    t2i_adapter_modules,
)
from kerasdiffusion.weights.modules import EMBEDDER, PREFIXES, Shape
from kerasdiffusion.weights.unet_modules import diffusion_model_modules

# What a file may hold beside the weights: constants, training state, EMA copies, other
# models, and what of OpenCLIP's is not used: the last layer of SD 2's.
IGNORED = re.compile(
    r"(.*\.)?position_ids|betas|logvar|scale_factor|global_step|v_pred|ztsnr"
    r"|edm_(mean|std)|edm_vpred\.sigma_(min|max)"
    r"|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?"
    r"|posterior_(variance|log_variance_clipped|mean_coef[12])|lvlb_weights"
    r"|denoiser\.(log_)?sigmas|(depth|low_scale)_model\..*"
    r"|model_ema\..*|first_stage_model\.(loss|model_ema)\..*"
    r"|(cond_stage_model|conditioner\.embedders\.\d)\.(model\.|transformer\.)?"
    r"(logit_scale|attn_mask|text_projection(\.weight)?)"
    r"|cond_stage_model\.model\.transformer\.resblocks\.23\..*"
)

# What the attention of the autoencoder was called in diffusers before version 0.15.
OLD_ATTENTION = {
    "to_q": "query",
    "to_k": "key",
    "to_v": "value",
    "to_out.0": "proj_attn",
}


class Tensor(NamedTuple):
    """One tensor: PyTorch's shapes, output channels first."""

    name: str
    shape: Shape
    original: str
    original_shape: Shape


MODULES = {
    "text_encoder": modules.text_encoder_modules,
    "text_encoder_2": modules.text_encoder_2_modules,
    "diffusion_model": diffusion_model_modules,
    "image_encoder": modules.image_encoder_modules,
    "decoder": modules.decoder_modules,
    "controlnet": controlnet_modules,
    "t2i_adapter": t2i_adapter_modules,
}
TINY_MODULES = {
    "image_encoder": modules.tiny_image_encoder_modules,
    "decoder": modules.tiny_decoder_modules,
}


def tensors(part: str, config) -> list[Tensor]:
    """Every tensor of a part.

    Args:
        part: One of `layout.PARTS`, `"controlnet"` or `"t2i_adapter"`.
        config: The part's configuration.

    Returns:
        A list of `Tensor` rows in the order of their use.

    Example:

    >>> tensors("decoder", AutoencoderConfig())[0].original
    'first_stage_model.post_quant_conv.weight'
    """
    tables = TINY_MODULES if isinstance(config, TinyAutoencoderConfig) else MODULES
    return [
        Tensor(
            f"{module.name}.{leaf}",
            shape,
            f"{module.original}.{leaf}",
            module.original_shapes[leaf],
        )
        for module in tables[part](config)
        for leaf, shape in module.shapes.items()
    ]


def aliases(name: str) -> list[str]:
    """The other names of a canonical tensor in published diffusers folders."""
    if name.startswith("text_model."):
        return [name.removeprefix("text_model.")]
    if ".mid_block.attentions.0." in name and name.startswith(("encoder.", "decoder.")):
        stem, leaf = name.rsplit(".", 1)
        for new, old in OLD_ATTENTION.items():
            if stem.endswith(f".{new}"):
                return [f"{stem.removesuffix(new)}{old}.{leaf}"]
    return []


def spellings(part: str, tensor: Tensor) -> list[str]:
    """Every name that a tensor has in a file of any layout.

    Args:
        part: As in `tensors`.
        tensor: One of its rows.
    """
    bare = tensor.original.removeprefix(PREFIXES[part])
    return [
        *original_names(tensor),
        tensor.name,
        *aliases(tensor.name),
        bare,
        re.sub(r"model\.|taesd_(en|de)coder\.", "", bare, count=1),
    ]


def original_names(tensor: Tensor) -> list[str]:
    """The names of a tensor in original files of any family."""
    name = tensor.original
    names = [name, name.replace(PREFIXES["text_encoder"], EMBEDDER, 1)]
    names += [
        each.replace(".transformer.text_model.", ".transformer.") for each in names
    ]
    return list(dict.fromkeys(names))


def ema_name(original: str) -> str:
    """The name of a U-Net tensor's moving average in an original file.

    Reference:
        CompVis `ldm/modules/ema.py`: buffers may not have dots in their names.
    """
    return "model_ema." + original.removeprefix("model.").replace(".", "")


def canonical_name(path: str, network: str) -> str:
    """The canonical name of a Keras variable.

    Args:
        path: The variable's path, which begins with the scopes that the network was
            made in.
        network: The network's name in Keras.

    Example:

    >>> canonical_name("sd/unet/down_blocks-0/resnets-0/conv1/kernel", "unet")
    'down_blocks.0.resnets.0.conv1.weight'
    """
    *modules, leaf = f"/{path}".partition(f"/{network}/")[2].split("/")
    leaf = {"beta": "bias", "bias": "bias"}.get(leaf, "weight")
    return ".".join([*modules, leaf]).replace("-", ".")
