"""What a single file holds, known by its keys and shapes alone.

Reference:
    diffusers `loaders/single_file_utils.py` for the keys that tell families apart.
"""

from __future__ import annotations

import json
import re

from kerasdiffusion.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    ModelConfig,
    TextEncoderConfig,
    TokenizerConfig,
)
from kerasdiffusion.weights.base import TensorFile, WeightsError
from kerasdiffusion.weights.folders import dataclass_from
from kerasdiffusion.weights.names import PREFIXES

METADATA_KEY = "kerasdiffusion.config"

# Keys of files that are not Stable Diffusion 1, and what they are.
STRANGERS = (
    (r"conditioner\.embedders\.", "an SDXL checkpoint"),
    (r"cond_stage_model\.model\.", "a Stable Diffusion 2 checkpoint"),
    (r"(model\.diffusion_model\.)?joint_blocks\.", "a Stable Diffusion 3 checkpoint"),
    (r"(model\.diffusion_model\.)?double_blocks\.", "a Flux checkpoint"),
    (r"control_model\.|controlnet_cond_embedding\.", "a ControlNet"),
    (r"lora_(te|unet)|.*\.lora_(A|B|up|down)\.", "a LoRA"),
    (r"string_to_param|emb_params$|clip_[lg]$", "a textual-inversion embedding"),
)


class _Shapes:
    """Shapes by name, with errors that say what was looked for."""

    def __init__(self, file: TensorFile, prefix: str):
        self.path = file.path
        self.shapes = {
            key[len(prefix) :]: file.shape(key)
            for key in file.keys()
            if key.startswith(prefix)
        }

    def of(self, name: str, rank: int) -> tuple[int, ...]:
        shape = self.shapes.get(name)
        if shape is None or len(shape) != rank:
            found = "no such tensor" if shape is None else f"shape {shape}"
            raise WeightsError(
                f"The file must hold {name!r} with {rank} dimensions. "
                f"Received: {found} in {self.path}"
            )
        return shape

    def count(self, pattern: str) -> int:
        """One more than the highest index that stands for `{}` in the names."""
        matcher = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d{1,4})"))
        matches = map(matcher.match, self.shapes)
        return max((int(match[1]) + 1 for match in matches if match), default=0)


def detect(file: TensorFile) -> ModelConfig:
    """The configuration of an original single file.

    What shapes do not show is Stable Diffusion 1's: 8 heads, 32 groups, the schedule.
    A file that `save_file` wrote says it all in its metadata.

    Args:
        file: An open `TensorFile`.

    Returns:
        A `ModelConfig`.

    Raises:
        WeightsError: If the file is something else; a known family is named.
    """
    if METADATA_KEY in file.metadata:
        try:
            values = json.loads(file.metadata[METADATA_KEY])
            return dataclass_from(ModelConfig, values, str(file.path))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise WeightsError(
                f"The configuration in the file's metadata is damaged ({error}). "
                f"Received: {file.path}"
            ) from error
    refuse_strangers(file)
    text_encoder = _text_encoder(file)
    return ModelConfig(
        tokenizer=TokenizerConfig(context_length=text_encoder.context_length),
        text_encoder=text_encoder,
        diffusion_model=_diffusion_model(file),
        autoencoder=_autoencoder(file),
    )


def refuse_strangers(file: TensorFile) -> None:
    """Raise for a file of another family, and say which."""
    for pattern, what in STRANGERS:
        matcher = re.compile(pattern)
        if any(matcher.match(key) for key in file.keys()):
            raise WeightsError(
                f"The file is {what}; this reads Stable Diffusion 1 and models of its "
                f"layout. Received: {file.path}"
            )


def _text_encoder(file: TensorFile) -> TextEncoderConfig:
    prefix = PREFIXES["text_encoder"]
    if any(key.startswith(f"{prefix}text_model.") for key in file.keys()):
        prefix += "text_model."
    shapes = _Shapes(file, prefix)
    vocabulary_size, width = shapes.of("embeddings.token_embedding.weight", 2)
    return TextEncoderConfig(
        vocabulary_size=vocabulary_size,
        context_length=shapes.of("embeddings.position_embedding.weight", 2)[0],
        width=width,
        depth=shapes.count("encoder.layers.{}."),
        heads=max(1, width // 64),
        mlp_width=shapes.of("encoder.layers.0.mlp.fc1.weight", 2)[0],
    )


def _diffusion_model(file: TensorFile) -> DiffusionModelConfig:
    shapes = _Shapes(file, PREFIXES["diffusion_model"])
    in_channels = shapes.of("input_blocks.0.0.weight", 4)[1]

    def depth(block: str) -> int:
        return shapes.count(f"{block}.1.transformer_blocks.{{}}.")

    widths: list[int] = []
    blocks: list[int] = []
    depths: list[int] = []
    first = True  # whether the next residual block begins a level
    for i in range(1, shapes.count("input_blocks.{}.")):
        block = f"input_blocks.{i}"
        if f"{block}.0.op.weight" in shapes.shapes:
            first = True
            continue
        width = shapes.of(f"{block}.0.out_layers.3.weight", 4)[0]
        if first:
            widths.append(width)
            blocks.append(0)
            depths.append(depth(block))
            first = False
        blocks[-1] += 1
        _check(shapes, width == widths[-1], f"{block}.0.out_layers.3.weight", width)
        _check(shapes, depth(block) == depths[-1], f"{block}.1", depth(block))
    _check(shapes, bool(blocks) and len(set(blocks)) == 1, "input_blocks", blocks)

    block = "middle_block.1"
    linear = len(shapes.shapes.get(f"{block}.proj_in.weight", ())) == 2
    name = f"{block}.transformer_blocks.0.attn2.to_k.weight"
    context_width = shapes.of(name, 2)[1]
    return DiffusionModelConfig(
        in_channels=in_channels,
        out_channels=shapes.of("out.2.weight", 4)[0],
        block_widths=tuple(widths),
        blocks_per_level=blocks[0],
        transformer_depths=tuple(depths),
        mid_transformer_depth=depth("middle_block"),
        heads=(8,) * len(widths),
        context_width=context_width,
        linear_projection=linear,
    )


def _autoencoder(file: TensorFile) -> AutoencoderConfig:
    shapes = _Shapes(file, PREFIXES["decoder"])
    levels = shapes.count("decoder.up.{}.")
    widths = tuple(
        shapes.of(f"decoder.up.{level}.block.0.conv1.weight", 4)[0]
        for level in range(levels)
    )
    _check(shapes, levels > 0, "decoder.up", levels)
    return AutoencoderConfig(
        image_channels=shapes.of("decoder.conv_out.weight", 4)[0],
        latent_channels=shapes.of("decoder.conv_in.weight", 4)[1],
        block_widths=widths,
        blocks_per_level=shapes.count("decoder.up.0.block.{}.") - 1,
    )


def _check(shapes: _Shapes, holds: bool, name: str, value) -> None:
    if not holds:
        raise WeightsError(
            f"The U-Net or autoencoder in the file has no regular levels of Stable "
            f"Diffusion's kind. Received: {name} with {value} in {shapes.path}"
        )
