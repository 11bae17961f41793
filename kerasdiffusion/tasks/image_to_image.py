"""Tasks that begin with a picture."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from kerasdiffusion.pictures.read import pad_to_multiple, read_pictures, to_unit
from kerasdiffusion.requests.arguments import (
    check_count,
    check_prompts,
    check_share,
    check_text_is_enough,
)
from kerasdiffusion.requests.options import Options, takes_options
from kerasdiffusion.sampling.loop import Known
from kerasdiffusion.tasks.prompting import Prompting


class Start(NamedTuple):
    """What a task with a picture paints, checked before anything is built.

    Prompts are one for each picture of the result; the first `first` of `total` steps
    are left out.
    """

    prompts: list
    negatives: list
    run: Any
    first: int
    total: int


class Asked(NamedTuple):
    """What a picture task is asked.

    Args:
        pictures: uint8 pictures of one size: one, or one for each prompt of the caller.
        prompts: One for each result.
        negatives: One for each prompt of the caller.
        options: Sizes that SDXL is told filled in.
    """

    pictures: list[np.ndarray]
    prompts: list
    negatives: list
    options: Options

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


class PictureTasks(Prompting):
    """What `StableDiffusion` does with a picture; it has `_prepare` and `_walk`."""

    @takes_options
    def image_to_image(
        self,
        image,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        strength: float = 0.8,
        options: Options,
    ) -> np.ndarray:
        """Pictures of a prompt that begin with a picture, as an example or a sketch.

        The picture becomes latents, these become noisy, and the last steps paint from
        there. The results have the picture's own size: where that is no multiple of the
        autoencoder's 8 pixels, the right and lower edge are repeated up to one, and cut
        off in the end.

        Args:
            image: A path, a PIL image or an array (uint8, or float in [0, 1]), see
                `read.read_pictures`; or a list of them, one for each prompt, all of
                one size.
            strength: How much is painted anew, from 0 to 1: the share of the steps that
                are made. At 0 the picture comes back as the autoencoder sees it; 1 is
                `text_to_image` from the same noise.

        The other arguments, the result and the errors are those of `text_to_image`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> sketch = np.full((128, 128, 3), 255, "uint8")
        >>> sketch[32:96, 32:96] = (220, 30, 30)
        >>> model.image_to_image(sketch, "a red apple", strength=0.7).shape
        (1, 128, 128, 3)

        Reference:
            Meng et al. 2022, "SDEdit: Guided Image Synthesis and Editing with
            Stochastic Differential Equations", section 3; CompVis `scripts/img2img.py`.
        """
        given = image, prompt, negative_prompt, batch_size, options
        asked = self._asked("image_to_image", *given)
        check_text_is_enough(self.config)
        settings = num_steps, unconditional_guidance_scale, seed
        return self._repaint(asked, strength, settings)

    def _asked(
        self,
        task: str,
        image,
        prompt,
        negative_prompt,
        batch_size,
        options: Options,
        name: str = "prompt",
    ) -> Asked:
        """What every picture task is asked, checked before anything is built."""
        pictures = check_pictures(image, len(check_prompts(prompt, name)))
        size = pictures[0].shape[:2]
        given = prompt, negative_prompt, batch_size, options, name
        return Asked(pictures, *self._texts_for(task, size, *given))

    def _texts_for(
        self,
        task: str,
        size: tuple[int, int],
        prompt,
        negative_prompt,
        batch_size,
        options: Options,
        name: str = "prompt",
    ) -> tuple[list, list, Options]:
        """The fields of `Asked` behind the pictures, for pictures of a size."""
        prompts = check_prompts(prompt, name)
        batch_size = check_count(batch_size, "batch_size")
        if options.refiner is not None:
            raise ValueError(
                f"`{task}` takes no `refiner`; call it with the refiner as the "
                f"model. Received: refiner={options.refiner!r}"
            )
        negatives = self._negatives(negative_prompt, len(prompts), options)
        prompts = self._texts(prompts, options.prompt_2, "prompt_2")
        if self.config.diffusion_model.vector_width:
            target = options.target_size or size
            before = options.original_size or target
            options = replace(options, original_size=before, target_size=target)
        prompts = [each for each in prompts for _ in range(batch_size)]
        return prompts, negatives, options

    def _start(
        self,
        prompts: list,
        negatives: list,
        options: Options,
        size: tuple[int, int],
        strength: float,
        settings,
    ) -> Start:
        """How pictures are painted over others, checked.

        Args:
            prompts: One for each result.
            negatives: As in `Asked`.
            options: The same.
            size: Height and width of the results, and of pictures to follow.
            strength: The share of the steps that are made.
            settings: Number of steps, guidance scale and seed.
        """
        num_steps, guidance_scale, seed = settings
        strength = check_share(strength, "strength")
        first, total = self._first_step(strength, num_steps, options)
        run = self._prepare(
            len(prompts),
            num_steps,
            guidance_scale,
            seed,
            options,
            first_step=min(first, total - 1),
            size=size,
        )
        return Start(prompts, negatives, run, first, total)

    def _repaint(self, asked: Asked, strength: float, settings, concat=None):
        """Pictures that begin with pictures.

        Args:
            asked: The `Asked`.
            strength: The share of the steps that are made.
            settings: Number of steps, guidance scale and seed.
            concat: What each picture has behind its latents: a function of their shape,
                to an array `(pictures, h, w, channels)`.
        """
        _, *texts = asked
        start = self._start(*texts, asked.size, strength, settings)
        concat = concat(self._latent_size(asked.size)) if concat else None
        latents = self._encode_pictures(asked.pictures)
        height, width = asked.size
        return self._paint_on(start, latents, concat=concat)[:, :height, :width]

    def _paint_on(self, start: Start, latents, mask=None, concat=None) -> np.ndarray:
        """Pictures that begin with latents.

        Args:
            start: From `_start`.
            latents: One for all pictures, or one for each of some that follow each
                other: float32 `(some, h, w, channels)`.
            mask: Where other latents than these are painted, see `loop.Known`; without
                one, everywhere.
            concat: What the U-Net sees beside the latents.

        Returns:
            uint8 pictures, of the latents' size.
        """
        run, count = start.run, len(start.prompts)
        latents = np.repeat(latents, count // len(latents), axis=0)
        if start.first == start.total:
            return self._pictures(latents)
        unit = self._noise(run, latents.shape[1:])
        if mask is not None:
            mask = np.repeat(mask, count // len(mask), axis=0)
            run = run._replace(known=Known(latents, mask, unit))
        noise = unit * np.float32(run.table.initial_scale)
        # All of the steps begin with nothing but noise, as without a picture.
        noisy = latents + noise if start.first else noise
        branches, shares, run = self._branches(start.prompts, start.negatives, run)
        if concat is not None:
            concat = np.repeat(concat, count // len(concat), axis=0)
            branches = [{**branch, "concat": concat} for branch in branches]
        return self._generate(noisy, branches, shares, run)

    def _latent_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the latents of a picture."""
        pixels = self.config.autoencoder.downsampling
        return -(-size[0] // pixels), -(-size[1] // pixels)

    def _first_step(self, strength: float, num_steps, options) -> tuple[int, int]:
        """The first step that is made, and how many there are."""
        own = options.timesteps if options.sigmas is None else options.sigmas
        total = self.config.generation.num_steps if num_steps is None else num_steps
        total = total if own is None else len(own)
        if not isinstance(total, numbers.Integral) or total < 1:
            return 0, 1  # `_prepare` says what is wrong
        # 0.29 * 100 is a little less than 29.
        return total - min(total, int(total * strength + 1e-9)), total

    def _encode_pictures(
        self, pictures: Sequence[np.ndarray], covers: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        """Latents of uint8 pictures of one size, their edges repeated as needed.

        `covers`, as many, of shape `(height, width)`, are true where a picture is
        hidden behind grey.
        """
        multiple, latents = self.config.autoencoder.downsampling, []
        # One at a time: the encoder's activations are the largest of the run.
        for i, picture in enumerate(pictures):
            pixels = to_unit([pad_to_multiple(picture, multiple)])
            if covers is not None:
                pixels *= ~pad_to_multiple(covers[i], multiple)[..., None]
            latents.append(self.encode_picture(pixels))
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
