"""Diffusers' `unet/config.json` and our configuration, each from the other.

Reference:
    diffusers `models/unets/unet_2d_condition.py` for the fields and their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.weights.fields import (
    DIFFUSERS_VERSION,
    EMA,
    Fields,
    per_level,
    same,
)

# Fields with one possible value here: what diffusers takes where they are absent.
UNET_FIXED = {
    "act_fn": "silu",
    "addition_embed_type_num_heads": 64,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
}
UNET_FREE = {"dropout", "sample_size", "upcast_attention", *EMA}
# The kinds of middle block: whether there is attention in it, 0 if not.
MIDDLES = {"UNetMidBlock2DCrossAttn": True, "UNetMidBlock2D": 0, None: None}


def unet_from_json(values: Mapping, where: str = "unet") -> DiffusionModelConfig:
    """The U-Net that diffusers' `unet/config.json` describes.

    Args:
        values: The JSON object.
        where: Its file, for messages.

    Returns:
        A `DiffusionModelConfig`.

    Raises:
        WeightsError: Naming the field, where it describes something else.
    """
    fields = Fields(values, where)
    widths = fields.widths("block_out_channels", (320, 640, 1280, 1280))
    levels = len(widths)
    downs = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    down = fields.listed("down_block_types", downs)
    up = fields.listed("up_block_types", ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    if len(down) != levels or not all(each in downs for each in down):
        fields.refuse("down_block_types", down)
    if list(up) != [block.replace("Down", "Up") for block in reversed(down)]:
        fields.refuse("up_block_types", up)
    attends = [block.startswith("CrossAttn") for block in down]
    name = "transformer_layers_per_block"
    depths = _depths(fields, name, fields.take(name, 1), attends)
    name = "reverse_transformer_layers_per_block"
    up_depths = fields.take(name)
    if up_depths is not None:
        up_depths = up_depths[::-1] if isinstance(up_depths, list) else up_depths
        up_depths = _depths(fields, name, up_depths, attends)
    middle = fields.values.pop("mid_block_type", "UNetMidBlock2DCrossAttn")
    if not isinstance(middle, (str, type(None))) or middle not in MIDDLES:
        fields.refuse("mid_block_type", middle)
    heads = fields.take("attention_head_dim", 8)
    heads = fields.take("num_attention_heads", heads)
    blocks = fields.take("layers_per_block", 2)
    blocks = per_level(fields, "layers_per_block", blocks, levels)
    config = DiffusionModelConfig(
        in_channels=fields.whole("in_channels", 4, "channels"),
        out_channels=fields.whole("out_channels", 4, "channels"),
        block_widths=widths,
        blocks_per_level=blocks[0] if len(set(blocks)) == 1 else blocks,
        transformer_depths=tuple(
            depth if attend else 0
            for depth, attend in zip(depths, attends, strict=True)
        ),
        mid_transformer_depth=_first(depths[-1])
        if MIDDLES[middle]
        else MIDDLES[middle],
        heads=per_level(fields, "attention_head_dim", heads, levels),
        context_width=_context_width(fields),
        linear_projection=bool(fields.take("use_linear_projection", False)),
        norm_groups=fields.whole("norm_num_groups", 32, "channels"),
        up_transformer_depths=up_depths
        and tuple(
            depth if attend else 0
            for depth, attend in zip(up_depths, attends, strict=True)
        ),
        only_cross_attention=_cross_only(fields, attends),
        guidance_width=fields.whole("time_cond_proj_dim", 0, "channels", 0),
        noise_levels=fields.whole("num_class_embeds", 0, "train_steps", 0),
        **_vector(fields),
    )
    if config.up_transformer_depths == config.transformer_depths:
        config = replace(config, up_transformer_depths=None)
    try:
        for level in range(levels):
            config.depths(level), config.up_depths(level)
    except (ValueError, TypeError):
        fields.refuse("transformer_layers_per_block", config.transformer_depths)
    fields.finish(UNET_FIXED, UNET_FREE)
    return config


def _context_width(fields: Fields) -> int:
    name = "cross_attention_dim"
    fields.values[name] = same(fields, name, fields.take(name, 1280))
    return fields.whole(name, 1280, "channels")


def _depths(fields: Fields, name: str, value, attends) -> tuple:
    """Depths of each level: a number, or one for each block where they differ."""
    values = value if isinstance(value, (list, tuple)) else [value] * len(attends)
    if len(values) != len(attends):
        fields.refuse(name, value)
    found = []
    for depth in values:
        depth = depth if isinstance(depth, (list, tuple)) else [depth]
        if not depth or not all(type(n) is int and n > 0 for n in depth):
            fields.refuse(name, value)
        fields.check("layers", max(*depth, len(depth)))
        found.append(depth[0] if len(set(depth)) == 1 else tuple(depth))
    return tuple(found)


def _first(depth) -> int:
    return depth if isinstance(depth, int) else depth[0]


def _cross_only(fields: Fields, attends) -> tuple[bool, ...]:
    """Levels whose pixels never attend to each other; empty if there are none."""
    value = fields.take("only_cross_attention", False)
    middle = fields.take("mid_block_only_cross_attention", value is True)
    values = value if isinstance(value, (list, tuple)) else [value] * len(attends)
    if middle is not False or len(values) != len(attends):
        fields.refuse("only_cross_attention", value)
    found = tuple(
        bool(value) and attend for value, attend in zip(values, attends, strict=True)
    )
    return found if any(found) else ()


def _vector(fields: Fields) -> dict:
    """The fields of SDXL's `vector`."""
    kind = fields.take("addition_embed_type")
    name = "projection_class_embeddings_input_dim"
    width = fields.whole(name, 0, "channels", 0)
    id_width = fields.whole("addition_time_embed_dim", 256, "channels")
    if kind is None and not width:
        return {}
    if kind != "text_time" or not width:
        fields.refuse("addition_embed_type", kind)
    return {"vector_width": width, "vector_id_width": id_width}


def unet_to_json(config: DiffusionModelConfig, sample_size=None) -> dict:
    """Diffusers' `unet/config.json` of a U-Net.

    Args:
        config: A `DiffusionModelConfig`.
        sample_size: Side of the latents that pictures have by default, or (height,
            width).

    Returns:
        A JSON object.

    Raises:
        ValueError: If diffusers has no field for something.
    """
    down = [
        "CrossAttnDownBlock2D" if depth else "DownBlock2D"
        for depth in config.transformer_depths
    ]
    depths = [_listed(depth) or 1 for depth in config.transformer_depths]
    middle = config.mid_transformer_depth
    # Diffusers gives the middle block the depth of the last level.
    if not config.transformer_depths[-1] and middle:
        depths[-1] = middle
    if middle and _first(depths[-1]) != middle:
        raise ValueError(
            "In diffusers' layout the middle block is as deep as the last level. "
            f"Received: mid_transformer_depth={middle}, "
            f"transformer_depths={config.transformer_depths}"
        )
    more = {}
    if config.up_transformer_depths:
        # Diffusers wants the way up where a level has a list.
        levels = range(len(depths))
        ups = [list(config.up_depths(level)) for level in levels][::-1]
        more["reverse_transformer_layers_per_block"] = [
            row if all(row) else 1 for row in ups
        ]
    if middle is None or middle == 0:
        more["mid_block_type"] = None if middle is None else "UNetMidBlock2D"
    if config.only_cross_attention:
        more["only_cross_attention"] = list(config.only_cross_attention)
    if config.vector_width:
        more["addition_embed_type"] = "text_time"
        more["addition_time_embed_dim"] = config.vector_id_width
        more["projection_class_embeddings_input_dim"] = config.vector_width
    if config.guidance_width:
        more["time_cond_proj_dim"] = config.guidance_width
    if config.noise_levels:
        more["num_class_embeds"] = config.noise_levels
    heads = list(config.heads)
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": DIFFUSERS_VERSION,
        "act_fn": "silu",
        "attention_head_dim": heads[0] if len(set(heads)) == 1 else heads,
        "block_out_channels": list(config.block_widths),
        "center_input_sample": False,
        "cross_attention_dim": config.context_width,
        "down_block_types": down,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": config.in_channels,
        "layers_per_block": _listed(config.blocks_per_level),
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": config.norm_groups,
        "out_channels": config.out_channels,
        "sample_size": sample_size,
        "transformer_layers_per_block": (
            depths[0] if all(depth == depths[0] for depth in depths) else depths
        ),
        "up_block_types": [block.replace("Down", "Up") for block in reversed(down)],
        "use_linear_projection": config.linear_projection,
        **more,
    }


def _listed(depth):
    return list(depth) if isinstance(depth, tuple) else depth
