"""A cheap picture of latents."""

from __future__ import annotations

import numpy as np

from kerasdiffusion.presets.config import TinyAutoencoderConfig
from kerasdiffusion.presets.previews import PreviewMap, find_preview


def preview(model, latents: np.ndarray) -> np.ndarray:
    """Pictures of latents, for someone who waits.

    A tiny autoencoder decodes them: the picture's size. Without one each latent is a
    pixel, by the linear map of the model's family; for latents of no known family, by
    brightness alone.

    Args:
        model: The `StableDiffusion` whose latents they are.
        latents: Clean latents, float32 `(batch, h, w, channels)`.

    Returns:
        uint8 array of shape `(batch, height, width, 3)`.
    """
    if isinstance(model.config.autoencoder, TinyAutoencoderConfig):
        return model.decode_all(latents)
    found = find_preview(model.config)
    if found is None:
        grey = 1.0 / latents.shape[-1] ** 0.5
        found = PreviewMap(((grey,) * 3,) * latents.shape[-1])
    return mapped(found, latents)


def mapped(linear: PreviewMap, latents: np.ndarray) -> np.ndarray:
    """Each latent a pixel."""
    colours = latents @ np.array(linear.factors, "float32")
    colours = (colours + np.array(linear.bias, "float32") + 1.0) * 127.5
    return np.round(np.clip(colours, 0.0, 255.0)).astype("uint8")
