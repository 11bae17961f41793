"""A second, larger pass of `text_to_image` over what the first painted: "hires fix".

Reference:
    AUTOMATIC1111/stable-diffusion-webui `modules/processing.py`
    (`StableDiffusionProcessingTxt2Img.sample_hr_pass`) and
    `modules/sd_samplers_common.py` (`setup_img2img_steps`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from kerasdiffusion.networks.room import check_room_of
from kerasdiffusion.pictures.interpolation import interpolated
from kerasdiffusion.requests.larger import OF_LATENTS
from kerasdiffusion.tasks.image_to_image import (
    Asked,
    Start,
    encode_pictures,
    paint_over,
)
from kerasdiffusion.tasks.plan import Painting
from kerasdiffusion.tasks.prompting import read_negatives, read_prompts
from kerasdiffusion.tasks.settings import Settings, settle

#: At most so much of the noise, of which the number of steps comes.
_MOST = 0.999


class Second(NamedTuple):
    """The second pass.

    Args:
        start: What is painted over, and how: its pictures come of the first pass.
        cover: Height and width of latents that the first are enlarged to.
        size: Height and width of what is left of them.
    """

    start: Start
    cover: tuple[int, int]
    size: tuple[int, int]

    @property
    def num_steps(self) -> int:
        """Steps that it makes."""
        return self.start.num_steps


def second_pass(model, first: Settings, prompts, negatives) -> Second | None:
    """The second pass of a run, checked; `None` where none is asked for.

    Args:
        model: The `StableDiffusion`.
        first: How the first is painted.
        prompts: One for each picture.
        negatives: Its own.

    Raises:
        ValueError: If something of it is out of its range, or goes without.
        MemoryError: If no memory here could hold the pictures.
    """
    request, count = first.request, len(prompts)
    if not request.is_larger:
        _check_alone(request)
        return None
    _check(request)
    pixels = model.config.autoencoder.downsampling
    own = model.img_height, model.img_width
    cover, size = request.enlarged_sizes(own, pixels)
    if any(new < old for new, old in zip(size, own, strict=True)):
        raise ValueError(
            "A second pass must be no smaller than the first, which is "
            f"{own[1]}x{own[0]}. Received: hires_size of {size[1]}x{size[0]}"
        )
    check_room_of(model, count, size)
    made = request.hires_steps or first.num_steps
    strength = min(request.hires_strength, _MOST)
    total = min(int(made / strength), 1000) if strength else 1
    made = min(made, total) if strength else 0
    asked = request.replace(
        num_steps=total,
        timesteps=None,
        sigmas=None,
        sampler=request.hires_sampler or request.sampler,
        spacing=request.hires_spacing or request.spacing,
        seed=tuple(first.seeds),
        variation_seed=first.variation_seeds and tuple(first.variation_seeds),
    )
    settings = settle(
        model,
        asked,
        count,
        first_step=min(total - made, total - 1),
        size=size,
        seen=size,
    )
    again = _prompts(model, request, prompts, negatives)
    start = Start(Asked([], *again), settings, total - made, total)
    small = (tuple(side // pixels for side in each) for each in (cover, size))
    return Second(start, *small)


def paint_larger(model, second: Second, latents: np.ndarray) -> Painting:
    """The second pass over the latents of the first: gives its loop, returns pictures.

    Args:
        model: The `StableDiffusion`.
        second: What is painted.
        latents: Clean ones, float32 `(pictures, h, w, channels)`.
    """
    way = second.start.settings.request.hires_upscaler
    if way in OF_LATENTS:
        latents = interpolated(latents, second.cover, *OF_LATENTS[way])
    else:
        pixels = model.config.autoencoder.downsampling
        size = [side * pixels for side in second.cover[::-1]]
        by = getattr(Image.Resampling, way.upper())
        pictures = [
            np.asarray(Image.fromarray(picture).resize(size, by))
            for picture in model.decode_all(latents)
        ]
        latents = encode_pictures(model, pictures)
    top, left = (
        (cover - own) // 2 for cover, own in zip(second.cover, second.size, strict=True)
    )
    height, width = second.size
    latents = latents[:, top : top + height, left : left + width]
    return (yield from paint_over(model, second.start, latents))


def _prompts(model, request, prompts, negatives):
    """The prompts of the second pass, and what it keeps away from."""
    texts = len(prompts) // request.batch_size
    if request.hires_prompt is not None:
        again = request.replace(prompt=(request.hires_prompt,) * texts)
        read = read_prompts(model, again)
        prompts = [each for each in read for _ in range(request.batch_size)]
    if request.hires_negative_prompt is not None:
        again = request.replace(negative_prompt=request.hires_negative_prompt)
        negatives = read_negatives(model, again, texts)
    return prompts, negatives


def _check(request) -> None:
    """What does not go with a second pass."""
    if request.hires_scale is not None and request.hires_size is not None:
        raise ValueError(
            "A second pass must have `hires_scale` or `hires_size`, not both. "
            f"Received: {request.hires_scale:g} and {request.hires_size}"
        )
    if request.refiner is not None:
        raise ValueError(
            "A second pass must go without `refiner`: refine its picture by "
            "`image_to_image` of the refiner. Received: both"
        )


def _check_alone(request) -> None:
    """What says something of a second pass where there is none."""
    given = [name for name in request.given() if name.startswith("hires_")]
    if given:
        raise ValueError(
            f"`{given[0]}` must come with `hires_scale` or `hires_size`, which ask for "
            f"a second pass. Received: {given[0]}={getattr(request, given[0])!r} alone"
        )
