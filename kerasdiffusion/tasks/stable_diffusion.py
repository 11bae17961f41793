"""StableDiffusion: the Keras model; its tasks prepare what `_generate` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kerasdiffusion.networks.control import Checked, check_controls, told
from kerasdiffusion.networks.room import check_room_of
from kerasdiffusion.prompts.branches import Ready
from kerasdiffusion.requests.arguments import (
    check_context,
    check_count,
    check_guidance_scale,
    check_noise,
    check_pooled,
    check_prompts,
    check_share,
    check_text_is_enough,
)
from kerasdiffusion.requests.cheaper_steps import (
    cheaper_methods,
    deep_cache,
    kept_features,
    whole_steps,
)
from kerasdiffusion.requests.guidance import (
    check_layers,
    guidance_methods,
    self_attentions,
    within_interval,
    without_guidance,
)
from kerasdiffusion.requests.options import Options, check_keywords, takes_options
from kerasdiffusion.sampling.denoiser import copies_of, empty_memory
from kerasdiffusion.sampling.driver import drive
from kerasdiffusion.sampling.loop import Known
from kerasdiffusion.sampling.noise import (
    check_rng,
    initial_noise,
    program_of,
    resolve_seeds,
    table_noise,
)
from kerasdiffusion.sampling.samplers import make_table, usual_spacing
from kerasdiffusion.sampling.table import Table
from kerasdiffusion.tasks.conditioned_tasks import ConditionedTasks
from kerasdiffusion.tasks.inpainting import Inpainting
from kerasdiffusion.tasks.refining import refine
from kerasdiffusion.tasks.walks import Between, Walks
from kerasdiffusion.weights.load import Source


class Run(NamedTuple):
    """How the pictures of one call are made, whatever the task.

    `before` is the part of the schedule that another model has walked, `known` the
    `loop.Known` of pictures that stay in part, `controls` the pictures that are
    followed. In a walk the seeds are those of its noises, and `between` makes those of
    the pictures. `ahead` is the shape of noise that the seeds give ahead of the
    latents'.
    """

    table: Table
    seeds: list[int]
    guidance_scale: float
    methods: dict
    options: Options
    variation_seeds: list[int] | None = None
    before: Table | None = None
    known: Known | tuple = ()
    controls: tuple[Checked, ...] = ()
    between: Between | None = None
    ahead: tuple[int, ...] = ()


class StableDiffusion(Inpainting, ConditionedTasks, Walks):
    """Text in, pictures out: Stable Diffusion as a Keras model.

    The constructor is KerasCV's and makes Stable Diffusion 1.4, `from_preset` any other
    model. Nothing is fetched or built before it is used.

    Args:
        img_height: Height of the pictures in pixels, a multiple of 8.
        img_width: Width of the pictures in pixels, a multiple of 8.
        jit_compile: Whether to compile by XLA; `"auto"` does on GPUs and TPUs.
            `"openvino"` compiles by OpenVINO, on CPUs and the TensorFlow backend; it
            has a copy of the weights, and compiles anew where they have changed.
        precision: Dtype policy of the networks, one of `backend.PRECISIONS`. `"auto"`
            takes the global policy where one was set, else half precision on a GPU
            or TPU, bfloat16 on a CPU with AMX (TensorFlow, PyTorch) and float32 on
            others.
        config: What the model is made of, a `ModelConfig`; by default what `weights`
            says, or Stable Diffusion 1.
        weights: Where the weights are, as in `from_preset`; `None` begins with random
            ones.
        vae: Where another autoencoder comes from: a folder, a file or a dict of files
            by part; a tiny one (TAESD) too. `weights` may lack parts that are given.
        text_encoder: The same for the (first) text encoder.
        text_encoder_2: The same for SDXL's second one.
        unet: The same for the U-Net: a distilled one (Lightning, Hyper-SD) in SDXL.
        strict: Whether tensors that no network has are an error, or left out.
        prediction_type: `"epsilon"`, `"v_prediction"` or `"sample"`, where the weights
            do not say: a single file of Stable Diffusion 2 is taken to predict v
            unless its name has `base`, `512` or `turbo` in it. Try the other for noise.
        zero_terminal_snr: Whether the last training step is noise alone, likewise.
        tokenizer: A `Tokenizer`; by default that of the weights, or CLIP's.
        tiling: Whether the autoencoder takes pictures in overlapping tiles, which needs
            less memory and some five times as long: `True`, `False`, or the side of a
            tile in pixels, 192 by default. `"auto"` does for more pixels than
            1536 x 1536 have. Tiles share the whole picture's statistics and see beyond
            their edges: the result is the untiled one's, to rounding. A tiny
            autoencoder never does.
        low_memory: Whether the text encoder, the U-Net and the autoencoder's halves
            are in memory one at a time: each is read when a picture needs it, every
            time, and given up after. The pictures are the same. A part that you take
            from the model (`model.diffusion_model`), train or save stays, with all
            that it learns.

    Raises:
        ValueError: If the size is no multiple of 8, or an option is none of those.

    Example:

    >>> model = StableDiffusion.from_preset("emoji")
    >>> pictures = model.text_to_image("a red apple on a blue background", seed=1)
    >>> pictures.shape, pictures.dtype
    ((1, 128, 128, 3), dtype('uint8'))

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
            TypeError: If the constructor takes no such argument.
            WeightsError: If the source is no model, or cannot be read.
        """
        check_keywords(cls, overrides)
        model = cls(weights=source, **overrides)
        if not model.low_memory:
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
        (4, 128, 128, 3)
        """
        prompts = check_prompts(prompt, width=self.config.text_width)
        batch_size = check_count(batch_size, "batch_size")
        negatives = self._negatives(negative_prompt, len(prompts), options)
        self._need_pooled(prompts, "prompt")
        prompts = self._texts(prompts, options.prompt_2, "prompt_2")
        run = self._prepare(
            len(prompts) * batch_size,
            num_steps,
            unconditional_guidance_scale,
            seed,
            options,
        )
        prompts = [each for each in prompts for _ in range(batch_size)]
        return self._paint(prompts, negatives, None, run)

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
            pooled_text: What `encode_pooled` gave, for a model that takes it.

        The other arguments, the result and the errors are those of `text_to_image`.
        """
        batch_size = check_count(batch_size, "batch_size")
        encoded = check_context(encoded_text, self.config.text_width, batch_size)
        negatives = self._negatives(negative_prompt, len(encoded), options)
        self._texts([], options.prompt_2, "prompt_2")
        pooled = [None] * len(encoded)
        if self.config.diffusion_model.vector_width:
            width = self.config.text_encoders[-1].projection_width
            pooled = check_pooled(pooled_text, len(encoded), width)
        run = self._prepare(
            len(encoded),
            num_steps,
            unconditional_guidance_scale,
            seed,
            options,
        )
        prompts = list(map(Ready, encoded, pooled))
        return self._paint(prompts, negatives, diffusion_noise, run)

    def _prepare(
        self, count, num_steps, guidance_scale, seed, options, first_step=0, size=None
    ) -> Run:
        """The options of all tasks, the preset's where they are not given, checked.

        `size` is the results' height and width, where it is not the model's own.
        """
        check_room_of(self, count, size)
        self._check_prompting(options.clip_skip, options.prompt_weighting)
        defaults = self.config.generation
        if guidance_scale is None:
            guidance_scale = defaults.guidance_scale
        sampler = defaults.sampler if options.sampler is None else options.sampler
        spacing, timesteps = options.spacing, options.timesteps
        if num_steps is spacing is options.sigmas is None:
            timesteps = timesteps or defaults.timesteps or None
        if timesteps is None and options.sigmas is None:
            num_steps = defaults.num_steps if num_steps is None else num_steps
            if spacing is None:
                spacing = usual_spacing(sampler, defaults.spacing)
        table = make_table(
            self.config.schedule,
            sampler,
            num_steps,
            timesteps=timesteps,
            sigmas=options.sigmas,
            spacing=spacing,
            eta=options.eta,
            s_churn=options.s_churn,
            s_noise=options.s_noise,
            first_step=first_step,
            program=program_of(check_rng(options.rng)),
        )
        strength = check_share(options.variation_strength, "variation_strength")
        variations = None
        if strength > 0.0:
            variations = resolve_seeds(options.variation_seed, count)
            if not isinstance(seed, Sequence | np.ndarray):
                seed = resolve_seeds(seed, 1) * count
        size = size or (self.img_height, self.img_width)
        controls = check_controls(options.control, self.config, count, size)
        cheaper = cheaper_methods(options, self.config.diffusion_model)
        methods = guidance_methods(options) | cheaper
        run = Run(
            within_interval(table, options),
            resolve_seeds(seed, count),
            check_guidance_scale(guidance_scale),
            methods,
            options,
            variations,
            controls=controls,
        )
        if {"pag", "sag"} & set(run.methods):
            check_layers(run.methods, self_attentions(self.config.diffusion_model))
        return run

    def _paint(self, prompts, negatives, noise, run: Run) -> np.ndarray:
        """Pictures of prompts from noise alone: the caller's or the seeds'."""
        check_text_is_enough(self.config)
        shape = self.latent_shape
        if noise is None:
            noise = self._noise(run, shape)
        else:
            noise = check_noise(noise, len(prompts), shape)
        if run.options.refiner is not None:
            return refine(self, run, prompts, negatives, noise)
        branches, shares, run = self._branches(prompts, negatives, run)
        noise = noise * np.float32(run.table.initial_scale)
        return self._generate(noise, branches, shares, run)

    def _noise(self, run: Run, shape) -> np.ndarray:
        """The noise that the pictures of a run begin with."""
        noise = initial_noise(
            run.seeds,
            shape,
            run.options.rng,
            run.variation_seeds,
            run.options.variation_strength,
            run.ahead,
        )
        return noise if run.between is None else run.between.noise(noise)

    def _generate(self, latents, branches, shares, run: Run) -> np.ndarray:
        """Noisy latents through the sampler's table and the decoder.

        The branches and their shares are those of `denoiser`.
        """
        return self._pictures(self._walk(latents, branches, shares, run))

    def _walk(self, latents, branches, shares, run: Run) -> np.ndarray:
        """Noisy latents through the sampler's table."""
        followers = tuple(map(self._control_networks.get, run.controls))
        denoise, table = self.program("denoise", followers), run.table
        controls = told(run.controls, table)
        # A network that takes the scale has guided already.
        scale = 1.0 if self._is_told_guidance else run.guidance_scale
        scale, shape = np.float32(scale), latents.shape[1:]
        fresh = table_noise(
            table, run.seeds, shape, run.options.rng, run.before, run.ahead
        )
        if run.between is not None:
            fresh = np.moveaxis(run.between.noise(np.moveaxis(fresh, 1, 0)), 0, 1)
        if table.opening_noise > 0.0:
            latents = latents + np.float32(table.opening_noise) * fresh[0]
            fresh = fresh[1:]
        unguided = without_guidance(table, branches, shares, run.methods)
        if "deep_cache" in run.methods:
            table = whole_steps(table, deep_cache(run.options)[0], unguided)

        unet, dtype = self.config.diffusion_model, self.compute_dtype

        def memory(alone):
            copies = copies_of(len(branches) - alone, run.methods)
            kept = kept_features(unet, run.methods, latents.shape, copies, dtype)
            return empty_memory(run.methods, latents, kept)

        empty = {alone: memory(alone) for alone in set(unguided)}

        def walk(alone, carry, *state):
            seen, room = branches[1:] if alone else branches, empty[alone]
            if room and room[-1].shape != carry.memory[-1].shape:
                carry = carry._replace(memory=room)
            return denoise(
                seen, scale, shares, run.methods, controls, carry, *state, run.known
            )

        return drive(
            walk,
            latents,
            table,
            fresh,
            run.options.callback,
            run.options.progress_bar,
            empty[unguided[0]],
            unguided,
        )

    def _pictures(self, latents) -> np.ndarray:
        """Clean latents through the decoder."""
        return self.decode_all(latents)
