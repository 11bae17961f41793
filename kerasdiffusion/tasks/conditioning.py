"""Numbers that the U-Net is told beside the text, as it wants them: in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.prompts.branches import Branches


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


def told_beside(
    config: ModelConfig,
    settings,
    found: Branches,
) -> list[dict[str, np.ndarray]]:
    """What each branch of the denoiser is told beside the context.

    Args:
        config: The model's.
        settings: The run's `Settings`: sizes, and the guidance scale.
        found: The branches; of two or more, the first is the negative prompt.

    Returns:
        A dict for each branch, as `denoiser` takes them: `"vector"` for SDXL and its
        like, `"guidance"` for networks that were distilled to take it.
    """
    network, told = config.diffusion_model, [{} for _ in found.contexts]
    for i, branch in enumerate(told):
        if network.vector_width:
            negative = i == 0 and len(told) > 1
            sizes = settings.size, settings.original_size
            ids = size_ids(config, settings.request, *sizes, negative=negative)
            vectors = [
                join_vector(each, [ids] * len(each), network.vector_id_width)
                for each in found.pooled[i]
            ]
            branch["vector"] = np.stack(vectors)
        if network.guidance_width:
            scales = [settings.guidance_scale] * found.contexts[i].shape[1]
            branch["guidance"] = embed_guidance(scales, network.guidance_width)
    return told


def size_ids(
    config: ModelConfig,
    request,
    size: tuple[int, int],
    original_size: tuple[int, int],
    negative: bool,
) -> list[float]:
    """The numbers behind the pooled text in SDXL's `vector`.

    Args:
        config: The model's; a refiner has a score where the base has the target size.
        request: What is asked.
        size: Height and width of the pictures, where it names no others.
        original_size: Those before they were scaled, where it names no others.
        negative: Whether the text is the negative prompt.

    Returns:
        Six numbers, or five for a refiner.
    """
    ids = [*(request.original_size or original_size), *request.crop]
    if config.size_ids == 5:
        score = request.aesthetic_score
        return [*ids, request.negative_aesthetic_score if negative else score]
    return [*ids, *(request.target_size or size)]


def handover_step(timesteps: np.ndarray, train_steps: int, share: float) -> int:
    """How many steps come before the refiner takes over.

    Args:
        timesteps: Of each step, falling.
        train_steps: Training steps of the schedule.
        share: The share of the noise levels that comes before.

    Returns:
        A number of steps, from 0 to all.

    Raises:
        ValueError: If the share is not between 0 and 1.

    Reference:
        diffusers `pipeline_stable_diffusion_xl.py`, `denoising_end`.
    """
    if not (isinstance(share, (int, float)) and 0.0 < share < 1.0):
        raise ValueError(
            f"`refiner_start` must be over 0 and under 1. Received: {share!r}"
        )
    cutoff = round(train_steps - share * train_steps)
    return int(np.count_nonzero(np.asarray(timesteps) >= cutoff))
