"""Two models for one picture: a refiner that takes the last steps of another's run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kerasdiffusion.arguments import check_refiner
from kerasdiffusion.conditioning import handover_step
from kerasdiffusion.sampling.noise import initial_noise


def refine(
    base, run, prompts: Sequence[str], negatives: Sequence[str | None]
) -> np.ndarray:
    """Pictures of prompts by two models, each with its own steps of the same sampler.

    The latents go from one to the other as noisy as they are. A sampler's memory of
    earlier steps does not: the refiner begins as at a run's start.

    Args:
        base: The `StableDiffusion` that begins.
        run: Its `Run`, whose options name the refiner and where it takes over.
        prompts: One for several pictures, or one each.
        negatives: Negative prompts, `None` for vectors of zeros.

    Returns:
        uint8 array of shape `(pictures, height, width, 3)`.

    Raises:
        TypeError: If the refiner is no model.
        ValueError: If it has other latents, or the share is out of range.

    Reference:
        Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for
        High-Resolution Image Synthesis", section 2.5; Balaji et al. 2022, "eDiff-I:
        Text-to-Image Diffusion Models with an Ensemble of Expert Denoisers", section 4.
    """
    table, options, count = run.table, run.options, len(run.seeds)
    refiner = check_refiner(options.refiner, base)
    train_steps = base.config.schedule.train_steps
    step = handover_step(table.timesteps, train_steps, options.refiner_start)
    latents = initial_noise(run.seeds, base.latent_shape)
    latents = latents * np.float32(table.initial_scale)
    drawn = 0
    if step:
        first = run._replace(table=table.until(step))
        drawn = len(first.table.noise_rows)
        texts = base._encode_texts(prompts, options.prompt_2, count)
        branches, shares = base._branches(texts, negatives, first)
        latents = base._walk(latents, branches, shares, first)
    if step == table.num_steps:
        return base._pictures(latents)

    options = replace(options, prompt_2=None, negative_prompt_2=None)
    if options.sampler is None:
        generation = base.config.generation
        spacing = options.spacing or generation.spacing
        options = replace(options, sampler=generation.sampler, spacing=spacing)
    settings = table.num_steps, run.guidance_scale, run.seeds, options
    rest = refiner._prepare(count, *settings, first_step=step)._replace(drawn=drawn)
    texts = refiner._encode_texts(prompts, None, count)
    negatives = [text or "" for text in negatives]
    branches, shares = refiner._branches(texts, negatives, rest)
    return refiner._generate(latents, branches, shares, rest)
