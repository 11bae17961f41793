"""StableDiffusion: the Keras model and its tasks.

A task prepares what the one private `_generate` takes, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kerasdiffusion import backend
from kerasdiffusion.arguments import (
    check_clip_skip,
    check_context,
    check_count,
    check_guidance_scale,
    check_negatives,
    check_noise,
    check_prompt_weighting,
    check_prompts,
    check_share,
)
from kerasdiffusion.guidance_arguments import (
    check_layers,
    guidance_methods,
    within_interval,
)
from kerasdiffusion.latent_diffusion import LatentDiffusion
from kerasdiffusion.options import Options, takes_options
from kerasdiffusion.prompts import encode
from kerasdiffusion.prompts.branches import make_branches, one_text
from kerasdiffusion.prompts.chunks import LearnedWords
from kerasdiffusion.sampling.denoiser import empty_memory
from kerasdiffusion.sampling.driver import drive
from kerasdiffusion.sampling.noise import (
    check_rng,
    initial_noise,
    resolve_seeds,
    step_noise,
)
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import COLUMNS, Table
from kerasdiffusion.weights.embeddings import read_embeddings
from kerasdiffusion.weights.load import Source


class Run(NamedTuple):
    """How the pictures of one call are made, whatever the task."""

    table: Table
    seeds: list[int]
    guidance_scale: float
    methods: dict
    options: Options
    variation_seeds: list[int] | None = None


class StableDiffusion(LatentDiffusion):
    """Text in, pictures out: Stable Diffusion as a Keras model.

    The constructor is KerasCV's, and makes Stable Diffusion 1.4; `from_preset` makes
    any other model. Nothing is fetched or built before it is used.

    Args:
        img_height: Height of the pictures in pixels, a multiple of 8.
        img_width: Width of the pictures in pixels, a multiple of 8.
        jit_compile: Whether to compile by XLA; `"auto"` does on GPUs and TPUs.
        precision: Dtype policy of the networks, one of `backend.PRECISIONS`. `"auto"`
            takes the global policy where one was set, else float32 on a CPU and half
            precision on a GPU or TPU.
        config: What the model is made of, a `ModelConfig`; by default what `weights`
            says, or Stable Diffusion 1.
        weights: Where the weights are, as in `from_preset`; `None` begins with random
            ones.
        tokenizer: A `Tokenizer`; by default that of the weights, or CLIP's.

    Raises:
        ValueError: If the size is no multiple of 8, or an option is none of those.

    Example:

    >>> model = StableDiffusion.from_preset("emoji")
    >>> pictures = model.text_to_image("a red apple on a blue background", seed=1)
    >>> pictures.shape, pictures.dtype
    ((1, 64, 64, 3), dtype('uint8'))

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
        Models".
    """

    @classmethod
    def from_preset(cls, source: Source, **overrides) -> StableDiffusion:
        """A model by name, from the hub, a folder or a file; its weights are read.

        Args:
            source: A name in `PRESETS` (`"emoji"` is in the package); `hf://owner/name`;
                a folder in diffusers' layout or with KerasCV's files; a file
                (`.safetensors`, `.ckpt`); or a dict from part to file.
            **overrides: Arguments of the constructor.

        Returns:
            A `StableDiffusion`.

        Raises:
            WeightsError: If the source is no model, or cannot be read.
        """
        model = cls(weights=source, **overrides)
        model.build()
        return model

    @takes_options
    def text_to_image(
        self,
        prompt: str | Sequence[str] | np.ndarray,
        negative_prompt: str | Sequence[str] | np.ndarray | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        options: Options,
    ) -> np.ndarray:
        """Pictures of a prompt.

        Args:
            prompt: What to paint; a list gives `batch_size` pictures of each. Weights,
                editing and `AND` are read as `kerasdiffusion.prompts` says; a text
                without brackets, colons, backslashes, `AND` and `BREAK` is just text,
                of any length. Or what `encode_text` gives.
            negative_prompt: What to keep away from: one for all prompts, or one each.
            batch_size: Pictures of each prompt, 1 or more.
            num_steps: Denoising steps, from 1 to 1000; the preset's by default.
            unconditional_guidance_scale: How strongly the prompt guides; 1 is not at
                all and takes half the time. The preset's by default.
            seed: Seed of the first picture, from 0 to 2**64 - 1; the next have the
                next. Or a list of one for each picture; by default random.
            options: The keywords of `Options`.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Raises:
            TypeError: If a prompt is no string, a number no number, or there is no such
                option.
            ValueError: If a value is out of its range.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.text_to_image(["a cat", "a dog"], batch_size=2, seed=0).shape
        (4, 64, 64, 3)
        """
        width = self.config.text_encoder.width
        prompts = check_prompts(prompt, width=width)
        batch_size = check_count(batch_size, "batch_size")
        negatives = check_negatives(negative_prompt, len(prompts), width)
        run = self._prepare(
            len(prompts) * batch_size,
            num_steps,
            unconditional_guidance_scale,
            seed,
            options,
        )
        prompts = [each for each in prompts for _ in range(batch_size)]
        return self._paint(prompts, negatives, None, run)

    def encode_text(
        self,
        prompt: str | Sequence[str],
        *,
        clip_skip: int | None = None,
        prompt_weighting: str = "a1111",
    ) -> np.ndarray:
        """Context vectors of prompts, the first half of `text_to_image`.

        Args:
            prompt: A string, or a list of them, without editing and `AND`.
            clip_skip: As in `Options`.
            prompt_weighting: As in `Options`.

        Returns:
            float32 array of shape `(prompts, tokens, width)`, for `generate_image`.
            Prompts of more than one chunk have a multiple of the tokens.

        Raises:
            TypeError: If a prompt is no string.
            ValueError: If an option is out of its range, or a prompt says more than
                one thing on the way.
        """
        prompts = check_prompts(prompt)
        encoders = self._encoders(clip_skip, prompt_weighting)
        if prompt_weighting != "none":
            prompts = [one_text(each) for each in prompts]
        contexts = [encode.encode(encoders, [[each]])[0] for each in prompts]
        padded = encode.same_length(contexts, lambda: encode.empty(encoders))
        return np.concatenate(padded)

    def load_embedding(
        self, path: str | os.PathLike, name: str | None = None
    ) -> list[str]:
        """Learns words from a file of textual inversion; prompts may then name them.

        Args:
            path: A file of A1111's (`.pt`, `.safetensors`) or diffusers' (`.bin`,
                `.safetensors`).
            name: What prompts call it; by default what a diffusers file says, else the
                file's name without its ending, as in A1111.

        Returns:
            The names that prompts may use now.

        Raises:
            WeightsError: If the file holds no vectors of the text encoder's width.

        Reference:
            Gal et al. 2023, "An Image is Worth One Word: Personalizing Text-to-Image
            Generation using Textual Inversion".
        """
        config = self.config.text_encoder
        found = read_embeddings(path, config.width, name)
        if self._learned is None:
            self._learned = LearnedWords(config.vocabulary_size)
        self._learned.vectors.update(found)
        return list(found)

    def _encoders(self, clip_skip, weighting) -> list[encode.Encoder]:
        """The text encoder as prompts see it, checked before it is built."""
        how = {}
        depth = self.config.text_encoder.depth
        clip_skip = check_clip_skip(clip_skip, depth)
        check_prompt_weighting(weighting)
        if clip_skip is not None:
            how["layers"] = np.int32(depth + 1 - clip_skip)
        if self._learned is not None:
            how["vectors"] = self._learned.table()

        def run(tokens, seen):
            more = {} if seen is None else {"seen": seen}
            return backend.to_numpy(self.program("encode")(tokens, {**how, **more}))

        return [encode.Encoder(self.tokenizer, run, weighting, self._learned)]

    @takes_options
    def generate_image(
        self,
        encoded_text,
        negative_prompt: str | Sequence[str] | np.ndarray | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        diffusion_noise=None,
        seed: int | Sequence[int] | None = None,
        *,
        options: Options,
    ) -> np.ndarray:
        """Pictures of encoded prompts, the second half of `text_to_image`.

        Args:
            encoded_text: What `encode_text` gave, of shape `(tokens, width)` or
                `(prompts, tokens, width)`.
            batch_size: Pictures of one prompt; with several prompts, as many or 1.
            diffusion_noise: Noise to begin with instead of the seed's: unit normal, of
                shape `(height / 8, width / 8, 4)`, or with a batch before it.

        The other arguments, the result and the errors are those of `text_to_image`.
        """
        width = self.config.text_encoder.width
        batch_size = check_count(batch_size, "batch_size")
        encoded = check_context(encoded_text, width, batch_size)
        negatives = check_negatives(negative_prompt, len(encoded), width)
        run = self._prepare(
            len(encoded),
            num_steps,
            unconditional_guidance_scale,
            seed,
            options,
        )
        return self._paint(list(encoded), negatives, diffusion_noise, run)

    def _prepare(self, count, num_steps, guidance_scale, seed, options) -> Run:
        """The options of all tasks, the preset's where they are not given, checked."""
        check_prompt_weighting(options.prompt_weighting)
        check_clip_skip(options.clip_skip, self.config.text_encoder.depth)
        defaults = self.config.generation
        if guidance_scale is None:
            guidance_scale = defaults.guidance_scale
        if num_steps is None and options.timesteps is None and options.sigmas is None:
            num_steps = defaults.num_steps
        table = make_table(
            self.config.schedule,
            defaults.sampler if options.sampler is None else options.sampler,
            num_steps,
            timesteps=options.timesteps,
            sigmas=options.sigmas,
            spacing=options.spacing,
            eta=options.eta,
            s_churn=options.s_churn,
            s_noise=options.s_noise,
        )
        check_rng(options.rng)
        strength = check_share(options.variation_strength, "variation_strength")
        variations = None
        if strength > 0.0:
            variations = resolve_seeds(options.variation_seed, count)
            if not isinstance(seed, Sequence | np.ndarray):
                seed = resolve_seeds(seed, 1) * count
        run = Run(
            within_interval(table, options),
            resolve_seeds(seed, count),
            check_guidance_scale(guidance_scale),
            guidance_methods(options),
            options,
            variations,
        )
        if {"pag", "sag"} & set(run.methods):
            check_layers(run.methods, self.diffusion_model.self_attentions())
        return run

    def _paint(self, prompts, negatives, noise, run: Run) -> np.ndarray:
        """Pictures of prompts from noise alone: the caller's or the seeds'."""
        count, latents = len(prompts), self.config.autoencoder
        shape = (
            self.img_height // latents.downsampling,
            self.img_width // latents.downsampling,
            latents.latent_channels,
        )
        if noise is None:
            noise = initial_noise(
                run.seeds,
                shape,
                run.options.rng,
                run.variation_seeds,
                run.options.variation_strength,
            )
        noise = check_noise(noise, count, shape)
        branches, shares, run = self._branches(prompts, negatives, run)
        noise = noise * np.float32(run.table.initial_scale)
        return self._generate(noise, branches, shares, run)

    def _branches(self, prompts, negatives, run: Run):
        """What `denoiser` takes for prompts, and the run whose rows choose from it."""
        table, options = run.table, run.options
        encoders = self._encoders(options.clip_skip, options.prompt_weighting)
        found = make_branches(
            prompts,
            [each for each in negatives for _ in range(len(prompts) // len(negatives))],
            run.guidance_scale != 1.0,
            table.steps,
            table.num_steps,
            lambda texts: encode.encode(encoders, [texts] * len(encoders)),
            lambda: encode.empty(encoders),
            literal=options.prompt_weighting == "none",
        )
        branches = [{"crossattn": context} for context in found.contexts]
        table = table.with_column(COLUMNS.variant, found.variants)
        return branches, found.shares, run._replace(table=table)

    def _generate(self, latents, branches, shares, run: Run) -> np.ndarray:
        """Noisy latents through the sampler's table and the decoder.

        The branches and their shares are those of `denoiser`.
        """
        denoise, decode = self.program("denoise"), self.program("decode")
        scale = np.float32(run.guidance_scale)
        table, shape = run.table, latents.shape[1:]
        fresh = step_noise(run.seeds, table.noise_count, shape, run.options.rng)
        if table.opening_noise > 0.0:
            latents = latents + np.float32(table.opening_noise) * fresh[0]
            fresh = fresh[1:]
        latents = drive(
            lambda *state: denoise(branches, scale, shares, run.methods, *state),
            latents,
            table,
            fresh,
            run.options.callback,
            run.options.progress_bar,
            empty_memory(run.methods, latents),
        )
        # One at a time: the decoder's activations are the largest of the run.
        return np.concatenate([backend.to_numpy(decode(x[None])) for x in latents])
