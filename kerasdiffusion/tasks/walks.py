"""Walks: pictures on the way between prompts and between seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kerasdiffusion.networks.control import check_controls
from kerasdiffusion.networks.room import check_room_of
from kerasdiffusion.requests.arguments import check_text_is_enough
from kerasdiffusion.sampling.noise import resolve_seeds
from kerasdiffusion.tasks.between import Between, check_path, positions
from kerasdiffusion.tasks.plan import Painting, Plan
from kerasdiffusion.tasks.prompting import read_negatives, read_prompts
from kerasdiffusion.tasks.refining import first_text, share_steps
from kerasdiffusion.tasks.settings import Settings, settle
from kerasdiffusion.tasks.text_to_image import paint as paint_batch


def plan(model, request) -> Plan:
    """What `interpolate` does, see `tasks.plan.Plan`."""
    seeds = _several_seeds(request.seed, 1)
    noise_path = check_path(request.noise_path, "noise_path")
    return plan_walk(model, request, seeds, request.closed, noise_path)


def plan_circle(model, request) -> Plan:
    """What `circular_walk` does."""
    seeds = _several_seeds(request.seed, 2)
    if len(seeds) != 2:
        raise ValueError(
            f"Two seeds span a circle. Received: seed={request.seed!r}, "
            f"{len(seeds)} seeds"
        )
    return plan_walk(model, request, seeds, True, "circle")


def plan_walk(model, request, seeds: list[int], closed: bool, noise_path: str) -> Plan:
    """The frames of a walk, a batch at a time.

    Args:
        model: The `StableDiffusion`.
        request: What is asked.
        seeds: Of the noises that are passed.
        closed: Whether the way leads back to where it began.
        noise_path: How noises are mixed, see `between.mix`.
    """
    text_path = check_path(request.text_path, "text_path")
    prompts = read_prompts(model, request)
    frames = request.frames
    batch_size = min(request.batch_size, frames)
    check_room_of(model, frames, at_once=batch_size)
    if len(prompts) == 1 and len(seeds) == 1:
        raise ValueError(
            "A walk must have two prompts or two seeds, or more, to go between. "
            f"Received: one prompt and seed={seeds[0]}"
        )
    negatives = read_negatives(model, request, len(prompts))
    size = model.img_height, model.img_width
    controls = check_controls(request.control, model.config, frames, size)
    settings = settle(model, request, len(seeds), walk=seeds)
    check_text_is_enough(model.config)
    shared = share_steps(model, settings)
    if shared[1] is not None:
        list(map(first_text, [*prompts, *negatives]))
    texts = positions(len(prompts), frames, closed)
    noises = positions(len(seeds), frames, closed)
    noises = noises / 2 if noise_path == "circle" else noises
    between = Between(texts, noises, text_path, noise_path)
    settings = settings._replace(between=between, controls=controls)
    steps = sum(each.num_steps for each in shared if each is not None)
    num_steps = steps * -(-frames // batch_size)
    how = model, settings, prompts, negatives, batch_size
    return Plan(model, request, settings, num_steps, lambda run: paint(run, *how))


def paint(run, model, settings: Settings, prompts, negatives, batch_size) -> Painting:
    """Batches of frames; the last is filled up, so that all are of one size."""
    between = replace(settings.between, read={})
    frames, pictures = len(between.text_at), []
    for start in range(0, frames, batch_size):
        of = np.minimum(np.arange(start, start + batch_size), frames - 1)
        controls = [
            each._replace(pictures=each.pictures[of]) for each in settings.controls
        ]
        here = settings._replace(between=between.at(of), controls=tuple(controls))
        painted = yield from paint_batch(run, model, here, prompts, negatives)
        pictures.append(painted[: frames - start])
        if run.stopped:
            break
    return np.concatenate(pictures)


def _several_seeds(seed, count: int) -> list[int]:
    """The seeds in a list, or as many from one on."""
    if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str | bytes):
        count = len(seed)
        if not count:
            raise ValueError(f"`seed` must not be an empty list. Received: {seed!r}")
    return resolve_seeds(seed, count)
