"""The configuration of a model folder in diffusers' layout, read and written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.config import GenerationConfig, ModelConfig, ScheduleConfig
from kerasdiffusion.vocabulary import read_tokenizer_config
from kerasdiffusion.weights.base import WeightsError, read_json
from kerasdiffusion.weights.configs import (
    DIFFUSERS_VERSION,
    schedule_from_json,
    schedule_to_json,
    text_encoder_from_json,
    text_encoder_to_json,
    unet_from_json,
    unet_to_json,
    vae_from_json,
    vae_to_json,
)

OWN_FILE = "kerasdiffusion.json"  # what diffusers has no place for

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionInpaintPipelineLegacy",
)


def read_folder(folder: str | Path) -> ModelConfig:
    """The configuration of a model folder in diffusers' layout.

    Args:
        folder: A folder with `model_index.json` or at least `unet/config.json`.

    Returns:
        A `ModelConfig`.

    Raises:
        WeightsError: If the folder is no model, or one that is not supported.
    """
    folder = Path(folder)
    index = folder / "model_index.json"
    if index.is_file():
        pipeline = read_json(index).get("_class_name")
        if pipeline not in PIPELINES:
            raise WeightsError(
                f"The model is not one of Stable Diffusion 1's family, whose pipelines "
                f"are {', '.join(PIPELINES)}. Received: {pipeline!r} in {index}"
            )
    elif not (folder / "unet" / "config.json").is_file():
        raise WeightsError(
            f"The folder is not a model: it has no model_index.json and no "
            f"unet/config.json. Received: {folder}"
        )

    def part(name, convert, file="config.json"):
        path = folder / name / file
        return convert(read_json(path), str(path))

    unet_json = read_json(folder / "unet" / "config.json")
    autoencoder = part("vae", vae_from_json)
    text_encoder = part("text_encoder", text_encoder_from_json)
    schedule = ScheduleConfig()
    if (folder / "scheduler").is_dir():
        schedule = part("scheduler", schedule_from_json, "scheduler_config.json")
    config = ModelConfig(
        text_encoder=text_encoder,
        diffusion_model=unet_from_json(unet_json, str(folder / "unet/config.json")),
        autoencoder=autoencoder,
        schedule=schedule,
        generation=_generation(folder, unet_json.get("sample_size"), autoencoder),
    )
    if (folder / "tokenizer").is_dir():
        return config.replace(tokenizer=read_tokenizer_config(folder / "tokenizer"))
    return config.replace(
        tokenizer=dataclasses.replace(
            config.tokenizer, context_length=text_encoder.context_length
        )
    )


def _generation(folder: Path, sample_size, autoencoder) -> GenerationConfig:
    """Our own file's defaults, else the U-Net's size in pixels."""
    if (folder / OWN_FILE).is_file():
        values = read_json(folder / OWN_FILE).get("generation", {})
        return dataclass_from(GenerationConfig, values, str(folder / OWN_FILE))
    sizes = sample_size if isinstance(sample_size, list) else [sample_size] * 2
    if len(sizes) != 2 or not all(type(size) is int for size in sizes):
        return GenerationConfig()
    height, width = (size * autoencoder.downsampling for size in sizes)
    return GenerationConfig(height=height, width=width)


def dataclass_from(kind, values: Mapping, where: str):
    """A configuration from `dataclasses.asdict` of it, read back from JSON."""
    names = {field.name: field for field in dataclasses.fields(kind)}
    arguments = {}
    for name, value in values.items():
        if name not in names:
            raise WeightsError(
                f"The field {name!r} is unknown. Received: {value!r} in {where}"
            )
        part, default = names[name].default_factory, names[name].default
        if dataclasses.is_dataclass(part):
            arguments[name] = dataclass_from(part, value, where)
            continue
        value = tuple(value) if isinstance(value, list) else value
        like = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, like):
            raise WeightsError(
                f"The field {name!r} must be like {default!r}. "
                f"Received: {value!r} in {where}"
            )
        arguments[name] = value
    return kind(**arguments)


def write_configs(folder: Path, config: ModelConfig) -> None:
    """Write every JSON file of a model folder but the tokenizer's.

    Args:
        folder: The folder; made with its sub-folders where they are missing.
        config: A `ModelConfig`.

    Raises:
        ValueError: If diffusers has no field for something in the configuration.
    """
    generation, factor = config.generation, config.autoencoder.downsampling
    size = [generation.height // factor, generation.width // factor]
    size = size[0] if size[0] == size[1] else size
    image_size = max(generation.height, generation.width)
    files = {
        "model_index.json": {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": DIFFUSERS_VERSION,
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        "unet/config.json": unet_to_json(config.diffusion_model, size),
        "vae/config.json": vae_to_json(config.autoencoder, image_size),
        "text_encoder/config.json": text_encoder_to_json(config.text_encoder),
        "scheduler/scheduler_config.json": schedule_to_json(config.schedule),
        OWN_FILE: {"generation": dataclasses.asdict(generation)},
    }
    for name, values in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
