"""StableDiffusion: the Keras model and its tasks.

A task prepares what the one private `_generate` takes, and nothing else.
"""

from __future__ import annotations

import difflib
import math
import numbers
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasdiffusion import backend, images
from kerasdiffusion.config import PRESETS, ModelConfig
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.sampling.driver import Step, drive
from kerasdiffusion.sampling.noise import initial_noise, resolve_seeds, step_noise
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.tokenizer import Tokenizer
from kerasdiffusion.weights import hub, load, save

PARTS = {
    "text_encoder": (TextEncoder, "text_encoder"),
    "diffusion_model": (DiffusionModel, "diffusion_model"),
    "image_encoder": (ImageEncoder, "autoencoder"),
    "decoder": (Decoder, "autoencoder"),
}


class StableDiffusion(keras.Model):
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
        config: What the model is made of, a `ModelConfig`.
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

    def __init__(
        self,
        img_height: int | None = None,
        img_width: int | None = None,
        jit_compile: bool | str = "auto",
        *,
        precision: str = "auto",
        config: ModelConfig | None = None,
        weights: load.Source | None = "sd1.4",
        tokenizer: Tokenizer | None = None,
        name: str = "stable_diffusion",
    ):
        precision = backend.resolve_precision(precision)
        super().__init__(name=name, dtype=precision)
        weights, known = find_preset(weights)
        self.config = config or known or load.read_config(weights)
        defaults = self.config.generation
        self.img_height = defaults.height if img_height is None else img_height
        self.img_width = defaults.width if img_width is None else img_width
        images.check_size(
            self.img_height, self.img_width, self.config.autoencoder.downsampling
        )
        self.jit_compile = backend.resolve_jit_compile(jit_compile)
        self.precision = precision
        self._weights_source = weights
        self._tokenizer = tokenizer
        self._parts = {}
        self._programs = {}

    @classmethod
    def from_preset(cls, source: load.Source, **overrides) -> StableDiffusion:
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

    def build(self, input_shape=None):
        """Makes the networks and reads their weights, if that is still to do."""
        if self._parts:
            return
        empty = self._weights_source is not None
        parts = {}
        for part, (network, field) in PARTS.items():
            with backend.empty_weights(empty):
                parts[part] = network(
                    getattr(self.config, field), dtype=self.precision, name=part
                )
        if empty:
            load.load_weights(parts, self._weights_source)
        self._parts = parts
        self.built = True

    @property
    def text_encoder(self) -> TextEncoder:
        """Tokens to context."""
        self.build()
        return self._parts["text_encoder"]

    @property
    def diffusion_model(self) -> DiffusionModel:
        """Noisy latents, timestep and context to a prediction."""
        self.build()
        return self._parts["diffusion_model"]

    @property
    def image_encoder(self) -> ImageEncoder:
        """Pictures to latents."""
        self.build()
        return self._parts["image_encoder"]

    @property
    def decoder(self) -> Decoder:
        """Latents to pictures."""
        self.build()
        return self._parts["decoder"]

    @property
    def tokenizer(self) -> Tokenizer:
        """Prompts to tokens."""
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self._weights_source, self.config)
        return self._tokenizer

    def call(self, inputs):
        """The prediction for `"latents"` at `"timestep"` under a prompt's `"tokens"`."""
        context = self.text_encoder(inputs["tokens"])
        return self.diffusion_model(
            {
                "latents": inputs["latents"],
                "timestep": inputs["timestep"],
                "crossattn": context,
            }
        )

    def text_to_image(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int | None = None,
        unconditional_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        sampler: str | None = None,
        spacing: str | None = None,
        eta: float | None = None,
        callback: Callable[[Step], bool | None] | None = None,
        progress_bar: bool = True,
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
            sampler: A name in `SAMPLERS`, or what other programs call it.
            spacing: How the steps are spaced: `"leading"`, `"trailing"`, `"linspace"`,
                `"karras"` or `"exponential"`; the sampler's own by default.
            eta: Noise that is added anew, for samplers that take it.
            callback: Called with a `Step` after each step. If it returns `False`, the
                run stops there, and the picture is as noisy as it then was.
            progress_bar: Whether a run of more than some seconds shows a bar.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Raises:
            TypeError: If a prompt is no string, or a number no number.
            ValueError: If a value is out of its range.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.text_to_image(["a cat", "a dog"], batch_size=2, seed=0).shape
        (4, 64, 64, 3)
        """
        prompts = check_prompts(prompt, "prompt")
        batch_size = check_count(batch_size, "batch_size")
        options = self._options(num_steps, unconditional_guidance_scale)
        encoded = np.repeat(self.encode_text(prompts), batch_size, axis=0)
        if isinstance(negative_prompt, (list, tuple)) and batch_size > 1:
            negative_prompt = [n for n in negative_prompt for _ in range(batch_size)]
        return self.generate_image(
            encoded,
            negative_prompt=negative_prompt,
            batch_size=len(encoded),
            **options,
            seed=seed,
            sampler=sampler,
            spacing=spacing,
            eta=eta,
            callback=callback,
            progress_bar=progress_bar,
        )

    def encode_text(self, prompt: str | Sequence[str]) -> np.ndarray:
        """Context vectors of prompts, the first half of `text_to_image`.

        Args:
            prompt: A string, or a list of them.

        Returns:
            float32 array of shape `(prompts, tokens, width)`, for `generate_image`.
        """
        prompts = check_prompts(prompt, "prompt")
        encode = self._program("encode", self._encode, "text_encoder")
        tokens = self.tokenizer(prompts)
        # One at a time: any number of prompts is the same program.
        contexts = [backend.to_numpy(encode(row[None])) for row in tokens]
        return np.concatenate(contexts)

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
        sampler: str | None = None,
        spacing: str | None = None,
        eta: float | None = None,
        callback: Callable[[Step], bool | None] | None = None,
        progress_bar: bool = True,
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
        options = self._options(num_steps, unconditional_guidance_scale)
        encoded = self._batched(encoded_text, check_count(batch_size, "batch_size"))
        count = len(encoded)
        guidance_scale = options["unconditional_guidance_scale"]
        unconditional = None
        if guidance_scale != 1.0:
            negatives = check_prompts(negative_prompt or "", "negative_prompt")
            if len(negatives) not in (1, count):
                raise ValueError(
                    f"`negative_prompt` must be one for all or one for each of the "
                    f"{count} pictures. Received: {len(negatives)}"
                )
            unconditional = self.encode_text(negatives)
            unconditional = {"crossattn": np.broadcast_to(unconditional, encoded.shape)}
        table = make_table(
            self.config.schedule,
            sampler or self.config.generation.sampler,
            options["num_steps"],
            spacing=spacing,
            eta=eta,
        )
        seeds = resolve_seeds(seed, count)
        noise = self._noise(diffusion_noise, seeds)
        return self._generate(
            noise * np.float32(table.initial_scale),
            {"crossattn": encoded},
            unconditional,
            guidance_scale,
            table,
            seeds,
            callback,
            progress_bar,
        )

    def save_preset(
        self,
        path: str | os.PathLike,
        format: str | None = None,
        dtype: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes the model as what diffusers, ComfyUI and this library read.

        Args:
            path: A folder, or a file that ends in `.safetensors`.
            format: `"diffusers"` (a folder) or `"original"` (a single file); by default
                what the path says.
            dtype: What the weights are stored in, `"float16"` for example; by default
                as they are.
            overwrite: Whether what is there may be replaced.

        Raises:
            FileExistsError: If there is something and `overwrite` is off.
            ValueError: If the format is none of the two.
        """
        if format is None:
            is_file = os.fspath(path).endswith(".safetensors")
            format = "original" if is_file else "diffusers"
        if format not in ("diffusers", "original"):
            raise ValueError(
                f"`format` must be 'diffusers' or 'original'. Received: {format!r}"
            )
        self.build()
        options = {"dtype": dtype, "overwrite": overwrite}
        if format == "original":
            save.save_file(path, self._parts, self.config, **options)
        else:
            save.save_folder(path, self._parts, self.config, self.tokenizer, **options)

    @property
    def traces(self) -> dict[str, int]:
        """How often each program was traced, and so compiled, by its name."""
        return {name: program.traces for name, program in self._programs.items()}

    def _options(self, num_steps, guidance_scale) -> dict:
        """Steps and scale, the preset's where they are not given, checked."""
        defaults = self.config.generation
        guidance_scale = (
            defaults.guidance_scale if guidance_scale is None else guidance_scale
        )
        if not isinstance(guidance_scale, numbers.Real):
            raise TypeError(
                f"`unconditional_guidance_scale` must be a number. "
                f"Received: {guidance_scale!r}"
            )
        if not math.isfinite(guidance_scale):
            raise ValueError(
                f"`unconditional_guidance_scale` must be finite. "
                f"Received: {guidance_scale}"
            )
        return {
            "num_steps": defaults.num_steps if num_steps is None else num_steps,
            "unconditional_guidance_scale": float(guidance_scale),
        }

    def _batched(self, encoded_text, batch_size: int) -> np.ndarray:
        """Encoded prompts as `(pictures, tokens, width)`."""
        encoded = np.asarray(backend.to_numpy(encoded_text), "float32")
        width = self.config.text_encoder.width
        if encoded.ndim == 2:
            encoded = encoded[None]
        if encoded.ndim != 3 or encoded.shape[-1] != width or not len(encoded):
            raise ValueError(
                f"`encoded_text` must have the shape (tokens, {width}) or (prompts, "
                f"tokens, {width}). Received: {encoded.shape}"
            )
        if len(encoded) == 1:
            return np.repeat(encoded, batch_size, axis=0)
        if batch_size not in (1, len(encoded)):
            raise ValueError(
                f"With {len(encoded)} prompts, `batch_size` must be as many or 1. "
                f"Received: {batch_size}"
            )
        return encoded

    def _noise(self, given, seeds) -> np.ndarray:
        """Unit noise `(pictures, height, width, channels)`, the seeds' or the caller's."""
        latents = self.config.autoencoder
        shape = (
            self.img_height // latents.downsampling,
            self.img_width // latents.downsampling,
            latents.latent_channels,
        )
        if given is None:
            return initial_noise(seeds, shape)
        given = np.asarray(backend.to_numpy(given), "float32")
        if given.shape not in (shape, (1, *shape), (len(seeds), *shape)):
            raise ValueError(
                f"`diffusion_noise` must have the shape {shape}, or that behind a "
                f"batch of {len(seeds)}. Received: {given.shape}"
            )
        return np.broadcast_to(given, (len(seeds), *shape))

    def _generate(
        self,
        latents,
        conditioning,
        unconditional,
        guidance_scale,
        table,
        seeds,
        callback,
        progress_bar,
    ) -> np.ndarray:
        """Noisy latents through the sampler's table and the decoder."""
        denoise = self._program("denoise", self._denoise, "diffusion_model")
        fresh = step_noise(seeds, len(table.noise_rows), latents.shape[1:])
        latents = drive(
            lambda *state: denoise(
                conditioning, unconditional or {}, np.float32(guidance_scale), *state
            ),
            latents,
            table,
            fresh,
            callback,
            progress_bar,
        )
        decode = self._program("decode", self._decode, "decoder")
        # One at a time: the decoder's activations are the largest of the run.
        return np.concatenate([backend.to_numpy(decode(x[None])) for x in latents])

    def _encode(self, tokens):
        return ops.cast(self.text_encoder(tokens), "float32")

    def _denoise(
        self, conditioning, unconditional, scale, carry, rows, noise, start, stop
    ):
        denoise = denoiser(
            self.diffusion_model, conditioning, scale, unconditional or None
        )
        return loop.run(denoise, carry, rows, noise, start, stop)

    def _decode(self, latents):
        pictures = ops.cast(self.decoder(latents), "float32")
        pictures = ops.round(ops.clip((pictures + 1.0) * 127.5, 0.0, 255.0))
        return ops.cast(pictures, "uint8")

    def _program(self, name: str, function, part: str) -> backend.Program:
        """The compiled function, made at its first use."""
        if name not in self._programs:
            network = getattr(self, part)
            self._programs[name] = backend.Program(
                function, [network], self.jit_compile
            )
        return self._programs[name]


def find_preset(source) -> tuple[load.Source | None, ModelConfig | None]:
    """A preset's weights and configuration; anything else is a source itself.

    Raises:
        ValueError: If the source looks like a preset's name and is none.
    """
    if not isinstance(source, str):
        return source, None
    if source in PRESETS:
        return PRESETS[source].source, PRESETS[source].config
    if os.sep in source or ":" in source or Path(source).exists():
        return source, None
    near = difflib.get_close_matches(source, PRESETS, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"A model is a preset ({', '.join(PRESETS)}), hf://owner/name, a folder or a "
        f"file.{hint} Received: {source!r}"
    )


def read_tokenizer(source, config: ModelConfig) -> Tokenizer:
    """The tokenizer in a model's folder, or CLIP's."""
    if isinstance(source, (str, os.PathLike)):
        folder = hub.resolve(source, configs_only=True) / "tokenizer"
        if folder.is_dir():
            return Tokenizer.from_folder(folder, config.tokenizer)
    return Tokenizer(config.tokenizer)


def check_prompts(prompts, name: str) -> list[str]:
    """One prompt or several as a list of strings."""
    listed = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(listed, (list, tuple)) or not all(
        isinstance(prompt, str) for prompt in listed
    ):
        raise TypeError(
            f"`{name}` must be a string or a list of strings. Received: {prompts!r}"
        )
    if not listed:
        raise ValueError(f"`{name}` must not be an empty list. Received: {prompts!r}")
    return list(listed)


def check_count(count, name: str) -> int:
    """A whole number, 1 or more."""
    if isinstance(count, bool) or not isinstance(count, numbers.Integral):
        raise TypeError(f"`{name}` must be a whole number. Received: {count!r}")
    if count < 1:
        raise ValueError(f"`{name}` must be 1 or more. Received: {count}")
    return int(count)
