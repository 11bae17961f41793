"""The layers with weights of the U-Net, in diffusers' layout and the original one.

Reference:
    CompVis `ldm/modules/diffusionmodules/openaimodel.py`; Stability's
    generative-models `sgm/modules/diffusionmodules/openaimodel.py` for `label_emb`.
"""

from __future__ import annotations

from collections.abc import Iterator

from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.weights.modules import PREFIXES, Module, conv, dense, module, norm


def diffusion_model_modules(config: DiffusionModelConfig) -> Iterator[Module]:
    """The layers of the U-Net, in the order of their use."""
    root, widths = PREFIXES["diffusion_model"], config.block_widths
    time, width, last = 4 * widths[0], widths[-1], len(widths) - 1
    yield from way_down_modules(config, root)
    skips = config.skip_widths
    block = 0
    for step, outs in enumerate(reversed(widths)):
        name, level = f"up_blocks.{step}", last - step
        for i, depth in enumerate(config.up_depths(level)):
            old = f"{root}output_blocks.{block}"
            ins = width + skips.pop()
            yield from _residual(f"{name}.resnets.{i}", f"{old}.0", ins, outs, time)
            width = outs
            if depth:
                names = f"{name}.attentions.{i}", f"{old}.1"
                cross = config.is_cross_only(level)
                yield from _transformer(*names, width, depth, config, cross)
            block += 1
        if step < last:
            old = f"{old}.{2 if depth else 1}.conv"
            yield conv(f"{name}.upsamplers.0.conv", old, width, width)
    yield norm("conv_norm_out", f"{root}out.0", width)
    yield conv("conv_out", f"{root}out.2", width, config.out_channels)


def way_down_modules(config: DiffusionModelConfig, root: str) -> Iterator[Module]:
    """Those down to the middle, which a ControlNet has too.

    Args:
        config: The network's.
        root: What their names begin with in an original file.
    """
    widths = config.block_widths
    time, width, last = 4 * widths[0], widths[0], len(widths) - 1
    yield dense("time_embedding.linear_1", f"{root}time_embed.0", widths[0], time)
    yield dense("time_embedding.linear_2", f"{root}time_embed.2", time, time)
    if config.guidance_width:
        names = "time_embedding.cond_proj", f"{root}time_embed.cond_proj"
        yield dense(*names, config.guidance_width, widths[0], False)
    if config.vector_width:
        names = "add_embedding.linear_1", f"{root}label_emb.0.0"
        yield dense(*names, config.vector_width, time)
        yield dense("add_embedding.linear_2", f"{root}label_emb.0.2", time, time)
    if config.noise_levels:
        shape = config.noise_levels, time
        yield module("class_embedding", f"{root}label_emb", shape, False)
    yield conv("conv_in", f"{root}input_blocks.0.0", config.in_channels, widths[0])

    block = 1
    for level, outs in enumerate(widths):
        name = f"down_blocks.{level}"
        for i, depth in enumerate(config.depths(level)):
            old = f"{root}input_blocks.{block}"
            yield from _residual(f"{name}.resnets.{i}", f"{old}.0", width, outs, time)
            width = outs
            if depth:
                names = f"{name}.attentions.{i}", f"{old}.1"
                cross = config.is_cross_only(level)
                yield from _transformer(*names, width, depth, config, cross)
            block += 1
        if level < last:
            old = f"{root}input_blocks.{block}.0.op"
            yield conv(f"{name}.downsamplers.0.conv", old, width, width)
            block += 1

    old, depth = f"{root}middle_block", config.mid_transformer_depth
    if depth is not None:
        yield from _residual("mid_block.resnets.0", f"{old}.0", width, width, time)
    if depth:
        names = "mid_block.attentions.0", f"{old}.1"
        yield from _transformer(*names, width, depth, config)
        yield from _residual("mid_block.resnets.1", f"{old}.2", width, width, time)


def _residual(name, old, ins, outs, time) -> Iterator[Module]:
    yield norm(f"{name}.norm1", f"{old}.in_layers.0", ins)
    yield conv(f"{name}.conv1", f"{old}.in_layers.2", ins, outs)
    yield dense(f"{name}.time_emb_proj", f"{old}.emb_layers.1", time, outs)
    yield norm(f"{name}.norm2", f"{old}.out_layers.0", outs)
    yield conv(f"{name}.conv2", f"{old}.out_layers.3", outs, outs)
    if ins != outs:
        yield conv(f"{name}.conv_shortcut", f"{old}.skip_connection", ins, outs, 1)


def _transformer(name, old, width, depth, config, cross=False) -> Iterator[Module]:
    project = (width, width) if config.linear_projection else (width, width, 1, 1)
    yield norm(f"{name}.norm", f"{old}.norm", width)
    yield module(f"{name}.proj_in", f"{old}.proj_in", project)
    for i in range(depth):
        new, old_block = (
            f"{name}.transformer_blocks.{i}",
            f"{old}.transformer_blocks.{i}",
        )
        for layer, make, *arguments in (
            ("norm1", norm, width),
            *_attention("attn1", width, config.context_width if cross else width),
            ("norm2", norm, width),
            *_attention("attn2", width, config.context_width),
            ("norm3", norm, width),
            ("ff.net.0.proj", dense, width, 8 * width),
            ("ff.net.2", dense, 4 * width, width),
        ):
            yield make(f"{new}.{layer}", f"{old_block}.{layer}", *arguments)
    yield module(f"{name}.proj_out", f"{old}.proj_out", project)


def _attention(name, width, context):
    yield f"{name}.to_q", dense, width, width, False
    yield f"{name}.to_k", dense, context, width, False
    yield f"{name}.to_v", dense, context, width, False
    yield f"{name}.to_out.0", dense, width, width
