"""A picture four times as high and wide: `upscale`, for the x4 upscaler.

The U-Net sees the small picture, with some noise, beside latents of its size.
"""

from __future__ import annotations

import numpy as np

from kerasdiffusion.pictures.read import to_unit
from kerasdiffusion.presets.families import UPSCALER
from kerasdiffusion.requests.kinds import Whole
from kerasdiffusion.sampling.noise import picture_noise
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.tasks.depth_to_image import check_sees
from kerasdiffusion.tasks.image_to_image import read_asked
from kerasdiffusion.tasks.plan import Loop, Painting, Plan
from kerasdiffusion.tasks.prompting import branches_of
from kerasdiffusion.tasks.settings import settle, unit_noise

#: Noise levels that the x4 upscaler was trained with; its table has more rows.
NOISE_LEVELS = 351


def plan(model, request) -> Plan:
    """What `upscale` does, see `tasks.plan.Plan`."""
    config = model.config
    check_sees(config, "upscale", "a small picture and its noise level", 3)
    most = min(NOISE_LEVELS, config.diffusion_model.noise_levels) - 1
    level = Whole(0, most).check(request.noise_level, "noise_level")
    asked = read_asked(model, request)
    size = tuple(4 * side for side in asked.size)
    settings = settle(model, request, asked.count, size=size, seen=asked.size)
    schedule = Schedule(config.low_res_schedule or UPSCALER.low_res_schedule)
    kept = schedule.alphas_cumprod[level]

    def paint(run) -> Painting:
        small = asked.for_each(to_unit(asked.pictures))
        begun = settings._replace(ahead=small.shape[1:])
        fresh = picture_noise(begun.seeds, begun.ahead, request.rng)
        small = np.float32(kept**0.5) * small + np.float32((1.0 - kept) ** 0.5) * fresh
        levels = np.full(asked.count, level, "int32")
        beside = {"concat": small, "noise_level": levels}
        noise = unit_noise(begun, (*asked.size, config.autoencoder.latent_channels))
        own, branches, shares = branches_of(
            model, asked.prompts, asked.negatives, begun
        )
        branches = [branch | beside for branch in branches]
        noise = noise * np.float32(own.table.initial_scale)
        latents = yield Loop(model, own, noise, branches, shares)
        return model.decode_all(latents)

    return Plan(model, request, settings, settings.num_steps, paint)
