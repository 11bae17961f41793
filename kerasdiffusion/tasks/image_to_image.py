"""Pictures that begin with a picture: `image_to_image`, and what its kin share."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from kerasdiffusion.pictures.read import pad_to_multiple, read_pictures, to_unit
from kerasdiffusion.requests.arguments import (
    check_prompts,
    check_text_is_enough,
)
from kerasdiffusion.sampling.loop import Known
from kerasdiffusion.tasks.plan import Loop, Painting, Plan
from kerasdiffusion.tasks.prompting import branches_of, read_negatives, read_prompts
from kerasdiffusion.tasks.settings import Settings, settle, unit_noise


class Asked(NamedTuple):
    """What every task with a picture is asked.

    Args:
        pictures: uint8 pictures of one size: one, or one for each prompt of the caller.
        prompts: One for each result.
        negatives: One for each prompt of the caller.
    """

    pictures: list[np.ndarray]
    prompts: list
    negatives: list

    @property
    def count(self) -> int:
        """Number of results."""
        return len(self.prompts)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.pictures[0].shape[:2]

    def for_each(self, values: np.ndarray) -> np.ndarray:
        """What there is of each picture, for each result."""
        return np.repeat(values, self.count // len(values), axis=0)


class Start(NamedTuple):
    """How pictures are painted over others.

    The first `first` of `total` steps are left out.
    """

    asked: Asked
    settings: Settings
    first: int
    total: int

    @property
    def num_steps(self) -> int:
        """Steps that are made."""
        return self.settings.num_steps if self.first < self.total else 0


def plan(model, request) -> Plan:
    """What `image_to_image` does, see `tasks.plan.Plan`."""
    asked = read_asked(model, request)
    check_text_is_enough(model.config)
    return plan_repainting(model, begin(model, request, asked))


def plan_repainting(model, start: Start, concat: Callable | None = None) -> Plan:
    """Pictures that begin with pictures.

    Args:
        model: The `StableDiffusion`.
        start: What is painted over what.
        concat: What each picture has behind its latents: a function of their shape, to
            an array `(pictures, h, w, channels)`.
    """
    settings, size = start.settings, start.asked.size

    def paint(run) -> Painting:
        beside = concat(latent_size(model, size)) if concat else None
        latents = encode_pictures(model, start.asked.pictures)
        painted = yield from paint_over(model, start, latents, concat=beside)
        return painted[:, : size[0], : size[1]]

    return Plan(model, settings.request, settings, start.num_steps, paint)


def paint_over(model, start: Start, latents, mask=None, concat=None) -> Painting:
    """Pictures that begin with latents.

    Args:
        model: The `StableDiffusion`.
        start: What is painted over them.
        latents: One for all pictures, or one for each of some that follow each other:
            float32 `(some, h, w, channels)`.
        mask: Where other latents than these are painted, see `loop.Known`; without one,
            everywhere.
        concat: What the U-Net sees beside the latents.

    Returns:
        uint8 pictures, of the latents' size.
    """
    asked, settings = start.asked, start.settings
    latents = asked.for_each(latents)
    if start.first == start.total:
        return model.decode_all(latents)
    unit = unit_noise(settings, latents.shape[1:])
    if mask is not None:
        known = Known(latents, asked.for_each(mask), unit)
        settings = settings._replace(known=known)
    noise = unit * np.float32(settings.table.initial_scale)
    # All of the steps begin with nothing but noise, as without a picture.
    noisy = latents + noise if start.first else noise
    own, branches, shares = branches_of(model, asked.prompts, asked.negatives, settings)
    if concat is not None:
        concat = asked.for_each(concat)
        branches = [{**branch, "concat": concat} for branch in branches]
    latents = yield Loop(model, own, noisy, branches, shares)
    return model.decode_all(latents)


def read_asked(model, request, name: str = "prompt") -> Asked:
    """What a task with a picture is asked, checked before anything is built.

    Args:
        model: The `StableDiffusion`.
        request: What is asked.
        name: The field that the prompts are in.
    """
    count = len(check_prompts(getattr(request, name), name))
    pictures = check_pictures(request.image, count)
    prompts = read_prompts(model, request, name, texts=True)
    batch_size = request.batch_size
    if request.refiner is not None:
        raise ValueError(
            f"`{request.task}` takes no `refiner`; call it with the refiner as the "
            f"model. Received: refiner={request.refiner!r}"
        )
    negatives = read_negatives(model, request, len(prompts))
    prompts = [each for each in prompts for _ in range(batch_size)]
    return Asked(pictures, prompts, negatives)


def begin(
    model,
    request,
    asked: Asked,
    size: tuple[int, int] | None = None,
    seen: tuple[int, int] | None = None,
) -> Start:
    """How pictures are painted over others, checked.

    Args:
        model: The `StableDiffusion`.
        request: What is asked.
        asked: The same, read.
        size: Height and width of the results, and of pictures to follow; the picture's
            by default.
        seen: Height and width of what the U-Net sees; the picture's by default.
    """
    strength = request.strength
    first, total = _first_step(model.config, request, strength)
    settings = settle(
        model,
        request,
        asked.count,
        first_step=min(first, total - 1),
        size=size or asked.size,
        seen=seen or asked.size,
    )
    return Start(asked, settings, first, total)


def _first_step(config, request, strength: float) -> tuple[int, int]:
    """The first step that is made, and how many there are."""
    num_steps = request.num_steps
    own = request.timesteps if request.sigmas is None else request.sigmas
    total = config.generation.num_steps if num_steps is None else num_steps
    total = total if own is None else len(own)
    if not isinstance(total, numbers.Integral) or total < 1:
        return 0, 1  # `settle` says what is wrong
    # 0.29 * 100 is a little less than 29.
    return total - min(total, int(total * strength + 1e-9)), total


def latent_size(model, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the latents of a picture."""
    pixels = model.config.autoencoder.downsampling
    return -(-size[0] // pixels), -(-size[1] // pixels)


def encode_pictures(
    model,
    pictures: Sequence[np.ndarray],
    covers: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Latents of uint8 pictures of one size, their edges repeated as needed.

    `covers`, as many, of shape `(height, width)`, are true where a picture is hidden
    behind grey.
    """
    multiple, latents = model.config.autoencoder.downsampling, []
    # One at a time: the encoder's activations are the largest of the run.
    for i, picture in enumerate(pictures):
        pixels = to_unit([pad_to_multiple(picture, multiple)])
        if covers is not None:
            pixels *= ~pad_to_multiple(covers[i], multiple)[..., None]
        latents.append(model.encode_picture(pixels))
    return np.concatenate(latents)


def check_pictures(image, prompts: int) -> list[np.ndarray]:
    """One picture for all prompts, or one for each, of one size."""
    pictures = read_pictures(image)
    if len(pictures) not in (1, prompts):
        raise ValueError(
            f"`image` must be one picture for all or one for each of the {prompts} "
            f"prompts. Received: {len(pictures)} pictures"
        )
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(
            f"Pictures of one call must have one size. Received: {sorted(sizes)}"
        )
    return pictures
