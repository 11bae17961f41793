"""Two models for one picture: a refiner that takes the last steps of another's run."""

from __future__ import annotations

import weakref

from kerasdiffusion.prompts.branches import Prompt
from kerasdiffusion.requests.arguments import check_refiner
from kerasdiffusion.requests.guidance import within_interval
from kerasdiffusion.tasks.conditioning import handover_step
from kerasdiffusion.tasks.prompting import check_prompting
from kerasdiffusion.tasks.settings import Settings, methods_of, table_of

#: Tasks of which a refiner may take the last steps; the pages of others refuse one.
TASKS = ("text_to_image", "generate_image", "interpolate", "circular_walk")
#: Refiners that requests have named, by the base that they were made for.
_MADE = weakref.WeakKeyDictionary()


def with_refiner(base, request):
    """A request whose refiner is a model: one that is named is made once for each base.

    Args:
        base: The `StableDiffusion` that begins; the refiner is computed as it is.
        request: A `Request`, whose refiner may be a preset's name, a folder or a file.
    """
    name = request.refiner
    if not isinstance(name, str) or request.task not in TASKS:
        return request
    known = _MADE.setdefault(base, {})
    if name not in known:
        known[name] = type(base)(
            base.img_height,
            base.img_width,
            base.compiler,
            precision=base.precision,
            low_memory=base.low_memory,
            weights=name,
        )
    return request.replace(refiner=known[name])


def share_steps(base, settings: Settings) -> tuple[Settings | None, Settings | None]:
    """What the base does, and what a refiner does: each has steps of the sampler.

    The latents go from one to the other as noisy as they are, the fresh noise and the
    stages of prompts go on. A sampler's memory of earlier steps does not: the refiner
    begins as at a run's start.

    Args:
        base: The `StableDiffusion` that begins.
        settings: Of the whole run; its request may name a refiner.

    Returns:
        `Settings` for each; `None` for one that has no step.

    Raises:
        TypeError: If the refiner is no model.
        ValueError: If it has other latents, or the share is out of range.

    Reference:
        Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for
        High-Resolution Image Synthesis", section 2.5; Balaji et al. 2022, "eDiff-I:
        Text-to-Image Diffusion Models with an Ensemble of Expert Denoisers", section 4.
    """
    table, request = settings.table, settings.request
    if request.refiner is None:
        return settings, None
    refiner = check_refiner(request.refiner, base)
    train_steps = base.config.schedule.train_steps
    step = handover_step(table.timesteps, train_steps, request.refiner_start)
    first = settings._replace(table=table.until(step)) if step else None
    if step == table.num_steps:
        return first, None
    check_prompting(refiner.config, request.clip_skip, request.prompt_weighting)
    # Those that churn remember nothing, and churn by the number of all steps.
    begin = 0 if request.s_churn else step
    defaults, schedule = base.config.generation, refiner.config.schedule
    rest = table_of(schedule, request, defaults, begin, table.num_steps)
    rest = within_interval(rest, request)
    size = refiner.img_height, refiner.img_width
    return first, settings._replace(
        table=rest.since(step) if step else rest,
        before=first and first.table,
        methods=methods_of(refiner.config, request),
        controls=(),  # what follows pictures is for the base's layout
        size=size,
        original_size=size,
    )


def first_text(prompt: Prompt) -> str:
    """What the refiner reads of a prompt: what the first text encoder does.

    In place of vectors of zeros it reads the empty prompt.

    Raises:
        ValueError: If a prompt is no text.
    """
    text = "" if prompt is None else prompt
    text = text[0] if isinstance(text, tuple) else text
    if not isinstance(text, str):
        raise ValueError(
            "A refiner has a text encoder of its own: with `refiner`, prompts must be "
            "text. Received: a context"
        )
    return text
