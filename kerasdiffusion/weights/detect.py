"""What a single file holds, known by its keys and shapes alone.

Reference:
    diffusers `loaders/single_file_utils.py` for the keys that tell families apart.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    ModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TokenizerConfig,
)
from kerasdiffusion.presets.families import (
    COSXL,
    PLAYGROUND,
    UPSCALER,
    family_defaults,
)
from kerasdiffusion.storage.bounds import shown_path
from kerasdiffusion.weights.base import TensorFile, WeightsError
from kerasdiffusion.weights.folders import dataclass_from
from kerasdiffusion.weights.given import (
    Given,
    check_whole,
    usual_autoencoder,
    usual_text_encoder,
)
from kerasdiffusion.weights.modules import EMBEDDER, PREFIXES
from kerasdiffusion.weights.strangers import ALONE, STRANGERS, refuse_strangers

METADATA_KEY = "kerasdiffusion.config"


class Shapes:
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


def detect(file: TensorFile, given: Given | None = None) -> ModelConfig:
    """The configuration of an original single file.

    What shapes do not show is what the family has: heads, groups, the schedule. Whether
    a Stable Diffusion 2 predicts v cannot be seen: those with 4 channels are taken to,
    but where the metadata or the file's name (`base`, `512`, `turbo`) say otherwise. A
    file that `save_file` wrote says it all in its metadata.

    Args:
        file: An open `TensorFile`.
        given: Parts that come from elsewhere, which the file may lack.

    Returns:
        A `ModelConfig`.

    Raises:
        WeightsError: If the file is something else; a known family is named.
    """
    given = given or Given()
    if METADATA_KEY in file.metadata:
        try:
            values = json.loads(file.metadata[METADATA_KEY])
            return dataclass_from(ModelConfig, values, str(file.path))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise WeightsError(
                f"The configuration in the file's metadata is damaged ({error}). "
                f"Received: {file.path}"
            ) from error
    has_network = _has(file, PREFIXES["diffusion_model"])
    roots = PREFIXES["decoder"], (PREFIXES["text_encoder"], EMBEDDER)
    others = sum(_has(file, root) for root in roots)
    if not has_network and "diffusion_model" not in given and others < 2:
        refuse_strangers(file, among=STRANGERS + ALONE)
        first = ", ".join(sorted(file.keys())[:3])
        raise WeightsError(
            "A single file of Stable Diffusion has tensors "
            f"{PREFIXES['diffusion_model']}*. "
            f"Received: {shown_path(first or 'none')} and others in {file.path}"
        )
    refuse_strangers(file, among=STRANGERS[:3])
    if has_network:
        network = diffusion_model(file)
    else:
        network = given.instead("diffusion_model", file.path)
    encoders = _text_encoders(file, network, given)
    tokenizers = [
        TokenizerConfig(
            context_length=encoder.context_length,
            pad_token="!" if encoder.is_open_clip else TokenizerConfig.pad_token,
        )
        for encoder in encoders
    ]
    second = {}
    if len(encoders) == 2:
        second = {"text_encoder_2": encoders[1], "tokenizer_2": tokenizers[1]}
    schedule, low_res = _schedules(
        file, network, encoders[0].is_open_clip and not network.vector_width
    )
    if _has(file, PREFIXES["decoder"]):
        latents = autoencoder(file, usual_autoencoder(network))
    else:
        usual = usual_autoencoder(network)
        latents = given.instead("autoencoder", file.path, usual)
    config = ModelConfig(
        tokenizer=tokenizers[0],
        text_encoder=encoders[0],
        diffusion_model=network,
        autoencoder=latents,
        schedule=schedule,
        low_res_schedule=low_res,
        **second,
    )
    check_whole(config, file.path)
    return config.replace(generation=family_defaults(config))


def is_ours(file: TensorFile) -> bool:
    """Whether `save_file` wrote a file, which says in its metadata what it is."""
    return METADATA_KEY in file.metadata


def _has(file: TensorFile, prefix: str | tuple[str, ...]) -> bool:
    return any(key.startswith(prefix) for key in file.keys())


def _schedules(file: TensorFile, network, is_sd2: bool):
    """The noise of the U-Net, and that of the upscaler's small picture."""
    if network.noise_levels:
        return UPSCALER.schedule, UPSCALER.low_res_schedule
    # Stable Diffusion 2's models of more channels are of its 512 x 512 base, and so are
    # files whose names say it (512-base-ema.ckpt, v2-1_512-ema-pruned.safetensors).
    is_base = re.search("base|512|turbo", Path(file.path).name, re.IGNORECASE)
    is_v = is_sd2 and network.in_channels == 4 and not is_base
    kind = "v_prediction" if is_v else "epsilon"
    said = file.metadata.get("modelspec.prediction_type")
    kind = {"v": "v_prediction", "epsilon": "epsilon"}.get(said, kind)
    if "edm_mean" in file.keys():
        return PLAYGROUND.schedule, None
    if "edm_vpred.sigma_max" in file.keys():
        ends = {
            name: float(file.read(f"edm_vpred.{name}").reshape(()))
            for name in ("sigma_min", "sigma_max")
            if f"edm_vpred.{name}" in file.keys()
        }
        return replace(COSXL.schedule, **ends), None
    if "v_pred" in file.keys():
        kind = "v_prediction"
    schedule = ScheduleConfig(
        prediction_type=kind,
        zero_terminal_snr="ztsnr" in file.keys(),
        align_your_steps="sdxl" if network.vector_width else "sd1",
    )
    return schedule, None


def _text_encoders(file: TensorFile, network, given) -> list[TextEncoderConfig]:
    is_xl = network.vector_width > 0
    roots = {"text_encoder": PREFIXES["text_encoder"]}
    if is_xl:
        second = PREFIXES["text_encoder_2"]
        roots = {"text_encoder": EMBEDDER, "text_encoder_2": second}
    found = []
    for field, root in roots.items():
        if _has(file, f"{root}model."):
            found.append(open_clip(file, f"{root}model.", is_xl))
        elif _has(file, root):
            nested = _has(file, f"{root}transformer.text_model.")
            prefix = f"{root}transformer.{'text_model.' if nested else ''}"
            found.append(clip(file, prefix, is_xl))
        elif field in given or field == "text_encoder":
            usual = usual_text_encoder(network, field)
            found.append(given.instead(field, file.path, usual))
    return found


def clip(file: TensorFile, prefix: str, is_xl: bool) -> TextEncoderConfig:
    """OpenAI's text encoder whose names begin with `prefix`."""
    shapes = Shapes(file, prefix)
    vocabulary_size, width = shapes.of("embeddings.token_embedding.weight", 2)
    return TextEncoderConfig(
        vocabulary_size=vocabulary_size,
        context_length=shapes.of("embeddings.position_embedding.weight", 2)[0],
        width=width,
        depth=shapes.count("encoder.layers.{}."),
        heads=max(1, width // 64),
        mlp_width=shapes.of("encoder.layers.0.mlp.fc1.weight", 2)[0],
        skipped_layers=int(is_xl),
        final_norm=not is_xl,
    )


def open_clip(file: TensorFile, prefix: str, is_xl: bool) -> TextEncoderConfig:
    """OpenCLIP's text encoder whose names begin with `prefix`."""
    shapes = Shapes(file, prefix)
    vocabulary_size, width = shapes.of("token_embedding.weight", 2)
    # Words that were added to CLIP's vocabulary are behind its end token.
    end_id = 49407 if is_xl and vocabulary_size > 49408 else None
    depth = shapes.count("transformer.resblocks.{}.")
    projection = shapes.of("text_projection.weight", 2)[0] if is_xl else 0
    return TextEncoderConfig(
        vocabulary_size=vocabulary_size,
        context_length=shapes.of("positional_embedding.weight", 2)[0],
        width=width,
        # Stable Diffusion 2 leaves out the last of ViT-H's 24 layers.
        depth=depth if is_xl else min(depth, 23),
        heads=max(1, width // 64),
        mlp_width=shapes.of("transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        activation="gelu",
        skipped_layers=int(is_xl),
        final_norm=not is_xl,
        projection_width=projection,
        end_id=end_id,
    )


def diffusion_model(
    file: TensorFile, root: str = PREFIXES["diffusion_model"]
) -> DiffusionModelConfig:
    """The U-Net whose names begin with `root`."""
    shapes = Shapes(file, root)
    found = way_down(shapes)
    ups, block = [], 0
    for level in reversed(found["transformer_depths"]):
        numbers = range(block, block + len(level) + 1)
        ups.insert(0, [_depth(shapes, f"output_blocks.{i}") for i in numbers])
        block += len(level) + 1
    _check(shapes, shapes.count("output_blocks.{}.") == block, "output_blocks", block)
    downs = found.pop("transformer_depths")
    down_depths, up_depths = tuple(map(_depths, downs)), tuple(map(_depths, ups))
    config = DiffusionModelConfig(
        **found,
        out_channels=shapes.of("out.2.weight", 4)[0],
        transformer_depths=down_depths,
        up_transformer_depths=None if up_depths == down_depths else up_depths,
    )
    for level in range(len(downs)):
        for of, there in ((config.depths, downs), (config.up_depths, ups)):
            try:
                of(level)
            except ValueError:
                _check(shapes, False, f"transformers of level {level}", there[level])
    return config


def way_down(shapes: Shapes) -> dict:
    """What a U-Net or ControlNet of the original layout has down to its middle.

    Args:
        shapes: Of the network alone.

    Returns:
        Fields of `DiffusionModelConfig`; `transformer_depths` are lists of one number
        for each block.
    """
    widths: list[int] = []
    downs: list[list[int]] = []
    cross: list[bool] = []
    first = True  # whether the next residual block begins a level
    for i in range(1, shapes.count("input_blocks.{}.")):
        block = f"input_blocks.{i}"
        if f"{block}.0.op.weight" in shapes.shapes:
            first = True
            continue
        width = shapes.of(f"{block}.0.out_layers.3.weight", 4)[0]
        if first:
            widths.append(width)
            downs.append([])
            name = f"{block}.1.transformer_blocks.0.attn1.to_k.weight"
            cross.append(shapes.shapes.get(name, (0, width))[1] != width)
            first = False
        downs[-1].append(_depth(shapes, block))
        _check(shapes, width == widths[-1], f"{block}.0.out_layers.3.weight", width)
    _check(shapes, bool(downs), "input_blocks", "nothing")

    keys = [key for key in shapes.shapes if key.endswith(".attn2.to_k.weight")]
    _check(shapes, bool(keys), "attn2.to_k.weight", "nothing")
    project = keys[0].partition(".transformer_blocks.")[0] + ".proj_in.weight"
    linear = len(shapes.shapes.get(project, ())) == 2
    label = shapes.shapes.get("label_emb.weight", (0,))[0]
    blocks = tuple(map(len, downs))
    # Heads are 64 wide since Stable Diffusion 2, but for its upscaler's.
    wide = linear and not label
    middle = shapes.count("middle_block.{}.")
    return {
        "in_channels": shapes.of("input_blocks.0.0.weight", 4)[1],
        "block_widths": tuple(widths),
        "blocks_per_level": blocks[0] if len(set(blocks)) == 1 else blocks,
        "transformer_depths": downs,
        "mid_transformer_depth": _depth(shapes, "middle_block") if middle else None,
        "heads": tuple(max(1, width // 64) if wide else 8 for width in widths),
        "context_width": shapes.of(keys[0], 2)[1],
        "linear_projection": linear,
        "only_cross_attention": tuple(cross) if any(cross) else (),
        "vector_width": shapes.shapes.get("label_emb.0.0.weight", (0, 0))[1],
        "guidance_width": shapes.shapes.get("time_embed.cond_proj.weight", (0, 0))[1],
        "noise_levels": label,
    }


def _depth(shapes: Shapes, block: str) -> int:
    return shapes.count(f"{block}.1.transformer_blocks.{{}}.")


def _depths(row: list[int]):
    return row[0] if len(set(row)) == 1 else tuple(row)


def autoencoder(
    file: TensorFile, family: AutoencoderConfig | None, root: str = PREFIXES["decoder"]
) -> AutoencoderConfig:
    """The autoencoder whose names begin with `root`, scaled as in its family."""
    shapes = Shapes(file, root)
    levels = shapes.count("decoder.up.{}.")
    widths = tuple(
        shapes.of(f"decoder.up.{level}.block.0.conv1.weight", 4)[0]
        for level in range(levels)
    )
    _check(shapes, levels > 0, "decoder.up", levels)
    family = family or AutoencoderConfig()
    if levels == len(UPSCALER.autoencoder.block_widths):
        family = UPSCALER.autoencoder
    channels = {}
    if "edm_mean" in file.keys() and "edm_std" in file.keys():
        family = PLAYGROUND.autoencoder
        # As the shortest decimal numbers that round to these in float32.
        channels = {
            f"latents_{name}": tuple(
                float(str(value))
                for value in file.read(f"edm_{name}").reshape(-1).astype("float32")
            )
            for name in ("mean", "std")
        }
    return AutoencoderConfig(
        image_channels=shapes.of("decoder.conv_out.weight", 4)[0],
        latent_channels=shapes.of("decoder.conv_in.weight", 4)[1],
        block_widths=widths,
        blocks_per_level=shapes.count("decoder.up.0.block.{}.") - 1,
        scale_factor=family.scale_factor,
        force_upcast=family.force_upcast,
        **channels,
    )


def _check(shapes: Shapes, holds: bool, name: str, value) -> None:
    if not holds:
        raise WeightsError(
            f"The U-Net or autoencoder in the file has no regular levels of Stable "
            f"Diffusion's kind. Received: {name} with {value} in {shapes.path}"
        )
