"""LatentDiffusion: the networks as one Keras model, built when they are first used."""

from __future__ import annotations

import os

import keras
from keras import ops

from kerasdiffusion import backend, images
from kerasdiffusion.arguments import find_preset
from kerasdiffusion.config import ModelConfig
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.tokenizer import Tokenizer
from kerasdiffusion.weights import hub, load, save

PARTS = {
    "text_encoder": (TextEncoder, "text_encoder"),
    "diffusion_model": (DiffusionModel, "diffusion_model"),
    "image_encoder": (ImageEncoder, "autoencoder"),
    "decoder": (Decoder, "autoencoder"),
}


class LatentDiffusion(keras.Model):
    """Text encoder, U-Net and autoencoder, their weights and compiled programs.

    What can be done with them is in `StableDiffusion`, which explains the arguments.
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
        # Not cast on the way in: bfloat16 cannot tell timestep 999 from 1000.
        super().__init__(name=name, dtype=precision, autocast=False)
        weights, known = find_preset(weights)
        if config is None and weights is None:
            config = ModelConfig()
        self.config = config or known or load.read_config(weights)
        defaults = self.config.generation
        self.img_height = defaults.height if img_height is None else img_height
        self.img_width = defaults.width if img_width is None else img_width
        images.check_size(
            self.img_height, self.img_width, self.config.autoencoder.downsampling
        )
        # `compile` of Keras sets `jit_compile` anew, for `fit`.
        self.jit_compile = self._xla = backend.resolve_jit_compile(jit_compile)
        self.precision = precision
        self._weights_source = weights
        self._tokenizer = tokenizer
        self._learned = None
        self._parts = {}
        self._programs = {}

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
            tokenizer = read_tokenizer(self._weights_source, self.config)
            size = self.config.text_encoder.vocabulary_size
            if tokenizer.vocabulary_size > size:
                raise ValueError(
                    f"The tokenizer must have no more tokens than the text encoder's "
                    f"{size}; pass the model's own as `tokenizer`. "
                    f"Received: {tokenizer.vocabulary_size} tokens"
                )
            self._tokenizer = tokenizer
        return self._tokenizer

    def call(self, inputs):
        """The prediction for `"latents"` at `"timestep"` under prompts' `"tokens"`."""
        context = self.text_encoder(inputs["tokens"])
        return self.diffusion_model(
            {
                "latents": inputs["latents"],
                "timestep": inputs["timestep"],
                "crossattn": context,
            }
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

    def _encode(self, tokens, how):
        # `how` has `layers`, `vectors` and `seen` where a prompt asks for them.
        return ops.cast(self.text_encoder(tokens, **how), "float32")

    def _denoise(self, branches, scale, shares, carry, rows, noise, start, stop):
        denoise = denoiser(self.diffusion_model, branches, scale, shares)
        return loop.run(denoise, carry, rows, noise, start, stop)

    def _decode(self, latents):
        pictures = ops.cast(self.decoder(latents), "float32")
        pictures = ops.round(ops.clip((pictures + 1.0) * 127.5, 0.0, 255.0))
        return ops.cast(pictures, "uint8")

    def program(self, name: str) -> backend.Program:
        """A compiled function, made at its first use.

        Args:
            name: `"encode"` (tokens, and a dict of what else the text
                encoder takes, to context), `"denoise"` (see `sampling.loop.run`)
                or `"decode"` (latents to uint8 pictures).
        """
        if name not in self._programs:
            function, part = {
                "encode": (self._encode, "text_encoder"),
                "denoise": (self._denoise, "diffusion_model"),
                "decode": (self._decode, "decoder"),
            }[name]
            network = getattr(self, part)
            self._programs[name] = backend.Program(function, [network], self._xla)
        return self._programs[name]


def read_tokenizer(source, config: ModelConfig) -> Tokenizer:
    """The tokenizer in a model's folder, or CLIP's."""
    if isinstance(source, (str, os.PathLike)):
        folder = hub.resolve(source, configs_only=True) / "tokenizer"
        if folder.is_dir():
            return Tokenizer.from_folder(folder, config.tokenizer)
    return Tokenizer(config.tokenizer)
