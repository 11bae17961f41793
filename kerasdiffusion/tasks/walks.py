"""Walks: pictures on the way between prompts and between seeds."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from kerasdiffusion.networks.control import check_controls
from kerasdiffusion.networks.room import check_room_of
from kerasdiffusion.prompts.branches import Branches
from kerasdiffusion.requests.arguments import (
    check_count,
    check_prompts,
    check_text_is_enough,
)
from kerasdiffusion.requests.options import Options, takes_options
from kerasdiffusion.sampling.driver import PATIENCE
from kerasdiffusion.sampling.noise import resolve_seeds
from kerasdiffusion.tasks.image_to_image import PictureTasks
from kerasdiffusion.tasks.refining import watched

PATHS = ("linear", "spherical")


class Walks(PictureTasks):
    """What `StableDiffusion` does between prompts; it has `_prepare` and `_paint`."""

    @takes_options
    def interpolate(
        self,
        prompt: str | Sequence[str] | np.ndarray,
        negative_prompt: str | Sequence[str] | np.ndarray | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        frames: int = 24,
        closed: bool = False,
        text_path: str = "linear",
        noise_path: str = "spherical",
        options: Options,
    ) -> np.ndarray:
        """Pictures on the way from prompt to prompt, and from seed to seed.

        Prompts and seeds are spread evenly over the frames, each on their own: three
        prompts and two seeds are at the first, the middle and the last frame, and at
        the first and the last. Everything that a prompt may say goes along: editing
        and `AND`, the pooled text of SDXL, the negative prompt. The noise that samplers
        add on the way is mixed like the first.

        Args:
            prompt: What to pass, in this order: a list of prompts as `text_to_image`
                takes them, or one.
            negative_prompt: What to keep away from: one for all prompts, or one each,
                between which the walk goes too.
            batch_size: Frames that are painted at once, 1 or more. The last batch is
                filled up, so that all are of one size.
            seed: A seed for all frames, or a list of those to pass; random by default.
            frames: How many pictures, 1 or more. The first and the last prompt are a
                frame each; those between are where `frames - 1` is a multiple of the
                number of ways.
            closed: Whether the way leads back to where it began. The last frame is
                then the one before the first.
            text_path: How texts are mixed: `"linear"` or `"spherical"` (each token's
                vector along a circle).
            noise_path: How noise is mixed: `"spherical"` keeps it as strong as noise
                must be, `"linear"` does not and gives flat pictures half way.

        The other arguments are those of `text_to_image`. A callback that returns
        `False` ends the walk. A control has one picture for all frames or one for each.

        Returns:
            uint8 array of shape `(frames, height, width, 3)`, for
            `animations.save_animation`.

        Raises:
            TypeError: If an argument is not of its type.
            ValueError: If there is nowhere to walk, one prompt and one seed, or an
                argument is out of its range.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.interpolate(["a cat", "a dog"], frames=3, num_steps=2, seed=1).shape
        (3, 128, 128, 3)

        Reference:
            Song et al. 2021, "Denoising Diffusion Implicit Models", section 5.3 and
            appendix D.5 (spherical); keras.io, "A walk through latent space with Stable
            Diffusion".
        """
        seeds = _several_seeds(seed, 1)
        return self._travel(
            (prompt, negative_prompt, num_steps, unconditional_guidance_scale),
            seeds,
            options,
            (frames, batch_size),
            closed,
            (_path(text_path, "text_path"), _path(noise_path, "noise_path")),
        )

    @takes_options
    def circular_walk(
        self,
        prompt: str | Sequence[str] | np.ndarray,
        negative_prompt: str | Sequence[str] | np.ndarray | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        frames: int = 60,
        text_path: str = "linear",
        options: Options,
    ) -> np.ndarray:
        """Pictures of a prompt around a circle through noise.

        Two noises span the circle: the frame at an angle begins with the cosine of it
        times the first and the sine of it times the second. The last frame is the one
        before the first. Several prompts make a closed walk beside.

        Args:
            seed: The first noise's seed, the second has the next; or a list of both;
                random by default.

        The other arguments, the result and the errors are those of `interpolate`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.circular_walk("a cat", frames=3, num_steps=2, seed=1).shape
        (3, 128, 128, 3)

        Reference:
            keras.io, "A walk through latent space with Stable Diffusion", the circular
            walk through the noise of one prompt.
        """
        seeds = _several_seeds(seed, 2)
        if len(seeds) != 2:
            raise ValueError(
                f"Two seeds span a circle. Received: seed={seed!r}, {len(seeds)} seeds"
            )
        return self._travel(
            (prompt, negative_prompt, num_steps, unconditional_guidance_scale),
            seeds,
            options,
            (frames, batch_size),
            True,
            (_path(text_path, "text_path"), "circle"),
        )

    def _travel(self, asked, seeds, options, counts, closed, paths) -> np.ndarray:
        """The frames of a walk, a batch at a time."""
        prompt, negative_prompt, num_steps, guidance_scale = asked
        prompts = check_prompts(prompt, width=self.config.text_width)
        frames, batch_size = map(check_count, counts, ("frames", "batch_size"))
        batch_size = min(batch_size, frames)
        check_room_of(self, frames, at_once=batch_size)
        if len(prompts) == 1 and len(seeds) == 1:
            raise ValueError(
                "A walk must have two prompts or two seeds, or more, to go between. "
                f"Received: one prompt and seed={seeds[0]}"
            )
        negatives = self._negatives(negative_prompt, len(prompts), options)
        self._need_pooled(prompts, "prompt")
        prompts = self._texts(prompts, options.prompt_2, "prompt_2")
        stopped = []
        size = self.img_height, self.img_width
        controls = check_controls(options.control, self.config, frames, size)
        inner = replace(
            options,
            control=None,
            progress_bar=False,
            callback=watched(options.callback, stopped),
        )
        run = self._prepare(len(seeds), num_steps, guidance_scale, seeds, inner)
        check_text_is_enough(self.config)
        texts = positions(len(prompts), frames, closed)
        noises = positions(len(seeds), frames, closed)
        if paths[1] == "circle":
            noises = noises / 2
        between = Between(texts, noises, *paths)
        pictures = []
        with tqdm(
            total=frames, delay=PATIENCE, disable=not options.progress_bar
        ) as bar:
            for start in range(0, frames, batch_size):
                of = np.minimum(np.arange(start, start + batch_size), frames - 1)
                here = run._replace(
                    between=between.at(of),
                    controls=tuple(
                        each._replace(pictures=each.pictures[of]) for each in controls
                    ),
                )
                painted = self._paint(prompts, negatives, None, here)
                pictures.append(painted[: frames - start])
                bar.update(len(pictures[-1]))
                if stopped:
                    break
        return np.concatenate(pictures)


@dataclass(frozen=True)
class Between:
    """Where frames are between the prompts and the seeds of a walk.

    Args:
        text_at: float of shape `(frames,)`, see `mix`.
        noise_at: The same among the seeds.
        text_path: How texts are mixed.
        noise_path: How noises are.
        read: What was read of the prompts, by the reader.
    """

    text_at: np.ndarray
    noise_at: np.ndarray
    text_path: str
    noise_path: str
    read: dict = field(default_factory=dict)

    def at(self, frames: np.ndarray) -> Between:
        """The same for some of the frames."""
        return replace(
            self, text_at=self.text_at[frames], noise_at=self.noise_at[frames]
        )

    def noise(self, noises: np.ndarray) -> np.ndarray:
        """Noise of each frame, from that of each seed, `(seeds, ..., h, w, c)`."""
        return mix(noises, self.noise_at, self.noise_path, axes=(-3, -2, -1))

    def texts(self, reader: Hashable, read: Callable[[], Branches]) -> Branches:
        """What the branches say to each frame.

        Args:
            reader: What reads the prompts; each does so once.
            read: Returns the branches of the prompts.
        """
        if reader not in self.read:
            self.read[reader] = read()
        found = self.read[reader]

        def along(values, path):
            values = mix(np.moveaxis(values, 1, 0), self.text_at, path)
            return np.moveaxis(values, 0, 1)

        pooled = found.pooled
        return found._replace(
            contexts=[along(each, self.text_path) for each in found.contexts],
            pooled=pooled and [along(each, self.text_path) for each in pooled],
            shares=along(found.shares, "linear"),
        )


def positions(points: int, frames: int, closed: bool) -> np.ndarray:
    """Where each frame is among points, evenly from the first to the last.

    Args:
        points: How many there are.
        frames: How many are looked for.
        closed: Whether the way goes on from the last to the first.

    Returns:
        float64 of shape `(frames,)`: 1.25 is a quarter of the way behind point 1.

    Example:

    >>> print(positions(3, 5, False), positions(2, 4, True))
    [0.  0.5 1.  1.5 2. ] [0.  0.5 1.  1.5]
    """
    if closed:
        return np.arange(frames) * points / frames
    return np.linspace(0.0, points - 1.0, frames)


def mix(
    points: np.ndarray,
    at: np.ndarray,
    path: str = "linear",
    axes: tuple[int, ...] = (-1,),
) -> np.ndarray:
    """Points on a way through several.

    Args:
        points: float of shape `(points, ...)`. Behind the last comes the first.
        at: Where, float of shape `(frames,)`, 0 or more: 1.25 is a quarter of the way
            behind point 1. Of a circle, its share.
        path: `"linear"`; `"spherical"`, along the circle between two, each vector on
            its own; or `"circle"`, around the one that two points span.
        axes: What makes one vector.

    Returns:
        float32 of shape `(frames, ...)`.

    Example:

    >>> corners = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(mix(corners, [0.5], "linear"), mix(corners, [0.5], "spherical"))
    [[0.5 0.5]] [[0.70710677 0.70710677]]

    Reference:
        Shoemake 1985, "Animating Rotation with Quaternion Curves" (slerp).
    """
    points, at = np.asarray(points, "float64"), np.asarray(at, "float64")
    at = at.reshape(-1, *[1] * (points.ndim - 1))
    if path == "circle":
        angle = 2.0 * np.pi * at
        mixed = np.cos(angle) * points[0] + np.sin(angle) * points[1]
        return mixed.astype("float32")
    first = np.floor(at).astype(int)
    share, first = at - first, first.ravel() % len(points)
    one, other = points[first], points[(first + 1) % len(points)]
    weights = 1.0 - share, share
    if path == "spherical":
        lengths = [np.sqrt((x * x).sum(axes, keepdims=True)) for x in (one, other)]
        product = np.maximum(lengths[0] * lengths[1], 1e-30)
        cosine = (one * other).sum(axes, keepdims=True) / product
        angle = np.arccos(np.clip(cosine, -1.0, 1.0))
        sine = np.sin(angle)
        # Along one line there is no circle.
        flat = (sine < 1e-4) | (product < 1e-12)
        sine = np.where(flat, 1.0, sine)
        weights = [np.where(flat, w, np.sin(w * angle) / sine) for w in weights]
    return (weights[0] * one + weights[1] * other).astype("float32")


def _several_seeds(seed, count: int) -> list[int]:
    """The seeds in a list, or as many from one on."""
    if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str | bytes):
        count = len(seed)
        if not count:
            raise ValueError(f"`seed` must not be an empty list. Received: {seed!r}")
    return resolve_seeds(seed, count)


def _path(path, name: str) -> str:
    """One of `PATHS`."""
    if path in PATHS:
        return path
    near = difflib.get_close_matches(str(path), PATHS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"`{name}` must be one of {', '.join(PATHS)}.{hint} Received: {path!r}"
    )
