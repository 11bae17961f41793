"""A part of a picture, painted anew: `inpaint`, with U-Nets of both kinds.

One that was made for it sees the mask and the picture without its masked part beside
the latents. With any other, the latents outside the mask are put back to the picture's
after each step, as noisy as the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kerasdiffusion.pictures.read import pad_to_multiple, read_masks
from kerasdiffusion.pictures.regions import (
    Box,
    box_around,
    enlarged,
    feathered,
    laid,
    resize_mask,
)
from kerasdiffusion.tasks.image_to_image import (
    Start,
    begin,
    encode_pictures,
    paint_over,
    read_asked,
)
from kerasdiffusion.tasks.plan import Painting, Plan


def plan(model, request) -> Plan:
    """What `inpaint` does, see `tasks.plan.Plan`."""
    asked = read_asked(model, request)
    size = asked.size
    masks = read_masks(request.mask, size)
    count = asked.count // request.batch_size
    if len(masks) not in (1, count):
        raise ValueError(
            f"`mask` must be one mask for all or one for each of the {count} "
            f"prompts. Received: {len(masks)} masks"
        )
    feather = request.feather
    padding = request.padding
    check_takes_masks(model.config, "inpaint")
    seen = size if padding is None else (model.img_height, model.img_width)
    start = begin(model, request, asked, seen=seen)
    covers = [feathered(each, feather) for each in masks]
    if padding is None:
        boxes = [Box(0, size[0], 0, size[1])]
        near, pictures = start, asked.pictures
    else:
        boxes = [box_around(cover, padding, seen) for cover in covers]
        near = following(
            start,
            lambda followed: [
                enlarged(each, box, seen) for each, box in alike(followed, boxes)
            ],
        )
        parts = alike(asked.pictures, masks, boxes)
        pictures = [enlarged(picture, box, seen) for picture, _, box in parts]
        masks = [enlarged(mask, box, seen) for _, mask, box in parts]

    def paint(run) -> Painting:
        painted = yield from paint_in(model, near, pictures, masks)
        there = alike(asked.pictures, painted, covers, boxes)
        return np.stack([laid(*each) for each in there])

    return Plan(model, request, near.settings, start.num_steps, paint)


def paint_in(model, start: Start, pictures, masks) -> Painting:
    """Pictures, painted where masks are white.

    Args:
        model: The `StableDiffusion`.
        start: How, from `image_to_image.begin`.
        pictures: uint8 pictures of one size: one for all prompts or one for each of
            some that follow each other.
        masks: float32 of shape `(height, width)`, likewise.

    Returns:
        uint8 pictures of the same height and width.
    """
    height, width = pictures[0].shape[:2]
    multiple = model.config.autoencoder.downsampling
    latents = encode_pictures(model, pictures)
    size = latents.shape[1:3]
    padded = [pad_to_multiple(mask, multiple) for mask in masks]
    small = np.stack([resize_mask(mask, size) for mask in padded])[..., None]
    if is_told_masks(model.config):
        pairs = alike(pictures, [mask >= 0.5 for mask in masks])
        hidden = encode_pictures(model, *zip(*pairs, strict=True))
        told = np.repeat(small >= 0.5, len(hidden) // len(small), axis=0)
        concat = np.concatenate([told.astype(np.float32), hidden], axis=-1)
        painted = yield from paint_over(model, start, latents, concat=concat)
    else:
        painted = yield from paint_over(model, start, latents, mask=small)
    return painted[:, :height, :width]


def is_told_masks(config) -> bool:
    """Whether the U-Net takes a mask and a masked picture beside the latents."""
    channels = config.autoencoder.latent_channels
    return config.diffusion_model.in_channels == 2 * channels + 1


def check_takes_masks(config, task: str) -> None:
    """That a U-Net sees a mask, or nothing beside latents.

    Raises:
        ValueError: If it sees something else.
    """
    network = config.diffusion_model
    channels = config.autoencoder.latent_channels
    blends = network.in_channels == channels and not network.noise_levels
    if not blends and not is_told_masks(config):
        raise ValueError(
            f"`{task}` takes a U-Net of {channels} channels, or of "
            f"{2 * channels + 1}, which is told of the mask. "
            f"Received: {network.in_channels}"
        )


def alike(*lists: Sequence) -> list[tuple]:
    """Lists side by side, each as long as the longest: what is in them is repeated.

    Example:

    >>> alike("ab", [1, 2, 3, 4])
    [('a', 1), ('a', 2), ('b', 3), ('b', 4)]
    """
    count = max(len(each) for each in lists)
    spread = [[each[i * len(each) // count] for i in range(count)] for each in lists]
    return list(zip(*spread, strict=True))


def following(start: Start, changed: Callable) -> Start:
    """The same, with other pictures to follow: `changed` makes them of those it has."""
    controls = tuple(
        each._replace(pictures=np.stack(changed(each.pictures)))
        for each in start.settings.controls
    )
    return start._replace(settings=start.settings._replace(controls=controls))
