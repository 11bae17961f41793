"""The layers with weights of ControlNets and T2I-Adapters, in both layouts.

Reference:
    lllyasviel/ControlNet `cldm/cldm.py`; TencentARC/T2I-Adapter
    `ldm/modules/encoders/adapter.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from kerasdiffusion.presets.config import ControlNetConfig, T2IAdapterConfig
from kerasdiffusion.weights.modules import PREFIXES, Module, conv
from kerasdiffusion.weights.unet_modules import way_down_modules


def controlnet_modules(config: ControlNetConfig) -> Iterator[Module]:
    """The layers of a ControlNet."""
    root, widths = PREFIXES["controlnet"], config.picture_widths
    yield from way_down_modules(config, root)
    new, old = "controlnet_cond_embedding", f"{root}input_hint_block"
    yield conv(f"{new}.conv_in", f"{old}.0", config.picture_channels, widths[0])
    # In the original a SiLU stands between each two, and counts.
    for i, (width, wider) in enumerate(zip(widths, widths[1:], strict=False)):
        yield conv(f"{new}.blocks.{2 * i}", f"{old}.{4 * i + 2}", width, width)
        yield conv(f"{new}.blocks.{2 * i + 1}", f"{old}.{4 * i + 4}", width, wider)
    last = 4 * len(widths) - 2
    yield conv(f"{new}.conv_out", f"{old}.{last}", widths[-1], config.block_widths[0])
    for i, width in enumerate(config.skip_widths):
        names = f"controlnet_down_blocks.{i}", f"{root}zero_convs.{i}.0"
        yield conv(*names, width, width, 1)
    yield conv("controlnet_mid_block", f"{root}middle_block_out.0", width, width, 1)


def t2i_adapter_modules(config: T2IAdapterConfig) -> Iterator[Module]:
    """The layers of a T2I-Adapter, whose own file has blocks where ours has levels."""
    widths, blocks = config.block_widths, config.blocks_per_level
    ins = config.picture_channels * config.downsampling**2
    light = config.kind == "light_adapter"
    if not light:
        yield conv("adapter.conv_in", "conv_in", ins, widths[0])
        ins = widths[0]
    for level, width in enumerate(widths):
        new, inner = f"adapter.body.{level}", width // 4 if light else width
        old = f"body.{level}" if light else f"body.{level * blocks}"
        if light or ins != width:
            yield conv(f"{new}.in_conv", f"{old}.in_conv", ins, inner, 1)
        for i in range(blocks):
            old = f"body.{level}.body.{i}" if light else f"body.{level * blocks + i}"
            block = f"{new}.resnets.{i}"
            yield conv(f"{block}.block1", f"{old}.block1", inner, inner)
            size = 3 if light else 1
            yield conv(f"{block}.block2", f"{old}.block2", inner, inner, size)
        if light:
            yield conv(f"{new}.out_conv", f"body.{level}.out_conv", inner, width, 1)
        ins = width
