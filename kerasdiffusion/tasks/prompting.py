"""From prompts to what the U-Net is told: functions of a model and texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from kerasdiffusion.adapters.sources import by_name, folder
from kerasdiffusion.adapters.tags import tag_weights
from kerasdiffusion.compute import backend
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.prompts import encode
from kerasdiffusion.prompts.branches import Branches, make_branches, one_text
from kerasdiffusion.prompts.tags import (
    take_remarks,
    take_tags,
    warn_of_remarks,
    warn_of_tags,
)
from kerasdiffusion.requests.arguments import (
    check_clip_skip,
    check_negatives,
    check_prompt_weighting,
    check_prompts,
    check_second,
)
from kerasdiffusion.sampling.table import COLUMNS
from kerasdiffusion.tasks.conditioning import told_beside


def read_prompts(model, request, name: str = "prompt", texts: bool = False) -> list:
    """The prompts of a request, each with what a second text encoder reads.

    Args:
        model: The `StableDiffusion`.
        request: What is asked.
        name: The field that they are in.
        texts: Whether they must be texts; otherwise what `encode_text` gives will do.
    """
    width = None if texts else model.config.text_width
    prompts = check_prompts(getattr(request, name), name, width=width)
    if not texts:
        need_pooled(model.config, prompts, name)
    return with_second(model.config, prompts, request.prompt_2, "prompt_2")


def read_negatives(model, request, count: int) -> list:
    """The negative prompt of each of so many prompts; `None` for vectors of zeros."""
    config, second = model.config, request.negative_prompt_2
    none = request.negative_prompt is None and second is None
    if none and config.generation.zero_negative:
        return [None] * count
    negatives = check_negatives(request.negative_prompt, count, config.text_width)
    negatives = negatives * (count // len(negatives))
    need_pooled(config, negatives, "negative_prompt")
    return with_second(config, negatives, second, "negative_prompt_2")


def with_second(config: ModelConfig, prompts: list, second, name: str) -> list:
    """Prompts, beside those of a second text encoder where there are such."""
    if second is None:
        return prompts
    if config.text_encoder_2 is None:
        raise ValueError(
            "The model has one text encoder and takes no second prompt. "
            f"Received: {name}={second!r}"
        )
    return check_second(second, prompts, name)


def need_pooled(config: ModelConfig, prompts: list, name: str) -> None:
    """A context alone is not all that SDXL is told."""
    if config.diffusion_model.vector_width and not all(
        isinstance(prompt, str) for prompt in prompts
    ):
        raise ValueError(
            f"The model takes pooled text beside a context: `{name}` must be text; "
            "`generate_image` takes both. Received: a context"
        )


def check_prompting(config: ModelConfig, clip_skip, weighting) -> None:
    """Before anything is built."""
    check_prompt_weighting(weighting)
    depth = min(each.depth for each in config.text_encoders)
    check_clip_skip(clip_skip, depth)


def branches_of(model, prompts: Sequence, negatives: Sequence, settings, guided=None):
    """What `denoiser` takes for prompts, and the settings whose rows choose from it.

    Args:
        model: The `StableDiffusion`.
        prompts: One for each picture, see `prompts.branches.Prompt`; in a walk, each.
        negatives: As many, or as many as divide them.
        settings: The run's `Settings`.
        guided: Whether there is a branch of the negatives; by default if the guidance
            scale asks for it.

    Returns:
        The settings, the branches and their shares.
    """
    if guided is None:
        guided = settings.guidance_scale != 1.0 and not is_told_guidance(model)

    def read():
        return _read(model, prompts, negatives, settings, guided)

    if settings.between is None:
        found = read()
    else:
        reader = model, len(settings.table), settings.before is None
        found = settings.between.texts(reader, read)
    told = told_beside(model.config, settings, found)
    branches = [
        {"crossattn": context, **beside}
        for context, beside in zip(found.contexts, told, strict=True)
    ]
    table = settings.table.with_column(COLUMNS.variant, found.variants)
    return settings._replace(table=table), branches, found.shares


def is_told_guidance(model) -> bool:
    """Whether the U-Net itself takes the guidance scale, and has guided already."""
    return model.config.diffusion_model.guidance_width > 0


def _read(model, prompts, negatives, settings, guided: bool) -> Branches:
    """The branches of prompts, encoded."""
    table, request = settings.table, settings.request
    check_prompting(model.config, request.clip_skip, request.prompt_weighting)
    literal = request.prompt_weighting == "none"
    if not literal:
        warn_of_remarks([*prompts, *negatives])
        prompts, negatives = _without_tags(model, prompts), take_remarks(negatives)
    # Behind the tags, which may bring words.
    encoders = encoders_of(model, request.clip_skip, request.prompt_weighting)

    def encode_all(texts):
        rows = [x if isinstance(x, tuple) else (x,) * len(encoders) for x in texts]
        return encode.encode(encoders, list(zip(*rows, strict=True)))

    return make_branches(
        prompts,
        [each for each in negatives for _ in range(len(prompts) // len(negatives))],
        guided,
        table.steps,
        table.num_steps,
        encode_all,
        lambda: encode.empty(encoders),
        literal=literal,
        calls_before=0 if settings.before is None else len(settings.before),
    )


def encoders_of(model, clip_skip, weighting) -> list[encode.Encoder]:
    """The text encoders as prompts see them, checked before they are built."""
    check_prompting(model.config, clip_skip, weighting)
    configs = model.config.text_encoders
    names = ("encode", "encode_2")[: len(configs)]
    tokenizers = (model.tokenizer, model.tokenizer_2)[: len(configs)]
    return [
        _encoder(model, program, tokenizer, config, clip_skip, weighting)
        for program, tokenizer, config in zip(names, tokenizers, configs, strict=True)
    ]


def _encoder(model, name, tokenizer, config, clip_skip, weighting) -> encode.Encoder:
    how, learned = {}, model.words_of(config)
    if clip_skip is not None:
        how["layers"] = np.int32(config.depth + 1 - clip_skip)
    if learned is not None:
        how["vectors"] = learned.table()

    def run(tokens, seen):
        more = {} if seen is None else {"seen": seen}
        outputs = model.program(name)(tokens, {**how, **more})
        outputs = keras.tree.map_structure(backend.to_numpy, outputs)
        return tuple(outputs) if config.projection_width else outputs

    return encode.Encoder(tokenizer, run, weighting, learned)


def _without_tags(model, prompts: Sequence) -> list:
    """Prompts without tags and remarks; those of adapters are followed.

    Reference:
        AUTOMATIC1111/stable-diffusion-webui 1.10, `extensions-builtin/Lora/
        extra_networks_lora.py`: the first number is the text encoders'.
    """
    texts, tags = take_tags(prompts)
    found = [tag for each in tags for tag in each]
    known = [tag for tag in found if tag.kind in ("lora", "lyco")]
    if not known or not (folder() or all(tag.name in model._adapters for tag in known)):
        warn_of_tags(found)
        return texts
    if len({tuple(sorted(each)) for each in tags}) > 1:
        raise ValueError(
            "Prompts that are painted together must ask for the same adapters, for "
            "weights are a model's (the web UI would follow the first prompt's alone): "
            "paint the others in calls of their own. Received: "
            f"{', '.join(dict.fromkeys(map(str, known)))}"
        )
    warn_of_tags(tag for tag in tags[0] if tag.kind not in ("lora", "lyco"))
    for tag in tags[0]:
        if tag.kind in ("lora", "lyco"):
            text, unet = tag_weights(tag)
            model._ask(tag.name, unet, text, by_name)
    return texts


def each_alone(
    model, prompts: Sequence[str], weighting: str, clip_skip=None, last: bool = False
) -> Iterator:
    """Context and pooled text of each prompt alone; by the last text encoder alone."""
    if weighting != "none":
        warn_of_remarks(prompts)
        prompts = [one_text(prompt) for prompt in _without_tags(model, prompts)]
    encoders = encoders_of(model, clip_skip, weighting)
    encoders = encoders[-1:] if last else encoders
    for prompt in prompts:
        yield encode.encode(encoders, [[prompt]] * len(encoders))
