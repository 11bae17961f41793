"""Two models for one picture: a refiner that takes the last steps of another's run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kerasdiffusion.prompts.branches import Prompt
from kerasdiffusion.requests.arguments import check_refiner
from kerasdiffusion.sampling.samplers import usual_spacing
from kerasdiffusion.tasks.conditioning import handover_step


def refine(
    base, run, prompts: Sequence[Prompt], negatives: Sequence[Prompt], noise: np.ndarray
) -> np.ndarray:
    """Pictures of prompts by two models, each with its own steps of the same sampler.

    The latents go from one to the other as noisy as they are, the fresh noise and the
    stages of prompts go on. A sampler's memory of earlier steps does not: the refiner
    begins as at a run's start.

    Args:
        base: The `StableDiffusion` that begins.
        run: Its `Run`, whose options name the refiner and where it takes over.
        prompts: One for each picture. The refiner reads what the first text encoder
            does.
        negatives: Negative prompts, `None` for vectors of zeros, in place of which the
            refiner reads the empty prompt.
        noise: Unit noise to begin with, float32 of shape `(pictures, h, w, channels)`.

    Returns:
        uint8 array of shape `(pictures, height, width, 3)`.

    Raises:
        TypeError: If the refiner is no model.
        ValueError: If it has other latents, the share is out of range, or a prompt is
            no text.

    Reference:
        Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for
        High-Resolution Image Synthesis", section 2.5; Balaji et al. 2022, "eDiff-I:
        Text-to-Image Diffusion Models with an Ensemble of Expert Denoisers", section 4.
    """
    table, options = run.table, run.options
    refiner = check_refiner(options.refiner, base)
    texts, away = ([_first(text) for text in each] for each in (prompts, negatives))
    train_steps = base.config.schedule.train_steps
    step = handover_step(table.timesteps, train_steps, options.refiner_start)
    latents = noise * np.float32(table.initial_scale)
    stopped = []
    if step:
        first = run._replace(
            table=table.until(step),
            options=replace(options, callback=watched(options.callback, stopped)),
        )
        latents = base._walk(latents, *base._branches(prompts, negatives, first))
    if step == table.num_steps or stopped:
        return base._pictures(latents)

    generation = base.config.generation
    # What follows pictures is for the base's layout.
    options = replace(options, prompt_2=None, negative_prompt_2=None, control=None)
    sampler, spacing = options.sampler or generation.sampler, options.spacing
    if options.timesteps is None and options.sigmas is None:
        spacing = spacing or usual_spacing(sampler, generation.spacing)
    options = replace(options, sampler=sampler, spacing=spacing)
    settings = table.num_steps, run.guidance_scale, run.seeds, options
    # Those that churn remember nothing, and churn by the number of all steps.
    begin = 0 if options.s_churn else step
    rest = refiner._prepare(len(run.seeds), *settings, first_step=begin)
    rest = rest._replace(between=run.between)
    if step:
        rest = rest._replace(table=rest.table.since(step), before=first.table)
    return refiner._generate(latents, *refiner._branches(texts, away, rest))


def _first(prompt: Prompt) -> str:
    """What the refiner reads."""
    text = "" if prompt is None else prompt
    text = text[0] if isinstance(text, tuple) else text
    if not isinstance(text, str):
        raise ValueError(
            "A refiner has a text encoder of its own: with `refiner`, prompts must be "
            "text. Received: a context"
        )
    return text


def watched(callback, stopped: list):
    """A callback that notes when it ends the run."""
    if callback is None:
        return None

    def call(step):
        answer = callback(step)
        if answer is False:
            stopped.append(step)
        return answer

    return call
