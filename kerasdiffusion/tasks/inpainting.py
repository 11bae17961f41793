"""Tasks that paint a part of a picture, or around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter

import numpy as np

from kerasdiffusion.pictures.read import LARGEST, pad_to_multiple, read_masks
from kerasdiffusion.pictures.regions import (
    Box,
    box_around,
    canvas_for,
    enlarged,
    feathered,
    filled,
    laid,
    outward,
    resize_mask,
)
from kerasdiffusion.requests.arguments import check_pixels, check_prompts
from kerasdiffusion.requests.options import Options, takes_options
from kerasdiffusion.tasks.image_to_image import PictureTasks, Start, check_pictures
from kerasdiffusion.tasks.refining import watched

#: The widest feather, in pixels.
WIDEST = 512


class Inpainting(PictureTasks):
    """`inpaint` and `outpaint`, with U-Nets of both kinds.

    One that was made for it sees the mask and the picture without its masked part
    beside the latents. With any other, the latents outside the mask are put back to the
    picture's after each step, as noisy as the others are.
    """

    @takes_options
    def inpaint(
        self,
        image,
        mask,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        strength: float = 1.0,
        feather: int = 0,
        padding: int | None = None,
        options: Options,
    ) -> np.ndarray:
        """Pictures of which a part is painted anew; all else is the input's own pixels.

        Args:
            image: A picture, or a list of one for each prompt, as in `image_to_image`.
            mask: What is painted is white, what stays is black: a picture of the same
                height and width, or an array of bools or of floats in [0, 1]; or a list
                of one for each prompt. Grey is painted with that strength, and laid
                over what was there with that opacity.
            strength: How much of the masked part is painted anew, from 0 to 1, as in
                `image_to_image`. At 1 nothing of what was there shines through.
            feather: Pixels outside the mask, 0 to 512, over which the new picture fades
                into the old one. With 0 nothing outside the mask changes.
            padding: Paints only the mask's surroundings, up to that many pixels from
                it, at the model's own size, and lays them back scaled: a small part of
                a large picture gets the detail that the model can give. Their ratio is
                the model's where the picture is large enough. By default the picture is
                painted as a whole. Pictures to follow (`control`) have the picture's
                own height and width and are cut and scaled in the same way.

        The other arguments, the result and the errors are those of `image_to_image`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> picture = model.text_to_image("a red apple on a blue background", seed=1)[0]
        >>> mask = np.zeros((128, 128), bool)
        >>> mask[16:112, 16:112] = True
        >>> painted = model.inpaint(picture, mask, "a dog on a blue background")
        >>> print((painted[0] == picture)[~mask].all())
        True

        Reference:
            Lugmayr et al. 2022, "RePaint: Inpainting using Denoising Diffusion
            Probabilistic Models", equation 8; CompVis latent-diffusion
            `ldm/models/diffusion/ddim.py` (`mask`); for U-Nets that are told, runwayml
            stable-diffusion `scripts/inpaint_st.py`.
        """
        count = len(check_prompts(prompt))
        pictures = check_pictures(image, count)
        size = pictures[0].shape[:2]
        masks = read_masks(mask, size)
        if len(masks) not in (1, count):
            raise ValueError(
                f"`mask` must be one mask for all or one for each of the {count} "
                f"prompts. Received: {len(masks)} masks"
            )
        feather = check_pixels(feather, "feather", most=WIDEST)
        if padding is not None:
            padding = check_pixels(padding, "padding")
        self._check_takes_masks("inpaint")
        whole = Box(0, size[0], 0, size[1])
        seen = size if padding is None else (self.img_height, self.img_width)
        said = prompt, negative_prompt, batch_size, options
        texts = self._texts_for("inpaint", seen, *said)
        settings = num_steps, unconditional_guidance_scale, seed
        start = self._start(*texts, size, strength, settings)
        covers = [feathered(each, feather) for each in masks]
        if padding is None:
            boxes = [whole]
            painted = self._paint_in(start, pictures, masks)
        else:
            boxes = [box_around(cover, padding, seen) for cover in covers]
            near = following(
                start,
                lambda followed: [
                    enlarged(each, box, seen) for each, box in alike(followed, boxes)
                ],
            )
            parts = [
                (enlarged(picture, box, seen), enlarged(each, box, seen))
                for picture, each, box in alike(pictures, masks, boxes)
            ]
            painted = self._paint_in(near, *zip(*parts, strict=True))
        return np.stack(
            [laid(*each) for each in alike(pictures, painted, covers, boxes)]
        )

    @takes_options
    def outpaint(
        self,
        image,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        overlap: int | None = None,
        strength: float = 1.0,
        feather: int = 0,
        options: Options,
    ) -> np.ndarray:
        """Pictures that go on beyond their edges; the given pixels stay as they are.

        The new pixels are painted in windows of the model's own size, from the picture
        outward. Each window overlaps what is there already, and is inpainted.

        Args:
            image: A picture, or a list of one for each prompt, as in `image_to_image`.
            left: Pixels that are added at the left, 0 or more; also more than the
                picture has. One side at least gets some.
            right: The same at the right.
            top: The same at the top.
            bottom: The same at the bottom.
            overlap: Pixels of each window that are there already, 1 or more and less
                than the model's size, which it goes on from; by default the half.
            strength: As in `inpaint`. Below 1 what is painted begins with the nearest
                given pixels, repeated.
            feather: Pixels over which a window fades into what was there, as in
                `inpaint`; with 0 the given pixels do not change.

        The other arguments and the errors are those of `image_to_image`. Pictures to
        follow (`control`) have the result's height and width; each window follows its
        part of them.

        Returns:
            uint8 array of shape `(pictures, top + height + bottom, left + width +
            right, 3)`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> picture = model.text_to_image("a red apple on a blue background", seed=1)[0]
        >>> wide = model.outpaint(picture, "a blue background", left=32, right=32)
        >>> print(wide.shape, (wide[0, :, 32:160] == picture).all())
        (1, 128, 192, 3) True
        """
        pictures = check_pictures(image, len(check_prompts(prompt)))
        size = pictures[0].shape[:2]
        sides = {"left": left, "right": right, "top": top, "bottom": bottom}
        sides = {name: check_pixels(side, name) for name, side in sides.items()}
        if not any(sides.values()):
            raise ValueError(
                "One of `left`, `right`, `top` and `bottom` must be 1 or more. "
                "Received: 0 for all"
            )
        multiple = self.config.autoencoder.downsampling
        canvas, given, wanted = canvas_for(size, sides, multiple)
        if max(wanted.size) > LARGEST:
            raise ValueError(
                f"The sides of the result must be at most {LARGEST} pixels. "
                f"Received: height={wanted.size[0]}, width={wanted.size[1]}"
            )
        window = min(self.img_height, canvas[0]), min(self.img_width, canvas[1])
        step = self._outward_step(window, overlap)
        feather = check_pixels(feather, "feather", most=WIDEST)
        self._check_takes_masks("outpaint")
        stopped = []
        options = replace(options, callback=watched(options.callback, stopped))
        said = prompt, negative_prompt, batch_size, options
        texts = self._texts_for("outpaint", window, *said)
        settings = num_steps, unconditional_guidance_scale, seed
        start = self._start(*texts, wanted.size, strength, settings)
        more = [(0, 0), *wanted.margins(canvas), (0, 0)]
        start = following(start, lambda followed: np.pad(followed, more, mode="edge"))
        canvases = np.zeros((len(start.prompts), *canvas, 3), np.uint8)
        known = np.zeros(canvas, bool)
        for each, picture in alike(canvases, pictures):
            each[given.inside] = picture
        known[given.inside] = True
        painted = 0
        for box in outward(canvas, given, window, step):
            inside, there = (slice(None), *box.inside), known[box.inside]
            if there.all():
                continue
            parts = [filled(each, there) for each in canvases[inside]]
            canvases[inside] = parts
            mask = 1.0 - there.astype(np.float32)
            near = following(another(start, painted), itemgetter(inside))
            new = self._paint_in(near, parts, [mask])
            cover, painted = feathered(mask, feather), painted + 1
            whole = Box(0, window[0], 0, window[1])
            canvases[inside] = [
                laid(part, each, cover, whole)
                for part, each in zip(parts, new, strict=True)
            ]
            known[box.inside] = True
            if stopped:
                break
        return canvases[(slice(None), *wanted.inside)]

    def _paint_in(self, start: Start, pictures, masks) -> np.ndarray:
        """Pictures, painted where masks are white.

        Args:
            start: From `_start`.
            pictures: uint8 pictures of one size: one for all prompts or one for each of
                some that follow each other.
            masks: float32 of shape `(height, width)`, likewise.

        Returns:
            uint8 pictures of the same height and width.
        """
        height, width = pictures[0].shape[:2]
        multiple = self.config.autoencoder.downsampling
        latents = self._encode_pictures(pictures)
        size = latents.shape[1:3]
        padded = [pad_to_multiple(mask, multiple) for mask in masks]
        small = np.stack([resize_mask(mask, size) for mask in padded])[..., None]
        if not self._is_told_masks:
            painted = self._paint_on(start, latents, mask=small)
            return painted[:, :height, :width]
        pairs = alike(pictures, [mask >= 0.5 for mask in masks])
        hidden = self._encode_pictures(*zip(*pairs, strict=True))
        told = np.repeat(small >= 0.5, len(hidden) // len(small), axis=0)
        concat = np.concatenate([told.astype(np.float32), hidden], axis=-1)
        return self._paint_on(start, latents, concat=concat)[:, :height, :width]

    @property
    def _is_told_masks(self) -> bool:
        """Whether the U-Net takes a mask and a masked picture beside the latents."""
        channels = self.config.autoencoder.latent_channels
        return self.config.diffusion_model.in_channels == 2 * channels + 1

    def _check_takes_masks(self, task: str) -> None:
        network = self.config.diffusion_model
        channels = self.config.autoencoder.latent_channels
        blends = network.in_channels == channels and not network.noise_levels
        if not blends and not self._is_told_masks:
            raise ValueError(
                f"`{task}` takes a U-Net of {channels} channels, or of "
                f"{2 * channels + 1}, which is told of the mask. "
                f"Received: {network.in_channels}"
            )

    def _outward_step(self, window, overlap) -> tuple[int, int]:
        """Rows and columns that a window adds, whole latents."""
        least = min(self.img_height, self.img_width)
        if overlap is not None:
            overlap = check_pixels(overlap, "overlap", least=1, most=least - 1)
        multiple = self.config.autoencoder.downsampling
        height, width = (
            max(multiple, (side - (overlap or side // 2)) // multiple * multiple)
            for side in window
        )
        return height, width


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
        for each in start.run.controls
    )
    return start._replace(run=start.run._replace(controls=controls))


def another(start: Start, number: int) -> Start:
    """The same prompts and options, other noise: 0 has the seeds' own."""
    if number == 0:
        return start

    def mixed(seeds):
        return seeds and [
            int(np.random.SeedSequence([seed, number]).generate_state(1, "uint64")[0])
            for seed in seeds
        ]

    run = start.run
    return start._replace(
        run=run._replace(
            seeds=mixed(run.seeds), variation_seeds=mixed(run.variation_seeds)
        )
    )
