"""ControlNets and T2I-Adapters: known by their `config.json` or their keys, and read.

Reference:
    diffusers `models/controlnets/controlnet.py` and `models/adapter.py` for the fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from kerasdiffusion.presets.config import ControlNetConfig, T2IAdapterConfig
from kerasdiffusion.weights import hub
from kerasdiffusion.weights.base import TensorFile, WeightsError, read_json
from kerasdiffusion.weights.detect import Shapes, way_down
from kerasdiffusion.weights.fields import Fields
from kerasdiffusion.weights.files import open_tensors
from kerasdiffusion.weights.layout import find_weights
from kerasdiffusion.weights.load import Source, load_files
from kerasdiffusion.weights.modules import PREFIXES
from kerasdiffusion.weights.unet_json import unet_from_json

ControlConfig = ControlNetConfig | T2IAdapterConfig
KINDS = ("full_adapter", "full_adapter_xl", "light_adapter")

# Networks that follow a picture in other ways.
STRANGERS = (
    (r"lora_controlnet$", "a Control-LoRA"),
    (r"lllite_unet", "a ControlNet-LLLite"),
    (r"task_embedding|control_add_embedding\.", "a ControlNet for several tasks"),
    (r"ip_adapter\.|image_proj\.", "an IP-Adapter"),
    (r"(transformer_blocks|controlnet_x_embedder|joint_blocks)\b", "of another family"),
)


def read_control_config(source: Source) -> ControlConfig:
    """What a network that follows pictures is made of, without its weights.

    Args:
        source: A folder with diffusers' `config.json`; a file of diffusers', of
            lllyasviel's (`control_model.*`) or of TencentARC's; or `hf://owner/name`.

    Returns:
        A `ControlNetConfig` or a `T2IAdapterConfig`.

    Raises:
        WeightsError: If it is neither, or one that is not supported.
    """
    path = hub.resolve(source, configs_only=True)
    if not path.is_dir():
        with open_tensors(path) as file:
            return detect_control(file)
    values, where = read_json(path / "config.json"), str(path / "config.json")
    kind = values.get("_class_name")
    if kind == "ControlNetModel":
        return controlnet_from_json(values, where)
    if kind == "T2IAdapter":
        return t2i_adapter_from_json(values, where)
    raise WeightsError(
        f"A network to follow a picture must be a ControlNetModel or a T2IAdapter. "
        f"Received: {kind!r} in {where}"
    )


def load_control(network, source: Source) -> None:
    """Reads the weights of a `ControlNet` or a `T2IAdapter`, all or nothing.

    Args:
        network: The built network.
        source: As in `read_control_config`.

    Raises:
        WeightsError: If the weights do not fit, or there are none.
    """
    path = hub.resolve(source)
    if path.is_dir():
        folder = path
        name = find_weights(lambda n: (folder / n).is_file(), "diffusion_model", None)
        if name is None:
            raise WeightsError(
                f"The folder must hold diffusion_pytorch_model.safetensors or .bin. "
                f"Received: {path}"
            )
        path = path / name
    is_adapter = isinstance(network.config, T2IAdapterConfig)
    part = "t2i_adapter" if is_adapter else "controlnet"
    load_files({part: network}, {part: Path(path)})


def controlnet_from_json(
    values: Mapping, where: str = "controlnet"
) -> ControlNetConfig:
    """The ControlNet that diffusers' `config.json` describes.

    Arguments, result and errors are those of `unet_from_json`.
    """
    fields = Fields(values, where)
    order = fields.take("controlnet_conditioning_channel_order", "rgb")
    if order not in ("rgb", "bgr"):
        fields.refuse("controlnet_conditioning_channel_order", order)
    widths = fields.widths("conditioning_embedding_out_channels", (16, 32, 96, 256))
    own = {
        "picture_channels": fields.whole("conditioning_channels", 3, "channels"),
        "picture_widths": widths,
        "bgr": order == "bgr",
        "pooled": bool(fields.take("global_pool_conditions", False)),
    }
    # The rest is the U-Net's.
    downs = fields.values.get("down_block_types")
    if downs:
        ups = [name.replace("Down", "Up") for name in reversed(downs)]
        fields.values["up_block_types"] = ups
    return ControlNetConfig(**asdict(unet_from_json(fields.values, where)), **own)


def t2i_adapter_from_json(
    values: Mapping, where: str = "t2i_adapter"
) -> T2IAdapterConfig:
    """The T2I-Adapter that diffusers' `config.json` describes.

    Arguments, result and errors are those of `unet_from_json`.
    """
    fields = Fields(values, where)
    kind = fields.take("adapter_type", "full_adapter")
    if kind not in KINDS:
        fields.refuse("adapter_type", kind)
    widths = fields.widths("channels", (320, 640, 1280, 1280))
    config = T2IAdapterConfig(
        kind=kind,
        picture_channels=fields.whole("in_channels", 3, "channels"),
        # The light one's list leaves out the last, which is as wide as the one before.
        block_widths=widths + widths[-1:] * (kind == "light_adapter"),
        blocks_per_level=fields.whole("num_res_blocks", 2, "layers"),
        downsampling=fields.whole("downscale_factor", 8, "channels"),
    )
    fields.finish({})
    return config


def detect_control(file: TensorFile) -> ControlConfig:
    """The network that a file holds, by its keys and shapes.

    What shapes do not show is as in the published ones: heads as in the U-Net of the
    family; RGB; and what is called shuffle pools what it adds.

    Args:
        file: An open `TensorFile`.

    Returns:
        A `ControlNetConfig` or a `T2IAdapterConfig`.

    Raises:
        WeightsError: If the file is something else.
    """
    keys = file.keys()
    for pattern, what in STRANGERS:
        if any(re.match(pattern, key) for key in keys):
            raise WeightsError(
                f"The file is {what}; this reads ControlNets and T2I-Adapters for "
                f"Stable Diffusion 1, 2 and XL. Received: {file.path}"
            )
    root = PREFIXES["controlnet"]
    root = root if any(key.startswith(root) for key in keys) else ""
    shapes = Shapes(file, root)
    if "input_hint_block.0.weight" in shapes.shapes:
        return _original_controlnet(shapes)
    if "controlnet_cond_embedding.conv_in.weight" in shapes.shapes:
        return _controlnet(shapes)
    root = "adapter." if any(key.startswith("adapter.") for key in keys) else ""
    shapes = Shapes(file, root)
    if shapes.count("body.{}."):
        return _t2i_adapter(shapes)
    raise WeightsError(
        "The file must hold a ControlNet (controlnet_cond_embedding.*, "
        "control_model.*) or a T2I-Adapter (adapter.*, body.*). "
        f"Received: {', '.join(sorted(keys)[:4])} in {file.path}"
    )


def _original_controlnet(shapes: Shapes) -> ControlNetConfig:
    found = way_down(shapes)
    depths = found.pop("transformer_depths")
    last = shapes.count("input_hint_block.{}.") - 1
    # Every second convolution changes the width.
    hints = [shapes.of(f"input_hint_block.{i}.weight", 4) for i in range(0, last, 4)]
    return ControlNetConfig(
        **found,
        transformer_depths=tuple(map(_one_or_each, depths)),
        **_picture(shapes, hints),
    )


def _controlnet(shapes: Shapes) -> ControlNetConfig:
    """By diffusers' names."""
    there = shapes.shapes
    levels = shapes.count("down_blocks.{}.")
    widths = [
        shapes.of(f"down_blocks.{level}.resnets.0.conv2.weight", 4)[0]
        for level in range(levels)
    ]
    blocks = [
        shapes.count(f"down_blocks.{level}.resnets.{{}}.") for level in range(levels)
    ]

    def depth(block: str) -> int:
        return shapes.count(f"{block}.transformer_blocks.{{}}.")

    depths = [
        [depth(f"down_blocks.{level}.attentions.{i}") for i in range(blocks[level])]
        for level in range(levels)
    ]
    keys = [key for key in there if key.endswith(".attn2.to_k.weight")]
    vector = there.get("add_embedding.linear_1.weight", (0, 0))[1]
    project = [there[key] for key in there if key.endswith("proj_in.weight")]
    linear = bool(vector) or any(len(shape) == 2 for shape in project)
    new = "controlnet_cond_embedding"
    last = shapes.count(f"{new}.blocks.{{}}.")
    hints = [shapes.of(f"{new}.conv_in.weight", 4)]
    hints += [
        shapes.of(f"{new}.blocks.{i}.weight", 4) for i in range(1, last, 2)
    ]  # the others keep the width
    middle = (
        depth("mid_block.attentions.0")
        if shapes.count("mid_block.resnets.{}.")
        else None
    )
    return ControlNetConfig(
        in_channels=shapes.of("conv_in.weight", 4)[1],
        block_widths=tuple(widths),
        blocks_per_level=_one_or_each(blocks),
        transformer_depths=tuple(map(_one_or_each, depths)),
        mid_transformer_depth=middle,
        heads=tuple(max(1, width // 64) if linear else 8 for width in widths),
        # A network without attention takes any context.
        context_width=shapes.of(keys[0], 2)[1] if keys else 2048,
        linear_projection=linear,
        vector_width=vector,
        **_picture(shapes, hints),
    )


def _picture(shapes: Shapes, hints) -> dict:
    return {
        "picture_channels": hints[0][1],
        "picture_widths": tuple(shape[0] for shape in hints),
        "pooled": "shuffle" in shapes.path.name.lower(),
    }


def _one_or_each(numbers):
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def _t2i_adapter(shapes: Shapes) -> T2IAdapterConfig:
    """By diffusers' names, or TencentARC's, which count blocks and not levels."""
    count = shapes.count("body.{}.")
    if "body.0.out_conv.weight" in shapes.shapes:
        outs = [shapes.of(f"body.{i}.out_conv.weight", 4)[0] for i in range(count)]
        ins = shapes.of("body.0.in_conv.weight", 4)[1]
        inner = (
            "resnets" if "body.0.resnets.0.block1.weight" in shapes.shapes else "body"
        )
        blocks, kind = shapes.count(f"body.0.{inner}.{{}}."), "light_adapter"
    else:
        ins = shapes.of("conv_in.weight", 4)[1]
        blocks, kind = shapes.count("body.0.resnets.{}."), "full_adapter"
        name = "body.{}.resnets.0.block1.weight"
        if not blocks:
            blocks, name = 2, "body.{}.block1.weight"
            count //= blocks
        step = 1 if "resnets" in name else blocks
        outs = [shapes.of(name.format(i * step), 4)[0] for i in range(count)]
    channels = 1 if ins % 3 else 3
    factor = math.isqrt(ins // channels)
    if kind == "full_adapter" and factor == 16:
        kind = "full_adapter_xl"
    return T2IAdapterConfig(kind, channels, tuple(outs), blocks, factor)
