"""Tasks of U-Nets that see more than latents: depth, editing, upscaling."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence

import numpy as np

from kerasdiffusion.pictures.depth_maps import (
    check_estimator,
    estimate_depths,
    fit_depth,
    read_depths,
)
from kerasdiffusion.pictures.read import to_unit
from kerasdiffusion.presets.families import UPSCALER
from kerasdiffusion.requests.arguments import check_guidance_scale
from kerasdiffusion.requests.options import Options, takes_options
from kerasdiffusion.sampling.noise import picture_noise
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.tasks.image_to_image import PictureTasks

#: Noise levels that the x4 upscaler was trained with; its table has more rows.
NOISE_LEVELS = 351


class ConditionedTasks(PictureTasks):
    """What `StableDiffusion` does with models of more channels than latents have."""

    @takes_options
    def depth_to_image(
        self,
        image,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        depth=None,
        depth_estimator: Callable | None = None,
        strength: float = 0.8,
        options: Options,
    ) -> np.ndarray:
        """Pictures of a prompt that keep a picture's shapes: for depth models.

        As `image_to_image`, by a U-Net that sees a depth map beside the latents. So
        even at full strength what is in the picture stays where it is.

        Args:
            image: As in `image_to_image`.
            depth: A depth map, high (white) where something is near: a path, a PIL
                image or an array `(height, width)` of any range and size, see
                `depth_maps.read_depths`; or a list of them, one for each picture. Each
                is brought to [-1, 1].
            depth_estimator: What makes the map where there is none: a function of a
                uint8 picture `(height, width, 3)`, or a KerasHub `DepthEstimator`. By
                default KerasHub's DepthAnything V2, small (`pip install
                .[depth]`), which fetches its weights at its first use.
            strength: How much is painted anew, as in `image_to_image`.

        The other arguments and the result are those of `text_to_image`.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If a value is out of its range, the U-Net takes no depth map
                (5 channels), or there is none and nothing to estimate it.

        Example:

        ```python
        model = StableDiffusion.from_preset("sd2-depth")
        pictures = model.depth_to_image("room.jpg", "a room in a palace", depth="z.png")
        ```

        Reference:
            Stability-AI/stablediffusion `scripts/gradio/depth2img.py`; Ranftl et al.
            2022, "Towards Robust Monocular Depth Estimation" (MiDaS).
        """
        self._check_sees("depth_to_image", "a depth map", 1)
        given = image, prompt, negative_prompt, batch_size, options
        asked = self._asked("depth_to_image", *given)
        maps = None if depth is None else read_depths(depth)
        if maps is None:
            estimator = check_estimator(depth_estimator)
        elif len(maps) not in (1, len(asked.pictures)):
            raise ValueError(
                f"`depth` must be one map for all or one for each of the "
                f"{len(asked.pictures)} pictures. Received: {len(maps)} maps"
            )

        def concat(size):
            found = maps or estimate_depths(estimator, asked.pictures)
            pixels = self.config.autoencoder.downsampling
            return np.stack([fit_depth(z, asked.size, size, pixels) for z in found])

        settings = num_steps, unconditional_guidance_scale, seed
        return self._repaint(asked, strength, settings, concat)

    @takes_options
    def edit(
        self,
        image,
        instruction: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        image_guidance_scale: float = 1.5,
        options: Options,
    ) -> np.ndarray:
        """The picture as an instruction changes it: for InstructPix2Pix.

        The U-Net sees the picture beside the latents, and is guided twice: by the
        instruction, and by the picture. Three predictions a step, in one call.

        Args:
            image: As in `image_to_image`.
            instruction: What to do, `"make it snow"`; one or a list.
            unconditional_guidance_scale: How strongly the instruction guides.
            image_guidance_scale: How strongly the picture does, 0 or more: from 1.0 to
                2.5 for most; more keeps more of it. Outside of `guidance_interval`,
                both scales are divided by the instruction's.

        The other arguments and the result are those of `text_to_image`.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If a value is out of its range, or the U-Net does not take a
                picture's latents beside the others (8 channels).

        Example:

        ```python
        model = StableDiffusion.from_preset("instruct-pix2pix")
        pictures = model.edit("street.jpg", "make it winter", image_guidance_scale=1.2)
        ```

        Reference:
            Brooks et al. 2023, "InstructPix2Pix: Learning to Follow Image Editing
            Instructions", section 3.2.1.
        """
        latent_channels = self.config.autoencoder.latent_channels
        self._check_sees("edit", "a picture's latents", latent_channels)
        name = "image_guidance_scale"
        by_image = check_guidance_scale(image_guidance_scale, name)
        if by_image < 0.0:
            raise ValueError(f"`{name}` must be 0 or more. Received: {by_image}")
        given = image, instruction, negative_prompt, batch_size, options
        asked = self._asked("edit", *given, name="instruction")
        settings = num_steps, unconditional_guidance_scale, seed, asked.options
        run = self._prepare(asked.count, *settings, size=asked.size)
        # As the posterior has them: not scaled.
        seen = self._encode_pictures(asked.pictures)
        seen = asked.for_each(seen / np.float32(self.config.autoencoder.scale_factor))
        noise = self._noise(run, seen.shape[1:])
        branches, shares, run = self._branches(
            asked.prompts, asked.negatives, run, guided=True
        )
        nothing, *told = branches
        branches = [nothing | {"concat": np.zeros_like(seen)}]
        branches += [branch | {"concat": seen} for branch in (nothing, *told)]
        by_text = 1.0 if self._is_told_guidance else run.guidance_scale
        shares, scale = two_guidances(shares, by_text, by_image)
        noise = noise * np.float32(run.table.initial_scale)
        run = run._replace(guidance_scale=scale)
        height, width = asked.size
        return self._generate(noise, branches, shares, run)[:, :height, :width]

    @takes_options
    def upscale(
        self,
        image,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        noise_level: int = 20,
        options: Options,
    ) -> np.ndarray:
        """The picture four times as high and wide: for the x4 upscaler.

        The U-Net sees the small picture, with some noise, beside latents of its size.
        A large result is decoded in tiles, see `tiling` of `StableDiffusion`.

        Args:
            image: As in `image_to_image`; of any size.
            prompt: What is in it; `""` will do.
            noise_level: How much noise the small picture is given, from 0 to 350: more
                leaves more to the model. Drawn from the seeds.

        The other arguments are those of `text_to_image`.

        Returns:
            uint8 array of shape `(pictures, 4 * height, 4 * width, 3)`.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If a value is out of its range, or the model is no upscaler.

        Example:

        ```python
        model = StableDiffusion.from_preset("sd2-upscaler")
        pictures = model.upscale("small.png", "a cat on a sofa")
        ```

        Reference:
            Ho et al. 2022, "Cascaded Diffusion Models for High Fidelity Image
            Generation", section 4; Stability-AI/stablediffusion
            `ldm/models/diffusion/ddpm.py`, `LatentUpscaleDiffusion`.
        """
        self._check_sees("upscale", "a small picture and its noise level", 3)
        most = min(NOISE_LEVELS, self.config.diffusion_model.noise_levels) - 1
        level = check_noise_level(noise_level, most)
        given = image, prompt, negative_prompt, batch_size, options
        asked = self._asked("upscale", *given)
        settings = num_steps, unconditional_guidance_scale, seed, asked.options
        size = tuple(4 * side for side in asked.size)
        run = self._prepare(asked.count, *settings, size=size)
        small = asked.for_each(to_unit(asked.pictures))
        run = run._replace(ahead=small.shape[1:])
        fresh = picture_noise(run.seeds, run.ahead, run.options.rng)
        schedule = self.config.low_res_schedule or UPSCALER.low_res_schedule
        kept = Schedule(schedule).alphas_cumprod[level]
        small = np.float32(kept**0.5) * small + np.float32((1.0 - kept) ** 0.5) * fresh
        beside = {"concat": small, "noise_level": np.full(asked.count, level, "int32")}
        channels = self.config.autoencoder.latent_channels
        noise = self._noise(run, (*asked.size, channels))
        branches, shares, run = self._branches(asked.prompts, asked.negatives, run)
        branches = [branch | beside for branch in branches]
        noise = noise * np.float32(run.table.initial_scale)
        return self._generate(noise, branches, shares, run)

    def _check_sees(self, task: str, what: str, channels: int) -> None:
        """That the U-Net takes what a task gives it beside latents."""
        network, latents = (
            self.config.diffusion_model,
            self.config.autoencoder.latent_channels,
        )
        is_upscaler = network.noise_levels > 0
        if network.in_channels != latents + channels or is_upscaler != (
            task == "upscale"
        ):
            kind = ", an upscaler" if is_upscaler else ""
            raise ValueError(
                f"`{task}` gives the U-Net {what} beside latents: it must take "
                f"{latents + channels} channels"
                f"{' and noise levels' if task == 'upscale' else ''}. "
                f"Received: a U-Net of {network.in_channels} channels{kind}"
            )


def two_guidances(
    shares: np.ndarray, by_text: float, by_image: float
) -> tuple[np.ndarray, float]:
    """Two guidance scales as shares of branches under one scale.

    The branches are: nothing; the picture; the picture and a text, one or more. The
    prediction is `nothing + by_image * (picture - nothing) + by_text * sum_i shares[i]
    * (text_i - picture)`.

    Args:
        shares: Of the texts, float32 of shape `(texts, pictures)`.
        by_text: The text's guidance scale.
        by_image: The picture's.

    Returns:
        The shares of all branches but the first, and the scale, as `denoiser` takes
        them.

    Example:

    >>> print(two_guidances(np.ones((1, 1)), 7.5, 1.5)[0])
    [[-0.8]
     [ 1. ]]

    Reference:
        Brooks et al. 2023, equation 3.
    """
    scale = by_text or 1.0
    shares = np.asarray(shares, "float64") * (by_text / scale)
    of_image = by_image / scale - shares.sum(axis=0, keepdims=True)
    return np.concatenate([of_image, shares]).astype("float32"), scale


def check_noise_level(level, most: int) -> int:
    """A whole number from 0 to `most`."""
    if isinstance(level, bool) or not isinstance(level, numbers.Integral):
        raise TypeError(f"`noise_level` must be a whole number. Received: {level!r}")
    if not 0 <= level <= most:
        raise ValueError(f"`noise_level` must be from 0 to {most}. Received: {level}")
    return int(level)
