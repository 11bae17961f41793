"""Pictures that keep a picture's shapes: `depth_to_image`, for depth models."""

from __future__ import annotations

import numpy as np

from kerasdiffusion.pictures.depth_maps import (
    check_estimator,
    estimate_depths,
    fit_depth,
    read_depths,
)
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.tasks.image_to_image import begin, plan_repainting, read_asked
from kerasdiffusion.tasks.plan import Plan


def plan(model, request) -> Plan:
    """What `depth_to_image` does, see `tasks.plan.Plan`."""
    check_sees(model.config, "depth_to_image", "a depth map", 1)
    asked = read_asked(model, request)
    maps, estimator = None, None
    if request.depth is not None:
        maps = read_depths(request.depth)
    if maps is None:
        estimator = check_estimator(request.depth_estimator)
    elif len(maps) not in (1, len(asked.pictures)):
        raise ValueError(
            f"`depth` must be one map for all or one for each of the "
            f"{len(asked.pictures)} pictures. Received: {len(maps)} maps"
        )

    def concat(size):
        found = maps or estimate_depths(estimator, asked.pictures)
        pixels = model.config.autoencoder.downsampling
        return np.stack([fit_depth(z, asked.size, size, pixels) for z in found])

    return plan_repainting(model, begin(model, request, asked), concat)


def check_sees(config: ModelConfig, task: str, what: str, channels: int) -> None:
    """That a U-Net takes what a task gives it beside latents.

    Raises:
        ValueError: If it does not.
    """
    network, latents = config.diffusion_model, config.autoencoder.latent_channels
    is_upscaler = network.noise_levels > 0
    if network.in_channels != latents + channels or is_upscaler != (task == "upscale"):
        kind = ", an upscaler" if is_upscaler else ""
        raise ValueError(
            f"`{task}` gives the U-Net {what} beside latents: it must take "
            f"{latents + channels} channels"
            f"{' and noise levels' if task == 'upscale' else ''}. "
            f"Received: a U-Net of {network.in_channels} channels{kind}"
        )
