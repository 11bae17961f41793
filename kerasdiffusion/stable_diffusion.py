"""StableDiffusion: the Keras model and its tasks.

A task prepares what the one private `_generate` takes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kerasdiffusion import backend
from kerasdiffusion.arguments import (
    check_context,
    check_count,
    check_guidance_scale,
    check_negatives,
    check_noise,
    check_pooled,
    check_prompts,
    check_second,
)
from kerasdiffusion.conditioning import (
    embed_guidance,
    join_vector,
    size_ids,
)
from kerasdiffusion.latent_diffusion import LatentDiffusion
from kerasdiffusion.options import Options, takes_options
from kerasdiffusion.refining import refine
from kerasdiffusion.sampling.driver import drive
from kerasdiffusion.sampling.noise import initial_noise, resolve_seeds, step_noise
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import Table
from kerasdiffusion.weights.load import Source


class Run(NamedTuple):
    """How the pictures of one call are made, whatever the task.

    `drawn` is how many noises of the seeds another model has used before.
    """

    table: Table
    seeds: list[int]
    guidance_scale: float
    options: Options
    drawn: int = 0


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
        vae: Where another autoencoder comes from: a folder, a file or a dict of files
            by part; a tiny one (TAESD) too.
        text_encoder: The same for the (first) text encoder.
        prediction_type: `"epsilon"`, `"v_prediction"` or `"sample"`, where it is not
            what the weights say: a single file of Stable Diffusion 2 does not, and is
            taken to predict v.
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
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        options: Options,
    ) -> np.ndarray:
        """Pictures of a prompt.

        Args:
            prompt: What to paint; a list gives `batch_size` pictures of each.
            negative_prompt: What to keep away from: one for all prompts, or one each.
            batch_size: Pictures of each prompt, 1 or more.
            num_steps: Denoising steps, from 1 to 1000; the preset's by default.
            unconditional_guidance_scale: How strongly the prompt guides; 1 is not at
                all and takes half the time. The preset's by default.
            seed: Seed of the first picture, from 0 to 2**64 - 1; the next have the
                next. Or a list of one for each picture; by default random.
            options: The keywords of `Options`: `sampler`, `spacing`, `eta`,
                `callback`, `progress_bar`.

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
        prompts = check_prompts(prompt)
        batch_size = check_count(batch_size, "batch_size")
        negatives = self._negatives(negative_prompt, len(prompts), options)
        count = len(prompts) * batch_size
        run = self._prepare(
            count, num_steps, unconditional_guidance_scale, seed, options
        )
        if options.refiner is not None:
            return refine(self, run, prompts, negatives)
        texts = self._encode_texts(prompts, options.prompt_2, count)
        return self._paint(texts, negatives, None, run)

    def encode_text(self, prompt: str | Sequence[str]) -> np.ndarray:
        """Context vectors of prompts, the first half of `text_to_image`.

        Args:
            prompt: A string, or a list of them.

        Returns:
            float32 array of shape `(prompts, tokens, width)`, for `generate_image`.
        """
        prompts = check_prompts(prompt)
        return self._encode_texts(prompts, None, len(prompts))["crossattn"]

    def _encode_texts(self, prompts, prompts_2, count: int) -> dict[str, np.ndarray]:
        """Context, and pooled text where there is such, of each of `count` pictures.

        `None` for a prompt is vectors of zeros.
        """
        texts = ["" if prompt is None else prompt for prompt in prompts]
        tokens = [self.tokenizer(texts)]
        if self.tokenizer_2 is not None:
            if prompts_2 is not None:
                texts = check_second(prompts_2, len(prompts))
            tokens.append(self.tokenizer_2(texts))
        elif prompts_2 is not None:
            raise ValueError(
                "The model has one text encoder and takes no second prompt. "
                f"Received: {prompts_2!r}"
            )
        encode = self.program("encode")
        # One at a time: any number of prompts is the same program.
        found = []
        for prompt, *rows in zip(prompts, *tokens, strict=True):
            outputs = encode(*(row[None] for row in rows))
            outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
            outputs = [backend.to_numpy(output) for output in outputs]
            found.append([x * (prompt is not None) for x in outputs])
        keys = ("crossattn", "pooled")[: len(found[0])]
        return {
            key: np.repeat(np.concatenate(values), count // len(prompts), axis=0)
            for key, values in zip(keys, zip(*found, strict=True), strict=True)
        }

    @takes_options
    def generate_image(
        self,
        encoded_text,
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        diffusion_noise=None,
        seed: int | Sequence[int] | None = None,
        *,
        pooled_text=None,
        options: Options,
    ) -> np.ndarray:
        """Pictures of encoded prompts, the second half of `text_to_image`.

        Args:
            encoded_text: What `encode_text` gave, of shape `(tokens, width)` or
                `(prompts, tokens, width)`.
            batch_size: Pictures of one prompt; with several prompts, as many or 1.
            diffusion_noise: Noise to begin with instead of the seed's: unit normal, of
                shape `(height / 8, width / 8, 4)`, or with a batch before it.
            pooled_text: The pooled text of `encode_pooled`, for a model that takes it.

        The other arguments, the result and the errors are those of `text_to_image`.
        """
        encoded = check_context(
            encoded_text,
            self.config.text_width,
            check_count(batch_size, "batch_size"),
        )
        negatives = self._negatives(negative_prompt, len(encoded), options)
        run = self._prepare(
            len(encoded),
            num_steps,
            unconditional_guidance_scale,
            seed,
            options,
        )
        texts = {"crossattn": encoded}
        if self.config.diffusion_model.vector_width:
            width = self.config.text_encoders[-1].projection_width
            texts["pooled"] = check_pooled(pooled_text, len(encoded), width)
        return self._paint(texts, negatives, diffusion_noise, run)

    def encode_pooled(self, prompt: str | Sequence[str]) -> np.ndarray:
        """Pooled text of prompts, for `generate_image` with SDXL.

        Args:
            prompt: A string, or a list of them.

        Returns:
            float32 array of shape `(prompts, width)`.

        Raises:
            ValueError: If the model takes no pooled text.
        """
        prompts = check_prompts(prompt)
        texts = self._encode_texts(prompts, None, len(prompts))
        if "pooled" not in texts:
            raise ValueError(
                "Pooled text is what SDXL and models of its layout take. "
                f"Received: a model of {self.config.diffusion_model}"
            )
        return texts["pooled"]

    def _prepare(
        self, count, num_steps, guidance_scale, seed, options, first_step=0
    ) -> Run:
        """The options of all tasks, the preset's where they are not given, checked."""
        defaults = self.config.generation
        if guidance_scale is None:
            guidance_scale = defaults.guidance_scale
        spacing = options.spacing
        if spacing is None and options.sampler is None:
            spacing = defaults.spacing
        table = make_table(
            self.config.schedule,
            defaults.sampler if options.sampler is None else options.sampler,
            defaults.num_steps if num_steps is None else num_steps,
            spacing=spacing,
            eta=options.eta,
            first_step=first_step,
        )
        return Run(
            table,
            resolve_seeds(seed, count),
            check_guidance_scale(guidance_scale),
            options,
        )

    def _negatives(self, negative_prompt, count: int, options) -> list[str | None]:
        """The negative prompts; `None` for one that is vectors of zeros."""
        none = negative_prompt is None and options.negative_prompt_2 is None
        if none and self.config.generation.zero_negative:
            return [None]
        return check_negatives(negative_prompt, count)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one picture's latents."""
        latents = self.config.autoencoder
        return (
            self.img_height // latents.downsampling,
            self.img_width // latents.downsampling,
            latents.latent_channels,
        )

    def _paint(self, texts, negatives, noise, run: Run) -> np.ndarray:
        """Pictures of encoded prompts from noise alone: the caller's or the seeds'."""
        shape = self.latent_shape
        if noise is None:
            noise = initial_noise(run.seeds, shape)
        noise = check_noise(noise, len(run.seeds), shape)
        branches, shares = self._branches(texts, negatives, run)
        noise = noise * np.float32(run.table.initial_scale)
        return self._generate(noise, branches, shares, run)

    def _branches(self, texts, negatives, run: Run):
        """The branches of the denoiser and their shares: guided away from negatives."""
        branches, count = [self._branch(texts, run)], len(run.seeds)
        is_told = self.config.diffusion_model.guidance_width > 0
        if run.guidance_scale != 1.0 and not is_told:
            negative = self._encode_texts(
                negatives, run.options.negative_prompt_2, count
            )
            found, expected = texts["crossattn"].shape, negative["crossattn"].shape
            if found != expected:
                raise ValueError(
                    f"`encoded_text` must have {expected[1]} tokens, as negative "
                    f"prompts have. Received: {found}"
                )
            branches.insert(0, self._branch(negative, run, negative=True))
        return branches, np.ones((len(branches) - 1, count), "float32")

    def _branch(self, texts, run: Run, negative: bool = False) -> dict:
        """What the network is told of the texts, the sizes and the guidance."""
        network = self.config.diffusion_model
        branch = {"crossattn": texts["crossattn"][None]}
        if network.vector_width:
            size = self.img_height, self.img_width
            ids = size_ids(self.config, run.options, size, negative)
            ids = np.tile(np.float32(ids), (len(run.seeds), 1))
            vector = join_vector(texts["pooled"], ids, network.vector_id_width)
            branch["vector"] = vector[None]
        if network.guidance_width:
            scales = [run.guidance_scale] * len(run.seeds)
            branch["guidance"] = embed_guidance(scales, network.guidance_width)
        return branch

    def _generate(self, latents, branches, shares, run: Run) -> np.ndarray:
        """Noisy latents through the sampler's table and the decoder.

        The branches and their shares are those of `denoiser`.
        """
        return self._pictures(self._walk(latents, branches, shares, run))

    def _walk(self, latents, branches, shares, run: Run) -> np.ndarray:
        """Noisy latents through the sampler's table."""
        denoise, scale = self.program("denoise"), np.float32(run.guidance_scale)
        draws = run.drawn + len(run.table.noise_rows)
        return drive(
            lambda *state: denoise(branches, scale, shares, *state),
            latents,
            run.table,
            step_noise(run.seeds, draws, latents.shape[1:])[run.drawn :],
            run.options.callback,
            run.options.progress_bar,
        )

    def _pictures(self, latents) -> np.ndarray:
        """Clean latents through the decoder."""
        decode = self.program("decode")
        # One at a time: the decoder's activations are the largest of the run.
        return np.concatenate([backend.to_numpy(decode(x[None])) for x in latents])
