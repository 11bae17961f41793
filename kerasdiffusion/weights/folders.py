"""The configuration of a model folder in diffusers' layout, read and written."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.presets.config import (
    GenerationConfig,
    ModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
    TokenizerConfig,
)
from kerasdiffusion.presets.families import family_defaults
from kerasdiffusion.prompts.vocabulary import read_tokenizer_config
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.weights.base import WeightsError, read_json
from kerasdiffusion.weights.configs import (
    text_encoder_from_json,
    text_encoder_to_json,
    vae_from_json,
    vae_to_json,
)
from kerasdiffusion.weights.fields import DIFFUSERS_VERSION, Fields
from kerasdiffusion.weights.given import (
    Given,
    check_whole,
    usual_autoencoder,
    usual_text_encoder,
    wanted_encoders,
)
from kerasdiffusion.weights.schedule_json import (
    schedule_from_json,
    schedule_to_json,
)
from kerasdiffusion.weights.schedulers import sampling_of
from kerasdiffusion.weights.unet_json import unet_from_json, unet_to_json

OWN_FILE = "kerasdiffusion.json"  # what diffusers has no place for

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionInpaintPipelineLegacy",
    "StableDiffusionDepth2ImgPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionUpscalePipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
    "LatentConsistencyModelPipeline",
)


def read_folder(folder: str | Path, given: Given | None = None) -> ModelConfig:
    """The configuration of a model folder in diffusers' layout.

    Args:
        folder: A folder with `model_index.json` or at least `unet/config.json`.
        given: Parts that come from elsewhere, which the folder may lack.

    Returns:
        A `ModelConfig`.

    Raises:
        WeightsError: If the folder is no model, or one that is not supported.
    """
    folder, given = Path(folder), given or Given()
    index, listed = folder / "model_index.json", {}
    if index.is_file():
        listed = read_json(index)
        pipeline = listed.get("_class_name")
        if pipeline not in PIPELINES:
            raise WeightsError(
                f"The model is not one of Stable Diffusion's family, whose pipelines "
                f"are {', '.join(PIPELINES)}. Received: {shown(pipeline)} in {index}"
            )
    elif not (folder / "unet" / "config.json").is_file() and not given:
        lora = next(folder.glob("*lora*.safetensors"), None)
        hint = f"; {lora.name} looks like a LoRA" if lora else ""
        raise WeightsError(
            f"The folder is not a model: it has no model_index.json and no "
            f"unet/config.json{hint}. Received: {folder}"
        )

    def part(name, convert, file="config.json"):
        path = folder / name / file
        return convert(read_json(path), str(path))

    def has(name) -> bool:
        null = listed.get(name, "") in (None, [None, None])
        return not null and (folder / name / "config.json").is_file()

    unet_json = {}
    if has("unet"):
        unet_json = read_json(folder / "unet" / "config.json")
        network = unet_from_json(unet_json, str(folder / "unet/config.json"))
    else:
        network = given.instead("diffusion_model", folder)
    if has("vae"):
        autoencoder = part("vae", vae_from_json)
    else:
        usual = usual_autoencoder(network)
        autoencoder = given.instead("autoencoder", folder, usual)
    schedules, sampling = {}, {}
    is_xl = network.vector_width > 0
    # Stable Diffusion 1's and 2's pipelines set it to 1 whatever the file says.
    heeds = is_xl or network.guidance_width > 0
    convert = functools.partial(schedule_from_json, steps_offset=None if heeds else 1)
    for name in ("scheduler", "low_res_scheduler"):
        if (folder / name).is_dir():
            schedules[name] = part(name, convert, "scheduler_config.json")
    if "scheduler" in schedules and not (folder / OWN_FILE).is_file():
        find = functools.partial(sampling_of, clips=is_xl)
        found = part("scheduler", find, "scheduler_config.json")
        sampling = dict(zip(("sampler", "spacing"), found, strict=True))
    schedule = schedules.get("scheduler", ScheduleConfig())
    if is_xl:
        schedule = dataclasses.replace(schedule, align_your_steps="sdxl")
    config = ModelConfig(
        **_texts(folder, part, has, network, given),
        diffusion_model=network,
        autoencoder=autoencoder,
        schedule=schedule,
        low_res_schedule=schedules.get("low_res_scheduler"),
    )
    check_whole(config, folder)
    return config.replace(generation=_generation(folder, unet_json, config, sampling))


def _texts(folder: Path, part, has, network, given) -> dict:
    """The text encoders and tokenizers; a refiner has the second ones alone."""
    there = {
        name: part(name, text_encoder_from_json)
        for name in ("text_encoder", "text_encoder_2")
        if has(name)
    }
    found = []
    for name in wanted_encoders(network, there, given):
        usual = usual_text_encoder(network, name)
        encoder = there.get(name) or given.instead(name, folder, usual)
        if network.vector_width:
            encoder = dataclasses.replace(encoder, skipped_layers=1, final_norm=False)
        tokenizer = TokenizerConfig(
            context_length=encoder.context_length,
            pad_token="!" if encoder.is_open_clip else TokenizerConfig.pad_token,
        )
        place = folder / name.replace("text_encoder", "tokenizer")
        if place.is_dir():
            tokenizer = read_tokenizer_config(place)
        found.append((encoder, tokenizer))
    texts = {"text_encoder": found[0][0], "tokenizer": found[0][1]}
    if len(found) == 2:
        texts |= {"text_encoder_2": found[1][0], "tokenizer_2": found[1][1]}
    return texts


def _generation(folder: Path, unet_json, config, sampling) -> GenerationConfig:
    """Our own file's defaults, else the family's at the U-Net's size in pixels.

    The sampler is that of the folder's scheduler.
    """
    if (folder / OWN_FILE).is_file():
        values = read_json(folder / OWN_FILE).get("generation", {})
        return dataclass_from(GenerationConfig, values, str(folder / OWN_FILE))
    defaults = dataclasses.replace(family_defaults(config), **sampling)
    if (folder / "model_index.json").is_file() and config.diffusion_model.vector_width:
        zero = read_json(folder / "model_index.json").get(
            "force_zeros_for_empty_prompt", True
        )
        defaults = dataclasses.replace(defaults, zero_negative=bool(zero))
    size = unet_json.get("sample_size")
    sizes = size if isinstance(size, list) else [size] * 2
    if len(sizes) != 2 or not all(type(size) is int and size > 0 for size in sizes):
        return defaults
    Fields({}, str(folder / "unet/config.json")).check("latents", max(sizes))
    height, width = (size * config.autoencoder.downsampling for size in sizes)
    return dataclasses.replace(defaults, height=height, width=width)


# Fields of `ModelConfig` that may be absent, and what they are made of.
NESTED = {
    "text_encoder_2": TextEncoderConfig,
    "tokenizer_2": TokenizerConfig,
    "low_res_schedule": ScheduleConfig,
}


def _tuples(value):
    """JSON's lists, nested too, as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def dataclass_from(kind, values: Mapping, where: str):
    """A configuration from `dataclasses.asdict` of it, read back from JSON."""
    names = {field.name: field for field in dataclasses.fields(kind)}
    arguments = {}
    if not isinstance(values, Mapping):
        raise WeightsError(
            f"A {kind.__name__} must be a JSON object. Received: {shown(values)} in "
            f"{where}"
        )
    for name, value in values.items():
        if name not in names:
            raise WeightsError(
                f"The field {shown(name)} is unknown. Received: {shown(value)} in "
                f"{where}"
            )
        part, default = names[name].default_factory, names[name].default
        allowed = str(names[name].type)
        if value is None and "None" in allowed:
            arguments[name] = None
            continue
        if name in NESTED:
            part = NESTED[name]
        if isinstance(value, Mapping) and "decoder_blocks" in value:
            part = TinyAutoencoderConfig
        if dataclasses.is_dataclass(part):
            arguments[name] = dataclass_from(part, value, where)
            continue
        value = _tuples(value)
        like = (int, float) if isinstance(default, float) else type(default)
        if "|" in allowed:
            kinds = {"int": int, "float": (int, float), "str": str, "tuple": tuple}
            like = tuple(each for word, each in kinds.items() if word in allowed)
        if not isinstance(value, like):
            raise WeightsError(
                f"The field {name!r} must be like {default!r}. "
                f"Received: {shown(value)} in {where}"
            )
        _check_numbers(name, value, where)
        arguments[name] = value
    return kind(**arguments)


#: The row of `storage.bounds` for fields whose numbers are no channels.
LIMITS = {
    **dict.fromkeys(("depth", "blocks_per_level", "encoder_blocks"), "layers"),
    **dict.fromkeys(("decoder_blocks", "mid_transformer_depth"), "layers"),
    **dict.fromkeys(("transformer_depths", "up_transformer_depths"), "layers"),
    **dict.fromkeys(("train_steps", "num_steps", "noise_levels"), "train_steps"),
    "context_length": "tokens",
    "vocabulary_size": "vocabulary",
    "end_id": "vocabulary",
}


def _check_numbers(name: str, value, where: str) -> None:
    """That numbers, in tuples too, are finite and no more than their limit."""
    fields, row = Fields({}, where), LIMITS.get(name, "channels")
    many = {"trained_betas": "train_steps", "timesteps": "train_steps"}
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, tuple):
            fields.check(many.get(name, "levels"), len(each))
            rest.extend(each)
        elif isinstance(each, (int, float)):
            fields.check(row, abs(each))
            if name in ("scale_factor", "latents_std") and each == 0:
                fields.refuse(name, each)
        elif not isinstance(each, (str, type(None))):
            fields.refuse(name, each)


def write_configs(
    folder: Path, config: ModelConfig, tokenizers: Mapping[str, object] | None = None
) -> None:
    """Write every JSON file of a model folder but the tokenizer's.

    Args:
        folder: The folder; made with its sub-folders where they are missing.
        config: A `ModelConfig`.
        tokenizers: The `Tokenizer` of each text encoder, by part.

    Raises:
        ValueError: If diffusers has no field for something in the configuration.
    """
    generation, factor = config.generation, config.autoencoder.downsampling
    size = [generation.height // factor, generation.width // factor]
    size = size[0] if size[0] == size[1] else size
    image_size = max(generation.height, generation.width)
    heeds = config.diffusion_model.vector_width + config.diffusion_model.guidance_width
    scheduler = schedule_to_json(config.schedule, generation.spacing, heeds > 0)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": DIFFUSERS_VERSION,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", vae_to_json(config.autoencoder)["_class_name"]],
    }
    is_xl = config.diffusion_model.vector_width > 0
    if is_xl:
        del index["safety_checker"], index["requires_safety_checker"]
        index["_class_name"] = "StableDiffusionXLPipeline"
        index["force_zeros_for_empty_prompt"] = generation.zero_negative
        for kind in ("text_encoder_2", "tokenizer_2"):
            index[kind] = [None, None]
        if config.text_encoder_2 is None:
            index["_class_name"] = "StableDiffusionXLImg2ImgPipeline"
            index["requires_aesthetics_score"] = True
            for kind in ("text_encoder", "tokenizer"):
                index[kind] = [None, None]
    files = {
        "model_index.json": index,
        "unet/config.json": unet_to_json(config.diffusion_model, size),
        "vae/config.json": vae_to_json(config.autoencoder, image_size),
        "scheduler/scheduler_config.json": scheduler,
        OWN_FILE: {"generation": dataclasses.asdict(generation)},
    }
    if config.low_res_schedule is not None:
        index["_class_name"] = "StableDiffusionUpscalePipeline"
        index["low_res_scheduler"] = ["diffusers", "DDIMScheduler"]
        values = schedule_to_json(config.low_res_schedule)
        files["low_res_scheduler/scheduler_config.json"] = values
    for part, number in text_folders(config).items():
        encoder = getattr(config, part)
        if (encoder.skipped_layers, encoder.final_norm) != (int(is_xl), not is_xl):
            raise ValueError(
                "Diffusers' pipelines take the last layer and the final norm of a text "
                "encoder, and SDXL's the penultimate layer without it. "
                f"Received: {encoder}"
            )
        values = text_encoder_to_json(encoder, (tokenizers or {}).get(part))
        files[f"text_encoder{number}/config.json"] = values
        index[f"text_encoder{number}"] = ["transformers", values["architectures"][0]]
        index[f"tokenizer{number}"] = ["transformers", "CLIPTokenizer"]
    for name, values in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def text_folders(config: ModelConfig) -> dict[str, str]:
    """What follows `text_encoder` and `tokenizer` in the name of a part's folder."""
    if config.text_encoder_2 is not None:
        return {"text_encoder": "", "text_encoder_2": "_2"}
    return {"text_encoder": "_2" if config.diffusion_model.vector_width else ""}
