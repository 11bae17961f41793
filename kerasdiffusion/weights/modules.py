"""The layers with weights of the text encoders and autoencoders, in both layouts.

Reference:
    CompVis `ldm/modules/diffusionmodules/model.py`; OpenCLIP `src/open_clip/
    transformer.py`; https://github.com/madebyollin/taesd, `taesd.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
)

Shape = tuple[int, ...]

# Where each part lies in an original single file.
PREFIXES = {
    "text_encoder": "cond_stage_model.",
    "text_encoder_2": "conditioner.embedders.1.",
    "diffusion_model": "model.diffusion_model.",
    "image_encoder": "first_stage_model.",
    "decoder": "first_stage_model.",
    "controlnet": "control_model.",
    "t2i_adapter": "",
}
#: Where the first text encoder lies in SDXL's files, and the only one in its refiner's.
EMBEDDER = "conditioner.embedders.0."


class Module(NamedTuple):
    """A layer with weights: its names and the shapes of its tensors in both layouts."""

    name: str
    original: str
    shapes: dict[str, Shape]
    original_shapes: dict[str, Shape]


def module(name, original, weight, bias=True, original_weight=None) -> Module:
    shapes = {"weight": weight, "bias": weight[:1]} if bias else {"weight": weight}
    originals = dict(shapes, weight=original_weight or weight)
    return Module(name, original, shapes, originals)


def norm(name, original, width) -> Module:
    return module(name, original, (width,))


def conv(name, original, ins, outs, size=3, bias=True) -> Module:
    return module(name, original, (outs, ins, size, size), bias)


def dense(name, original, ins, outs, bias=True) -> Module:
    return module(name, original, (outs, ins), bias)


def text_encoder_modules(
    config: TextEncoderConfig, root: str = PREFIXES["text_encoder"]
) -> Iterator[Module]:
    """The layers of a text encoder, in the order of their use."""
    naming = _open_clip_name if config.is_open_clip else _clip_name
    width = config.width

    def same(make, name, *arguments):
        return make(name, root + naming(name), *arguments)

    for name, count in (
        ("token", config.vocabulary_size),
        ("position", config.context_length),
    ):
        name = f"text_model.embeddings.{name}_embedding"
        yield same(module, name, (count, width), False)
    for i in range(config.depth):
        layer = f"text_model.encoder.layers.{i}"
        yield same(norm, f"{layer}.layer_norm1", width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield same(dense, f"{layer}.self_attn.{name}", width, width)
        yield same(norm, f"{layer}.layer_norm2", width)
        yield same(dense, f"{layer}.mlp.fc1", width, config.mlp_width)
        yield same(dense, f"{layer}.mlp.fc2", config.mlp_width, width)
    yield same(norm, "text_model.final_layer_norm", width)
    if config.projection_width:
        yield same(dense, "text_projection", width, config.projection_width, False)


def text_encoder_2_modules(config: TextEncoderConfig) -> Iterator[Module]:
    """The layers of SDXL's second text encoder."""
    return text_encoder_modules(config, PREFIXES["text_encoder_2"])


def _clip_name(name: str) -> str:
    return f"transformer.{name}"


def _open_clip_name(name: str) -> str:
    """OpenCLIP's name of a layer, its fused weights taken apart (`open_clip.py`)."""
    for new, old in (
        ("text_model.encoder.layers", "transformer.resblocks"),
        ("text_model.embeddings.token_embedding", "token_embedding"),
        ("text_model.embeddings.position_embedding", "positional_embedding"),
        ("text_model.final_layer_norm", "ln_final"),
        (".layer_norm", ".ln_"),
        (".self_attn.", ".attn."),
        (".mlp.fc1", ".mlp.c_fc"),
        (".mlp.fc2", ".mlp.c_proj"),
    ):
        name = name.replace(new, old)
    return f"model.{name}"


def image_encoder_modules(config: AutoencoderConfig) -> Iterator[Module]:
    """The layers of the autoencoder's first half, in the order of their use."""
    root, widths = f"{PREFIXES['image_encoder']}encoder", config.block_widths
    latent, last = 2 * config.latent_channels, len(config.block_widths) - 1
    yield conv("encoder.conv_in", f"{root}.conv_in", config.image_channels, widths[0])
    width = widths[0]
    for level, outs in enumerate(widths):
        new, old = f"encoder.down_blocks.{level}", f"{root}.down.{level}"
        for i in range(config.blocks_per_level):
            names = f"{new}.resnets.{i}", f"{old}.block.{i}"
            yield from _plain_residual(*names, width, outs)
            width = outs
        if level < last:
            names = f"{new}.downsamplers.0.conv", f"{old}.downsample.conv"
            yield conv(*names, width, width)
    yield from _autoencoder_middle("encoder", root, width)
    yield norm("encoder.conv_norm_out", f"{root}.norm_out", width)
    yield conv("encoder.conv_out", f"{root}.conv_out", width, latent)
    old = f"{PREFIXES['image_encoder']}quant_conv"
    yield conv("quant_conv", old, latent, latent, 1)


def decoder_modules(config: AutoencoderConfig) -> Iterator[Module]:
    """The layers of the autoencoder's second half, in the order of their use."""
    root, widths = f"{PREFIXES['decoder']}decoder", config.block_widths[::-1]
    latent, last = config.latent_channels, len(config.block_widths) - 1
    old = f"{PREFIXES['decoder']}post_quant_conv"
    yield conv("post_quant_conv", old, latent, latent, 1)
    width = widths[0]
    yield conv("decoder.conv_in", f"{root}.conv_in", latent, width)
    yield from _autoencoder_middle("decoder", root, width)
    for step, outs in enumerate(widths):
        new, old = f"decoder.up_blocks.{step}", f"{root}.up.{last - step}"
        for i in range(config.blocks_per_level + 1):
            names = f"{new}.resnets.{i}", f"{old}.block.{i}"
            yield from _plain_residual(*names, width, outs)
            width = outs
        if step < last:
            names = f"{new}.upsamplers.0.conv", f"{old}.upsample.conv"
            yield conv(*names, width, width)
    yield norm("decoder.conv_norm_out", f"{root}.norm_out", width)
    yield conv("decoder.conv_out", f"{root}.conv_out", width, config.image_channels)


def _plain_residual(name, old, ins, outs) -> Iterator[Module]:
    for layer, channels in (("1", ins), ("2", outs)):
        yield norm(f"{name}.norm{layer}", f"{old}.norm{layer}", channels)
        yield conv(f"{name}.conv{layer}", f"{old}.conv{layer}", channels, outs)
    if ins != outs:
        yield conv(f"{name}.conv_shortcut", f"{old}.nin_shortcut", ins, outs, 1)


def _autoencoder_middle(name, old, width) -> Iterator[Module]:
    new, old = f"{name}.mid_block", f"{old}.mid"
    yield from _plain_residual(f"{new}.resnets.0", f"{old}.block_1", width, width)
    yield norm(f"{new}.attentions.0.group_norm", f"{old}.attn_1.norm", width)
    for layer, original in (
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "proj_out"),
    ):
        names = f"{new}.attentions.0.{layer}", f"{old}.attn_1.{original}"
        shapes = (width, width), True, (width, width, 1, 1)
        yield module(*names, *shapes)
    yield from _plain_residual(f"{new}.resnets.1", f"{old}.block_2", width, width)


def tiny_image_encoder_modules(config: TinyAutoencoderConfig) -> Iterator[Module]:
    """The layers of TAESD's encoder, whose own file has the numbers alone."""
    root, number, ins = PREFIXES["image_encoder"], 0, config.image_channels

    def layer(make, *arguments):
        name = f"encoder.layers.{number}"
        return make(name, f"{root}taesd_encoder.{number}", *arguments)

    for level, blocks in enumerate(config.encoder_blocks):
        yield layer(conv, ins, config.width, 3, level == 0)
        number, ins = number + 1, config.width
        for _ in range(blocks):
            yield from layer(_tiny_block, config.width)
            number += 1
    yield layer(conv, config.width, config.latent_channels)


def tiny_decoder_modules(config: TinyAutoencoderConfig) -> Iterator[Module]:
    """The layers of TAESD's decoder."""
    root, number, last = PREFIXES["decoder"], 0, len(config.decoder_blocks) - 1

    def layer(make, *arguments):
        # In its own file the clamp of the latents has a number.
        old = f"{root}taesd_decoder.{number + 1}"
        return make(f"decoder.layers.{number}", old, *arguments)

    yield layer(conv, config.latent_channels, config.width)
    number = 2
    for level, blocks in enumerate(config.decoder_blocks):
        for _ in range(blocks):
            yield from layer(_tiny_block, config.width)
            number += 1
        number += level < last
        outs = config.width if level < last else config.image_channels
        yield layer(conv, config.width, outs, 3, level == last)
        number += 1


def _tiny_block(name, old, width) -> Iterator[Module]:
    for i in (0, 2, 4):
        yield conv(f"{name}.conv.{i}", f"{old}.conv.{i}", width, width)
