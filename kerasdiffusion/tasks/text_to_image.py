"""Pictures of prompts, from noise: `text_to_image` and `generate_image`."""

from __future__ import annotations

import numpy as np

from kerasdiffusion.prompts.branches import Ready
from kerasdiffusion.requests.arguments import (
    check_context,
    check_noise,
    check_pooled,
    check_text_is_enough,
)
from kerasdiffusion.tasks.enlarging import paint_larger, second_pass
from kerasdiffusion.tasks.plan import Loop, Painting, Plan
from kerasdiffusion.tasks.prompting import (
    branches_of,
    read_negatives,
    read_prompts,
    with_second,
)
from kerasdiffusion.tasks.refining import first_text, share_steps
from kerasdiffusion.tasks.settings import Settings, settle, unit_noise


def plan(model, request) -> Plan:
    """What `text_to_image` does, see `tasks.plan.Plan`."""
    prompts = read_prompts(model, request)
    batch_size = request.batch_size
    negatives = read_negatives(model, request, len(prompts))
    settings = settle(model, request, len(prompts) * batch_size)
    prompts = [each for each in prompts for _ in range(batch_size)]
    return plan_from_noise(model, settings, prompts, negatives)


def plan_encoded(model, request) -> Plan:
    """What `generate_image` does: the prompts are encoded already."""
    batch_size, config = request.batch_size, model.config
    encoded = check_context(request.encoded_text, config.text_width, batch_size)
    negatives = read_negatives(model, request, len(encoded))
    with_second(config, [], request.prompt_2, "prompt_2")
    pooled = [None] * len(encoded)
    if config.diffusion_model.vector_width:
        width = config.text_encoders[-1].projection_width
        pooled = check_pooled(request.pooled_text, len(encoded), width)
    settings = settle(model, request, len(encoded))
    prompts = list(map(Ready, encoded, pooled))
    noise = request.diffusion_noise
    return plan_from_noise(model, settings, prompts, negatives, noise)


def plan_from_noise(model, settings: Settings, prompts, negatives, noise=None) -> Plan:
    """Pictures of prompts from noise alone: the caller's or the seeds'."""
    request = settings.request
    check_text_is_enough(model.config)
    if noise is not None:
        noise = check_noise(noise, len(prompts), model.latent_shape)
    shared = share_steps(model, settings)
    if shared[1] is not None:
        list(map(first_text, [*prompts, *negatives]))
    second = second_pass(model, settings, prompts, negatives)
    loops = (*shared, second)
    num_steps = sum(each.num_steps for each in loops if each is not None)
    how = model, settings, prompts, negatives, noise, second
    return Plan(model, request, settings, num_steps, lambda run: paint(run, *how))


def paint(
    run, model, settings: Settings, prompts, negatives, noise=None, second=None
) -> Painting:
    """Noise to latents to pictures, by one model or two, or once more and larger.

    Args:
        run: The `Run`.
        model: The `StableDiffusion`.
        settings: Its own.
        prompts: One for each picture; in a walk, those that it passes.
        negatives: As many, or as many as divide them.
        noise: Unit noise, float32 `(pictures, h, w, channels)`; that of the seeds by
            default.
        second: The `Second` pass, where there is one.
    """
    noise = unit_noise(settings, model.latent_shape) if noise is None else noise
    latents = noise * np.float32(settings.table.initial_scale)
    first, rest = share_steps(model, settings)
    if first is not None:
        own, *seen = branches_of(model, prompts, negatives, first)
        latents = yield Loop(model, own, latents, *seen)
    if second is not None and not run.stopped:
        return (yield from paint_larger(model, second, latents))
    if rest is None or run.stopped:
        return model.decode_all(latents)
    refiner = settings.request.refiner
    texts, away = (list(map(first_text, each)) for each in (prompts, negatives))
    own, *seen = branches_of(refiner, texts, away, rest)
    latents = yield Loop(refiner, own, latents, *seen)
    return refiner.decode_all(latents)
