"""What the U-Net is told of texts, where text encoders have read them already."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from keras import ops

from kerasdiffusion.adapters.namespaces import CONTROL, UNET
from kerasdiffusion.models.embeddings import waves_of
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.training.finetuning.base import Base


def given(inputs: Mapping, dropped, base: Base, taught: Mapping, clip_skip=None):
    """Context and pooled text that were computed ahead.

    Args:
        inputs: A batch with `"context"`, and `"pooled"` where it is told.
        dropped: Which captions are the empty one, bool `(batch, 1)`, or `None`.
        base: The model.
        taught: As of `Finetuner`.
        clip_skip: As of `Finetuner`.

    Raises:
        ValueError: If text encoders or words are taught.
    """
    text = [name for name in taught if name not in (UNET, CONTROL)]
    if text:
        raise ValueError(
            "Text encoders and words that are taught are read in each step: "
            '`fit()` takes "tokens" then, not "context". Received: '
            f"{', '.join(inputs)}, and a trainer of {', '.join(text)}"
        )
    context, pooled = inputs["context"], inputs.get("pooled")
    if dropped is None:
        return context, pooled
    empty, empty_pooled = base.empty_context(clip_skip)
    count = check_chunks(context.shape[1], empty.shape[1])
    empty = np.tile(empty, (1, count, 1))
    context = ops.where(dropped[:, :, None], empty, context)
    if pooled is not None:
        pooled = ops.where(dropped, empty_pooled, pooled)
    return context, pooled


def check_chunks(length: int, at_once: int) -> int:
    """How many chunks a text has.

    Args:
        length: Its tokens.
        at_once: What the text encoder reads at once.

    Raises:
        ValueError: If that is no whole number.
    """
    if length % at_once:
        raise ValueError(
            f"Texts must have {at_once} tokens, which the text encoder reads at once, "
            f"or a multiple. Received: {length}"
        )
    return length // at_once


def with_sizes(config: ModelConfig, pooled, sizes, latents):
    """SDXL's pooled text and sizes in one.

    Args:
        config: The model's.
        pooled: Of shape `(batch, width)`.
        sizes: As of `Finetuner`, of shape `(batch, 6)`; by default those of the
            latents, uncropped.
        latents: The batch's.
    """
    batch, *sides = ops.shape(latents)[:3]
    if sizes is None:
        height, width = (config.autoencoder.downsampling * side for side in sides)
        sizes = height, width, 0, 0, height, width
        sizes = ops.stack([ops.cast(each, "float32") for each in sizes])
        sizes = ops.broadcast_to(sizes, (batch, 6))
    waves = waves_of(sizes, config.diffusion_model.vector_id_width)
    waves = ops.reshape(waves, (batch, -1))
    return ops.concatenate([ops.cast(pooled, "float32"), waves], axis=-1)
