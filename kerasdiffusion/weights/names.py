"""Names and shapes of every tensor, in each layout, from the configurations.

The canonical names are diffusers'. A `Tensor` row gives beside it the name and shape
in the original single file (CompVis), so the tables are generated data: loading,
saving and detection look things up in them.

Reference:
    CompVis `ldm/modules/diffusionmodules/openaimodel.py` and `model.py` for the
    original modules, diffusers `scripts/convert_original_stable_diffusion_to_diffusers.
    py` for the pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kerasdiffusion.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    TextEncoderConfig,
)

Shape = tuple[int, ...]

# Where each part lies in an original single file.
PREFIXES = {
    "text_encoder": "cond_stage_model.transformer.",
    "diffusion_model": "model.diffusion_model.",
    "image_encoder": "first_stage_model.",
    "decoder": "first_stage_model.",
}

# What a file may hold beside the weights: constants, training state, EMA copies.
IGNORED = re.compile(
    r"(.*\.)?position_ids|betas|logvar|scale_factor"
    r"|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?"
    r"|posterior_(variance|log_variance_clipped|mean_coef[12])|lvlb_weights"
    r"|model_ema\..*|first_stage_model\.(loss|model_ema)\..*"
    r"|cond_stage_model\.(logit_scale|text_projection)"
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


class Module(NamedTuple):
    """A layer with weights: its names and the shapes of its tensors in both layouts."""

    name: str
    original: str
    shapes: dict[str, Shape]
    original_shapes: dict[str, Shape]


def _module(name, original, weight, bias=True, original_weight=None) -> Module:
    shapes = {"weight": weight, "bias": weight[:1]} if bias else {"weight": weight}
    originals = dict(shapes, weight=original_weight or weight)
    return Module(name, original, shapes, originals)


def _norm(name, original, width) -> Module:
    return _module(name, original, (width,))


def _conv(name, original, ins, outs, size=3) -> Module:
    return _module(name, original, (outs, ins, size, size))


def _dense(name, original, ins, outs, bias=True) -> Module:
    return _module(name, original, (outs, ins), bias)


def text_encoder_modules(config: TextEncoderConfig) -> Iterator[Module]:
    """The layers of the text encoder, in the order of their use."""
    width = config.width

    def same(make, name, *arguments):
        return make(name, PREFIXES["text_encoder"] + name, *arguments)

    for name, count in (
        ("token", config.vocabulary_size),
        ("position", config.context_length),
    ):
        name = f"text_model.embeddings.{name}_embedding"
        yield same(_module, name, (count, width), False)
    for i in range(config.depth):
        layer = f"text_model.encoder.layers.{i}"
        yield same(_norm, f"{layer}.layer_norm1", width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield same(_dense, f"{layer}.self_attn.{name}", width, width)
        yield same(_norm, f"{layer}.layer_norm2", width)
        yield same(_dense, f"{layer}.mlp.fc1", width, config.mlp_width)
        yield same(_dense, f"{layer}.mlp.fc2", config.mlp_width, width)
    yield same(_norm, "text_model.final_layer_norm", width)


def diffusion_model_modules(config: DiffusionModelConfig) -> Iterator[Module]:
    """The layers of the U-Net, in the order of their use."""
    root, widths = PREFIXES["diffusion_model"], config.block_widths
    time = 4 * widths[0]
    last = len(widths) - 1
    yield _dense("time_embedding.linear_1", f"{root}time_embed.0", widths[0], time)
    yield _dense("time_embedding.linear_2", f"{root}time_embed.2", time, time)
    yield _conv("conv_in", f"{root}input_blocks.0.0", config.in_channels, widths[0])

    block, width, skips = 1, widths[0], [widths[0]]
    for level, outs in enumerate(widths):
        name, depth = f"down_blocks.{level}", config.transformer_depths[level]
        for i in range(config.blocks_per_level):
            old = f"{root}input_blocks.{block}"
            yield from _residual(f"{name}.resnets.{i}", f"{old}.0", width, outs, time)
            width = outs
            if depth:
                names = f"{name}.attentions.{i}", f"{old}.1"
                yield from _transformer(*names, width, depth, config)
            skips.append(width)
            block += 1
        if level < last:
            old = f"{root}input_blocks.{block}.0.op"
            yield _conv(f"{name}.downsamplers.0.conv", old, width, width)
            skips.append(width)
            block += 1

    old = f"{root}middle_block"
    yield from _residual("mid_block.resnets.0", f"{old}.0", width, width, time)
    names, depth = ("mid_block.attentions.0", f"{old}.1"), config.mid_transformer_depth
    yield from _transformer(*names, width, depth, config)
    yield from _residual("mid_block.resnets.1", f"{old}.2", width, width, time)

    block = 0
    for step, outs in enumerate(reversed(widths)):
        name, depth = f"up_blocks.{step}", config.transformer_depths[last - step]
        for i in range(config.blocks_per_level + 1):
            old = f"{root}output_blocks.{block}"
            ins = width + skips.pop()
            yield from _residual(f"{name}.resnets.{i}", f"{old}.0", ins, outs, time)
            width = outs
            if depth:
                names = f"{name}.attentions.{i}", f"{old}.1"
                yield from _transformer(*names, width, depth, config)
            block += 1
        if step < last:
            old = f"{old}.{2 if depth else 1}.conv"
            yield _conv(f"{name}.upsamplers.0.conv", old, width, width)
    yield _norm("conv_norm_out", f"{root}out.0", width)
    yield _conv("conv_out", f"{root}out.2", width, config.out_channels)


def _residual(name, old, ins, outs, time) -> Iterator[Module]:
    yield _norm(f"{name}.norm1", f"{old}.in_layers.0", ins)
    yield _conv(f"{name}.conv1", f"{old}.in_layers.2", ins, outs)
    yield _dense(f"{name}.time_emb_proj", f"{old}.emb_layers.1", time, outs)
    yield _norm(f"{name}.norm2", f"{old}.out_layers.0", outs)
    yield _conv(f"{name}.conv2", f"{old}.out_layers.3", outs, outs)
    if ins != outs:
        yield _conv(f"{name}.conv_shortcut", f"{old}.skip_connection", ins, outs, 1)


def _transformer(name, old, width, depth, config) -> Iterator[Module]:
    project = (width, width) if config.linear_projection else (width, width, 1, 1)
    yield _norm(f"{name}.norm", f"{old}.norm", width)
    yield _module(f"{name}.proj_in", f"{old}.proj_in", project)
    for i in range(depth):
        new, old_block = (
            f"{name}.transformer_blocks.{i}",
            f"{old}.transformer_blocks.{i}",
        )
        for layer, make, *arguments in (
            ("norm1", _norm, width),
            *_attention("attn1", width, width),
            ("norm2", _norm, width),
            *_attention("attn2", width, config.context_width),
            ("norm3", _norm, width),
            ("ff.net.0.proj", _dense, width, 8 * width),
            ("ff.net.2", _dense, 4 * width, width),
        ):
            yield make(f"{new}.{layer}", f"{old_block}.{layer}", *arguments)
    yield _module(f"{name}.proj_out", f"{old}.proj_out", project)


def _attention(name, width, context):
    yield f"{name}.to_q", _dense, width, width, False
    yield f"{name}.to_k", _dense, context, width, False
    yield f"{name}.to_v", _dense, context, width, False
    yield f"{name}.to_out.0", _dense, width, width


def image_encoder_modules(config: AutoencoderConfig) -> Iterator[Module]:
    """The layers of the autoencoder's first half, in the order of their use."""
    root, widths = f"{PREFIXES['image_encoder']}encoder", config.block_widths
    latent, last = 2 * config.latent_channels, len(config.block_widths) - 1
    yield _conv("encoder.conv_in", f"{root}.conv_in", config.image_channels, widths[0])
    width = widths[0]
    for level, outs in enumerate(widths):
        new, old = f"encoder.down_blocks.{level}", f"{root}.down.{level}"
        for i in range(config.blocks_per_level):
            names = f"{new}.resnets.{i}", f"{old}.block.{i}"
            yield from _plain_residual(*names, width, outs)
            width = outs
        if level < last:
            names = f"{new}.downsamplers.0.conv", f"{old}.downsample.conv"
            yield _conv(*names, width, width)
    yield from _autoencoder_middle("encoder", root, width)
    yield _norm("encoder.conv_norm_out", f"{root}.norm_out", width)
    yield _conv("encoder.conv_out", f"{root}.conv_out", width, latent)
    old = f"{PREFIXES['image_encoder']}quant_conv"
    yield _conv("quant_conv", old, latent, latent, 1)


def decoder_modules(config: AutoencoderConfig) -> Iterator[Module]:
    """The layers of the autoencoder's second half, in the order of their use."""
    root, widths = f"{PREFIXES['decoder']}decoder", config.block_widths[::-1]
    latent, last = config.latent_channels, len(config.block_widths) - 1
    old = f"{PREFIXES['decoder']}post_quant_conv"
    yield _conv("post_quant_conv", old, latent, latent, 1)
    width = widths[0]
    yield _conv("decoder.conv_in", f"{root}.conv_in", latent, width)
    yield from _autoencoder_middle("decoder", root, width)
    for step, outs in enumerate(widths):
        new, old = f"decoder.up_blocks.{step}", f"{root}.up.{last - step}"
        for i in range(config.blocks_per_level + 1):
            names = f"{new}.resnets.{i}", f"{old}.block.{i}"
            yield from _plain_residual(*names, width, outs)
            width = outs
        if step < last:
            names = f"{new}.upsamplers.0.conv", f"{old}.upsample.conv"
            yield _conv(*names, width, width)
    yield _norm("decoder.conv_norm_out", f"{root}.norm_out", width)
    yield _conv("decoder.conv_out", f"{root}.conv_out", width, config.image_channels)


def _plain_residual(name, old, ins, outs) -> Iterator[Module]:
    for layer, channels in (("1", ins), ("2", outs)):
        yield _norm(f"{name}.norm{layer}", f"{old}.norm{layer}", channels)
        yield _conv(f"{name}.conv{layer}", f"{old}.conv{layer}", channels, outs)
    if ins != outs:
        yield _conv(f"{name}.conv_shortcut", f"{old}.nin_shortcut", ins, outs, 1)


def _autoencoder_middle(name, old, width) -> Iterator[Module]:
    new, old = f"{name}.mid_block", f"{old}.mid"
    yield from _plain_residual(f"{new}.resnets.0", f"{old}.block_1", width, width)
    yield _norm(f"{new}.attentions.0.group_norm", f"{old}.attn_1.norm", width)
    for layer, original in (
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "proj_out"),
    ):
        names = f"{new}.attentions.0.{layer}", f"{old}.attn_1.{original}"
        shapes = (width, width), True, (width, width, 1, 1)
        yield _module(*names, *shapes)
    yield from _plain_residual(f"{new}.resnets.1", f"{old}.block_2", width, width)


MODULES = {
    "text_encoder": text_encoder_modules,
    "diffusion_model": diffusion_model_modules,
    "image_encoder": image_encoder_modules,
    "decoder": decoder_modules,
}


def tensors(part: str, config) -> list[Tensor]:
    """Every tensor of a part.

    Args:
        part: `"text_encoder"`, `"diffusion_model"`, `"image_encoder"` or `"decoder"`.
        config: The part's configuration.

    Returns:
        A list of `Tensor` rows in the order of their use.

    Example:

    >>> tensors("decoder", AutoencoderConfig())[0].original
    'first_stage_model.post_quant_conv.weight'
    """
    return [
        Tensor(
            f"{module.name}.{leaf}",
            shape,
            f"{module.original}.{leaf}",
            module.original_shapes[leaf],
        )
        for module in MODULES[part](config)
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
