"""What callers of `StableDiffusion` pass, checked before anything is built."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import numpy as np

from kerasdiffusion.compute import backend
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.prompts.given import texts
from kerasdiffusion.prompts.limits import check_length
from kerasdiffusion.prompts.weighting import WEIGHTINGS
from kerasdiffusion.requests.kinds import Choice, Whole
from kerasdiffusion.storage.bounds import shown


def check_prompts(prompts, name: str = "prompt", width: int | None = None) -> list:
    """One prompt or several as a list of strings, or of contexts.

    Args:
        prompts: A string, or a list or an array of them. Where `width` is given, also
            what `encode_text` gives, or a list that holds such.
        name: The argument, for messages.
        width: Channels of a context.
    """
    given, prompts = prompts, texts(prompts, name)
    if isinstance(prompts, list):
        listed = prompts
    elif width is None or isinstance(prompts, str) or not hasattr(prompts, "shape"):
        listed = [prompts]
    else:
        listed = [prompts] if len(prompts.shape) == 2 else list(prompts)
    if width is not None:
        listed = [
            _check_embedding(prompt, name, width)
            if hasattr(prompt, "shape")
            else prompt
            for prompt in listed
        ]
    if not all(isinstance(prompt, (str, np.ndarray)) for prompt in listed):
        what = "" if width is None else ", or what `encode_text` gives"
        raise TypeError(
            f"`{name}` must be a string or a list of strings{what}. "
            f"Received: {shown(given)}"
        )
    if not listed:
        raise ValueError(f"`{name}` must not be an empty list. Received: {given!r}")
    for prompt in listed:
        if isinstance(prompt, str):
            check_length(prompt, name)
    return listed


def _check_embedding(prompt, name: str, width: int) -> np.ndarray:
    context = np.asarray(backend.to_numpy(prompt), "float32")
    if context.ndim != 2 or context.shape[-1] != width or not context.size:
        raise ValueError(
            f"A context in `{name}` must have the shape (tokens, {width}). "
            f"Received: {context.shape}"
        )
    return context


def check_negatives(negative_prompt, prompts: int, width: int | None = None) -> list:
    """One negative prompt, or one for each prompt; `None` is the empty one."""
    if negative_prompt is None:
        return [""]
    negatives = check_prompts(negative_prompt, "negative_prompt", width)
    if len(negatives) not in (1, prompts):
        raise ValueError(
            f"`negative_prompt` must be one for all or one for each of the {prompts} "
            f"prompts. Received: {len(negatives)} of them"
        )
    return negatives


def check_prompt_weighting(weighting) -> str:
    """One of `WEIGHTINGS`."""
    return Choice(WEIGHTINGS).check(weighting, "prompt_weighting")


def check_clip_skip(clip_skip, depth: int) -> int | None:
    """A layer counted from the end: 1 is the last."""
    if clip_skip is None:
        return None
    clip_skip = Whole(1, 1000).check(clip_skip, "clip_skip")
    if clip_skip > depth:
        raise ValueError(
            f"`clip_skip` must be at most {depth}, the layers of the text encoder. "
            f"Received: {clip_skip}"
        )
    return clip_skip


def check_second(second, firsts: list, name: str) -> list[tuple[str, str]]:
    """Prompts, each with what the second text encoder reads in place of it.

    Args:
        second: One for all prompts, or one each.
        firsts: The prompts.
        name: The argument, for messages.
    """
    listed = check_prompts(second, name)
    if len(listed) not in (1, len(firsts)):
        raise ValueError(
            f"`{name}` must be one for all or one for each of the {len(firsts)} "
            f"prompts. Received: {len(listed)} of them"
        )
    if not all(isinstance(first, str) for first in firsts):
        raise ValueError(
            f"`{name}` goes with prompts that are texts: `encode_text` has encoded for "
            f"both text encoders. Received: {second!r}"
        )
    return list(zip(firsts, listed * (len(firsts) // len(listed)), strict=True))


def check_pooled(pooled_text, count: int, width: int) -> np.ndarray:
    """Pooled text, one for each picture: float32 `(pictures, width)`."""
    if pooled_text is None:
        raise ValueError(
            "The model takes pooled text beside `encoded_text`: pass what "
            "`encode_pooled` gives as `pooled_text`. Received: None"
        )
    pooled = np.asarray(backend.to_numpy(pooled_text), "float32")
    pooled = pooled[None] if pooled.ndim == 1 else pooled
    if pooled.shape not in ((1, width), (count, width)):
        raise ValueError(
            f"`pooled_text` must have the shape ({width},) or ({count}, {width}). "
            f"Received: {pooled.shape}"
        )
    return np.broadcast_to(pooled, (count, width))


def check_text_is_enough(config: ModelConfig) -> None:
    """Whether the U-Net takes nothing beside latents and text."""
    network, latents = config.diffusion_model, config.autoencoder.latent_channels
    if network.in_channels != latents or network.noise_levels:
        raise ValueError(
            "The model paints from a picture beside the text (a mask, a depth map or a "
            "picture), which `inpaint`, `depth_to_image`, `edit` or `upscale` give it; "
            f"for this task the U-Net must take {latents} channels. "
            f"Received: {network.in_channels}"
        )


def check_refiner(refiner, base):
    """A model whose pictures and latents are those of the base."""
    if not hasattr(refiner, "diffusion_model") or not hasattr(refiner, "latent_shape"):
        raise TypeError(f"`refiner` must be a `StableDiffusion`. Received: {refiner!r}")
    own, other = base.latent_shape, refiner.latent_shape
    factor = base.config.autoencoder.scale_factor
    found = refiner.config.autoencoder.scale_factor
    if (own, factor) != (other, found):
        raise ValueError(
            f"A refiner must have the latents of the base, of shape {own} and scale "
            f"{factor}: give it the same `img_height` and `img_width`. "
            f"Received: {other} and {found}"
        )
    return refiner


def check_count(count, name: str) -> int:
    """A whole number, 1 or more."""
    if isinstance(count, bool) or not isinstance(count, numbers.Integral):
        raise TypeError(f"`{name}` must be a whole number. Received: {count!r}")
    if count < 1:
        raise ValueError(f"`{name}` must be 1 or more. Received: {count}")
    return int(count)


def check_context(encoded_text, width: int, batch_size: int) -> np.ndarray:
    """Encoded prompts, one for each picture: float32 `(pictures, tokens, width)`."""
    if isinstance(encoded_text, str):
        raise TypeError(
            f"`encoded_text` must be what `encode_text` gives; `text_to_image` takes "
            f"prompts. Received: {encoded_text!r}"
        )
    encoded = np.asarray(backend.to_numpy(encoded_text), "float32")
    if encoded.ndim == 2:
        encoded = encoded[None]
    if encoded.ndim != 3 or encoded.shape[-1] != width or not encoded.size:
        raise ValueError(
            f"`encoded_text` must have the shape (tokens, {width}) or (prompts, "
            f"tokens, {width}). Received: {encoded.shape}"
        )
    if len(encoded) == 1:
        return np.repeat(encoded, batch_size, axis=0)
    if batch_size not in (1, len(encoded)):
        raise ValueError(
            f"With {len(encoded)} prompts, `batch_size` must be as many or 1. "
            f"Received: {batch_size}"
        )
    return encoded


def check_noise(noise, count: int, shape: Sequence[int]) -> np.ndarray:
    """Noise to begin with, one for each picture: float32 `(count, *shape)`."""
    noise = np.asarray(backend.to_numpy(noise), "float32")
    if noise.shape not in (shape, (1, *shape), (count, *shape)):
        raise ValueError(
            f"`diffusion_noise` must have the shape {shape}, or that behind a batch "
            f"of {count}. Received: {noise.shape}"
        )
    return np.broadcast_to(noise, (count, *shape))
