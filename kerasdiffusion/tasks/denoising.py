"""One loop of a run: what the compiled program takes, and its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kerasdiffusion.networks.control import told
from kerasdiffusion.requests.cheaper_steps import cheaper_table, kept_features
from kerasdiffusion.requests.guidance import without_guidance
from kerasdiffusion.sampling.denoiser import copies_of, empty_memory
from kerasdiffusion.sampling.driver import Pace, Step, drive
from kerasdiffusion.sampling.noise import table_noise
from kerasdiffusion.tasks.plan import Loop
from kerasdiffusion.tasks.prompting import is_told_guidance


def denoise(loop: Loop, pace: Pace, began: Callable[[], None]) -> Iterator[Step]:
    """Noisy latents through the sampler's table.

    Args:
        loop: What is walked.
        pace: In what pieces.
        began: Called when the first step begins.

    Yields:
        A `Step` after each piece; the last one's latents are clean.
    """
    model, settings, latents = loop.model, loop.settings, loop.latents
    request, table, branches = settings.request, settings.table, loop.branches
    followers = tuple(map(model._control_networks.get, settings.controls))
    program = model.program("denoise", followers)
    controls = told(settings.controls, table)
    # A network that takes the scale has guided already.
    scale = 1.0 if is_told_guidance(model) else settings.guidance_scale
    scale, shape = np.float32(scale), latents.shape[1:]
    fresh = table_noise(
        table, settings.seeds, shape, request.rng, settings.before, settings.ahead
    )
    if settings.between is not None:
        fresh = np.moveaxis(settings.between.noise(np.moveaxis(fresh, 1, 0)), 0, 1)
    if table.opening_noise > 0.0:
        latents = latents + np.float32(table.opening_noise) * fresh[0]
        fresh = fresh[1:]
    unguided = without_guidance(table, branches, loop.shares, settings.methods)
    table, methods = cheaper_table(table, request, settings.methods, unguided, controls)

    unet, dtype = model.config.diffusion_model, model.compute_dtype

    def memory(alone):
        copies = copies_of(len(branches) - alone, methods)
        kept = kept_features(unet, methods, latents.shape, copies, dtype)
        return empty_memory(methods, latents, kept, copies)

    empty = {alone: memory(alone) for alone in set(unguided)}

    def walk(alone, carry, *state):
        seen, room = branches[1:] if alone else branches, empty[alone]
        if room and room[-1].shape != carry.memory[-1].shape:
            carry = carry._replace(memory=room)
        how = scale, loop.shares, methods, controls
        return program(seen, *how, carry, *state, settings.known)

    yield from drive(
        walk, latents, table, fresh, empty[unguided[0]], unguided, pace, began
    )
