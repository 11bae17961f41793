"""Numbers that the U-Net is told beside the text, as it wants them: in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def join_vector(pooled, ids, id_width: int = 256) -> np.ndarray:
    """SDXL's `vector`: the pooled text, and the size ids as cosines and sines.

    Args:
        pooled: Float array of shape `(batch, width)`.
        ids: Numbers of shape `(batch, count)`: heights before widths, in pixels.
        id_width: Channels of each number.

    Returns:
        float32 array of shape `(batch, width + count * id_width)`.

    Example:

    >>> join_vector(np.zeros((1, 1280)), [[1024, 1024, 0, 0, 1024, 1024]]).shape
    (1, 2816)

    Reference:
        Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for
        High-Resolution Image Synthesis", sections 2.2 and 2.3.
    """
    half = id_width // 2
    frequencies = np.exp(-math.log(10000.0) * np.arange(half) / half)
    angles = np.asarray(ids, np.float64)[..., None] * frequencies
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    parts = [np.asarray(pooled), waves.reshape(len(waves), -1)]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def embed_guidance(scales: Sequence[float], width: int = 256) -> np.ndarray:
    """What a network that was distilled to take a guidance scale is told of it.

    Args:
        scales: A guidance scale for each image; 1 is no guidance.
        width: Channels of each.

    Returns:
        float32 array of shape `(images, width)`.

    Reference:
        Meng et al. 2023, "On Distillation of Guided Diffusion Models", section 3.1;
        SimianLuo/LCM_Dreamshaper_v7 `lcm_pipeline.py`, `get_w_embedding`.
    """
    half = width // 2
    frequencies = np.exp(-math.log(10000.0) * np.arange(half) / (half - 1))
    angles = 1000.0 * (np.asarray(scales, np.float64) - 1.0)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype(np.float32)
