"""How the pictures of one run are made, whatever the task: checked, with a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasdiffusion.networks.control import Checked, check_controls
from kerasdiffusion.networks.room import check_room_of
from kerasdiffusion.presets.config import GenerationConfig, ScheduleConfig
from kerasdiffusion.requests.cheaper_steps import cheaper_methods
from kerasdiffusion.requests.guidance import (
    check_layers,
    guidance_methods,
    self_attentions,
    within_interval,
)
from kerasdiffusion.sampling.loop import Known
from kerasdiffusion.sampling.noise import (
    initial_noise,
    program_of,
    resolve_seeds,
)
from kerasdiffusion.sampling.samplers import make_table, usual_spacing
from kerasdiffusion.sampling.table import Table
from kerasdiffusion.tasks.between import Between
from kerasdiffusion.tasks.prompting import check_prompting


class Settings(NamedTuple):
    """How the pictures of one run are made.

    Args:
        request: What was asked.
        table: The sampler's.
        seeds: One for each picture; in a walk, for each of its noises, and `between`
            makes those of the pictures.
        guidance_scale: How strongly the prompt guides.
        methods: What there is beside the scale, see `sampling.denoiser`.
        size: Height and width that the U-Net is told of, where nothing else is asked.
        original_size: The same of what a picture was before it was scaled.
        variation_seeds: The second seeds, where there are such.
        before: The part of the schedule that another model has walked.
        known: The `loop.Known` of pictures that stay in part.
        controls: The pictures that are followed.
        between: Where a walk's pictures are among its prompts and seeds.
        ahead: The shape of noise that the seeds give ahead of the latents'.
        drawn: Height and width of latents whose noise lies in the middle of the own.
    """

    request: Any
    table: Table
    seeds: list[int]
    guidance_scale: float
    methods: dict
    size: tuple[int, int]
    original_size: tuple[int, int]
    variation_seeds: list[int] | None = None
    before: Table | None = None
    known: Known | tuple = ()
    controls: tuple[Checked, ...] = ()
    between: Between | None = None
    ahead: tuple[int, ...] = ()
    drawn: tuple[int, ...] | None = None

    @property
    def num_steps(self) -> int:
        """Steps of the table, as `sampling.driver` counts them."""
        return len(set(self.table.steps.tolist()))


def settle(
    model,
    request,
    count: int,
    first_step: int = 0,
    size: tuple[int, int] | None = None,
    seen: tuple[int, int] | None = None,
    walk: Sequence[int] = (),
) -> Settings:
    """What a request says of how pictures are made, the preset's where it says nothing.

    Args:
        model: The `StableDiffusion`.
        request: What is asked.
        count: How many pictures.
        first_step: The first of the steps that are made.
        size: Height and width of pictures that are followed, where they are not the
            model's own.
        seen: Those of a picture that is painted over.
        walk: In a walk, the seeds of its noises, as many as `count`; what its frames
            follow is then their own.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If one is out of its range.
        MemoryError: If no memory here could hold the pictures.
    """
    check_room_of(model, count, size)
    check_prompting(model.config, request.clip_skip, request.prompt_weighting)
    scale, generation = request.unconditional_guidance_scale, model.config.generation
    scale = generation.guidance_scale if scale is None else scale
    table = table_of(model.config.schedule, request, generation, first_step)
    seed, strength = walk or request.seed, request.variation_strength
    variations = None
    if strength > 0.0:
        variations = resolve_seeds(request.variation_seed, count)
        if not isinstance(seed, Sequence | np.ndarray):
            seed = resolve_seeds(seed, 1) * count
    own = model.img_height, model.img_width
    pixels, drawn = model.config.autoencoder.downsampling, request.seed_resize_from
    size = size or own
    control = None if walk else request.control
    return Settings(
        request,
        within_interval(table, request),
        resolve_seeds(seed, count),
        float(scale),
        methods_of(model.config, request),
        size=seen or own,
        original_size=seen and request.target_size or seen or own,
        variation_seeds=variations,
        controls=check_controls(control, model.config, count, size),
        drawn=drawn and tuple(side // pixels for side in drawn),
    )


def methods_of(config, request) -> dict:
    """What there is beside the guidance scale, as `sampling.denoiser` takes it."""
    cheaper = cheaper_methods(request, config.diffusion_model)
    methods = guidance_methods(request) | cheaper
    if {"pag", "sag"} & set(methods):
        check_layers(methods, self_attentions(config.diffusion_model))
    return methods


def table_of(
    schedule: ScheduleConfig,
    request,
    defaults: GenerationConfig,
    first_step: int = 0,
    num_steps: int | None = None,
) -> Table:
    """The sampler's table of a request.

    Args:
        schedule: The model's.
        request: What is asked.
        defaults: What is taken where it says nothing.
        first_step: The first of the steps that are made.
        num_steps: In place of the request's.
    """
    num_steps = request.num_steps if num_steps is None else num_steps
    sampler = defaults.sampler if request.sampler is None else request.sampler
    spacing, timesteps = request.spacing, request.timesteps
    if num_steps is spacing is request.sigmas is None:
        timesteps = timesteps or defaults.timesteps or None
    if timesteps is None and request.sigmas is None:
        num_steps = defaults.num_steps if num_steps is None else num_steps
        if spacing is None:
            spacing = usual_spacing(sampler, defaults.spacing)
    return make_table(
        schedule,
        sampler,
        num_steps,
        timesteps=timesteps,
        sigmas=request.sigmas,
        spacing=spacing,
        eta=request.eta,
        s_churn=request.s_churn,
        s_noise=request.s_noise,
        first_step=first_step,
        program=program_of(request.rng),
    )


def unit_noise(settings: Settings, shape: Sequence[int]) -> np.ndarray:
    """The noise that the pictures of a run begin with, float32 `(batch, *shape)`."""
    request = settings.request
    noise = initial_noise(
        settings.seeds,
        shape,
        request.rng,
        settings.variation_seeds,
        request.variation_strength,
        settings.ahead,
        settings.drawn,
    )
    return noise if settings.between is None else settings.between.noise(noise)
