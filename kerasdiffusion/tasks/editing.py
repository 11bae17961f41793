"""A picture as an instruction changes it: `edit`, for InstructPix2Pix.

The U-Net sees the picture beside the latents, and is guided twice: by the instruction,
and by the picture. Three predictions a step, in one call.
"""

from __future__ import annotations

import numpy as np

from kerasdiffusion.tasks.depth_to_image import check_sees
from kerasdiffusion.tasks.image_to_image import encode_pictures, read_asked
from kerasdiffusion.tasks.plan import Loop, Painting, Plan
from kerasdiffusion.tasks.prompting import branches_of, is_told_guidance
from kerasdiffusion.tasks.settings import settle, unit_noise


def plan(model, request) -> Plan:
    """What `edit` does, see `tasks.plan.Plan`."""
    config = model.config
    channels = config.autoencoder.latent_channels
    check_sees(config, "edit", "a picture's latents", channels)
    by_image = request.image_guidance_scale
    asked = read_asked(model, request, name="instruction")
    size = height, width = asked.size
    settings = settle(model, request, asked.count, size=size, seen=size)

    def paint(run) -> Painting:
        # As the posterior has them: not scaled.
        seen = encode_pictures(model, asked.pictures)
        seen = asked.for_each(seen / np.float32(config.autoencoder.scale_factor))
        noise = unit_noise(settings, seen.shape[1:])
        texts = asked.prompts, asked.negatives
        own, branches, shares = branches_of(model, *texts, settings, guided=True)
        nothing, *told = branches
        branches = [nothing | {"concat": np.zeros_like(seen)}]
        branches += [branch | {"concat": seen} for branch in (nothing, *told)]
        by_text = 1.0 if is_told_guidance(model) else own.guidance_scale
        shares, scale = two_guidances(shares, by_text, by_image)
        noise = noise * np.float32(own.table.initial_scale)
        own = own._replace(guidance_scale=scale)
        latents = yield Loop(model, own, noise, branches, shares)
        return model.decode_all(latents)[:, :height, :width]

    return Plan(model, request, settings, settings.num_steps, paint)


def two_guidances(
    shares: np.ndarray, by_text: float, by_image: float
) -> tuple[np.ndarray, float]:
    """Two guidance scales as shares of branches under one scale.

    The branches are: nothing; the picture; the picture and a text, one or more. The
    prediction is `nothing + by_image * (picture - nothing) + by_text * sum_i shares[i]
    * (text_i - picture)`.

    Args:
        shares: Of the texts, float32 of shape `(texts, pictures)`.
        by_text: The text's guidance scale.
        by_image: The picture's.

    Returns:
        The shares of all branches but the first, and the scale, as `denoiser` takes
        them.

    Example:

    >>> print(two_guidances(np.ones((1, 1)), 7.5, 1.5)[0])
    [[-0.8]
     [ 1. ]]

    Reference:
        Brooks et al. 2023, equation 3.
    """
    scale = by_text or 1.0
    shares = np.asarray(shares, "float64") * (by_text / scale)
    of_image = by_image / scale - shares.sum(axis=0, keepdims=True)
    return np.concatenate([of_image, shares]).astype("float32"), scale
