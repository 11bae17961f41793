"""LatentDiffusion: the networks as one Keras model, built when they are first used."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from kerasdiffusion import backend, images
from kerasdiffusion.cheaper_steps import cheapened
from kerasdiffusion.config import ModelConfig, TinyAutoencoderConfig
from kerasdiffusion.control import Networks, controller
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.models.tiny_autoencoder import TinyDecoder, TinyImageEncoder
from kerasdiffusion.presets import find_preset, find_unet
from kerasdiffusion.quantization import EightBitWeights
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.tiling import (
    Tiler,
    check_tiling,
    decoder_shape,
    encoder_shape,
    through,
    tile_side,
)
from kerasdiffusion.tokenizer import Tokenizer
from kerasdiffusion.weights import hub, load, save, swap

PARTS = {
    "text_encoder": (TextEncoder, "text_encoder"),
    "text_encoder_2": (TextEncoder, "text_encoder_2"),
    "diffusion_model": (DiffusionModel, "diffusion_model"),
    "image_encoder": (ImageEncoder, "autoencoder"),
    "decoder": (Decoder, "autoencoder"),
}
# What a U-Net may take beside latents, timestep and context.
EXTRAS = ("concat", "vector", "guidance", "noise_level")
TINY = {"image_encoder": TinyImageEncoder, "decoder": TinyDecoder}


class LatentDiffusion(EightBitWeights, keras.Model):
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
        vae: load.Source | None = None,
        text_encoder: load.Source | None = None,
        unet: load.Source | None = None,
        prediction_type: str | None = None,
        tokenizer: Tokenizer | None = None,
        tiling: bool | int | str = "auto",
        name: str = "stable_diffusion",
    ):
        precision = backend.resolve_precision(precision)
        tiling = check_tiling(tiling)
        # Not cast on the way in: bfloat16 cannot tell timestep 999 from 1000.
        super().__init__(name=name, dtype=precision, autocast=False)
        preset, (weights, known) = weights, find_preset(weights)
        if config is None and weights is None:
            config = ModelConfig()
        config = config or known or load.read_config(weights)
        swapped = {
            "autoencoder": vae,
            "text_encoder": text_encoder,
            "diffusion_model": unet,
        }
        self.config = swap.read_configs(config, swapped, prediction_type)
        self._swapped = {
            part: swapped[field]
            for part, (_, field) in PARTS.items()
            if swapped.get(field) is not None
        }
        if find_unet(preset) is not None:
            self._swapped.setdefault("diffusion_model", find_unet(preset))
        defaults = self.config.generation
        self.img_height = defaults.height if img_height is None else img_height
        self.img_width = defaults.width if img_width is None else img_width
        images.check_size(
            self.img_height, self.img_width, self.config.autoencoder.downsampling
        )
        # `compile` of Keras sets `jit_compile` anew, for `fit`.
        self.jit_compile = self._xla = backend.resolve_jit_compile(jit_compile)
        self.precision, self.tiling = precision, tiling
        self._weights_source = weights
        self._tokenizer, self._tokenizer_2 = tokenizer, None
        self._learned = {}
        self._parts = {}
        self._programs = {}
        self._eight_bit = {}
        # Keras's wrapper around it is for one layer, which is built.
        self.__dict__.pop("quantize", None)
        self._control_networks = Networks(precision)

    def build(self, input_shape=None):
        """Makes the networks and reads their weights, if that is still to do."""
        if self._parts:
            return
        sources: dict = {}
        for part in self.config.parts:
            source = self._swapped.get(part, self._weights_source)
            sources.setdefault(_key(source), (source, []))[1].append(part)
        parts = {}
        for source, names in sources.values():
            for part in names:
                config = getattr(self.config, PARTS[part][1])
                is_tiny = isinstance(config, TinyAutoencoderConfig)
                network = TINY[part] if is_tiny else PARTS[part][0]
                with backend.empty_weights(source is not None):
                    parts[part] = network(config, dtype=self.precision, name=part)
            if source is not None:
                load.load_weights({name: parts[name] for name in names}, source)
        self._parts = parts
        self.built = True
        self._quantize()

    @property
    def text_encoder(self) -> TextEncoder:
        """Tokens to context."""
        self.build()
        return self._parts["text_encoder"]

    @property
    def text_encoder_2(self) -> TextEncoder | None:
        """The second text encoder of SDXL; `None` where there is one."""
        self.build()
        return self._parts.get("text_encoder_2")

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
    def latent_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one picture's latents."""
        latents = self.config.autoencoder
        return (
            self.img_height // latents.downsampling,
            self.img_width // latents.downsampling,
            latents.latent_channels,
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """Prompts to tokens."""
        if self._tokenizer is None:
            tokenizer = read_tokenizer(self._weights_source, self.config)
            size = min(each.vocabulary_size for each in self.config.text_encoders)
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
        context, pooled = self.encode_tokens(inputs["tokens"], inputs.get("tokens_2"))
        return self.diffusion_model(
            {
                "latents": inputs["latents"],
                "timestep": inputs["timestep"],
                "crossattn": context,
                **{key: inputs[key] for key in EXTRAS if key in inputs},
            }
        )

    @property
    def tokenizer_2(self) -> Tokenizer | None:
        """Prompts to the tokens of the second text encoder: another padding."""
        if self.config.tokenizer_2 is None:
            return None
        if self._tokenizer_2 is None:
            self._tokenizer_2 = Tokenizer(
                self.config.tokenizer_2, self.tokenizer.vocabulary
            )
        return self._tokenizer_2

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
        found = {name: 0 for name, *_ in self._programs}
        for (name, *_), program in self._programs.items():
            found[name] += program.traces
        return found

    def encode_tokens(self, tokens, tokens_2=None):
        """Context and pooled text (or `None`) of all text encoders, as tensors."""
        contexts, pooled = [], None
        second = self.text_encoder_2
        for encoder, each in ((self.text_encoder, tokens), (second, tokens_2)):
            if encoder is None:
                continue
            context = encoder(each)
            if encoder.config.projection_width:
                context, pooled = context
            contexts.append(context)
        return ops.concatenate(contexts, axis=-1), pooled

    def _encode(self, part, tokens, how):
        # `how` has `layers`, `vectors` and `seen` where a prompt asks for them.
        outputs = getattr(self, part)(tokens, **how)
        return keras.tree.map_structure(lambda x: ops.cast(x, "float32"), outputs)

    def _denoise(self, followers, branches, scale, shares, methods, controls, *state):
        network, methods = self.diffusion_model, dict(methods)
        if "pag" in methods:
            # One entry for each layer: names are no tensors, but keys may differ.
            layers = methods.pop("pag_layers")
            network = functools.partial(network, perturbed_layers=tuple(layers))
        network = cheapened(network, methods)
        control = controller(followers, controls)
        denoise = denoiser(network, branches, scale, shares, methods, control)
        return loop.run(denoise, *state)

    def _encode_image(self, pictures):
        return ops.cast(self.image_encoder(backend.spread(pictures)), "float32")

    def _decode(self, latents):
        pictures = ops.cast(self.decoder(backend.spread(latents)), "float32")
        pictures = ops.round(ops.clip((pictures + 1.0) * 127.5, 0.0, 255.0))
        return ops.cast(pictures, "uint8")

    def _coarse(self, part):
        return lambda x: ops.cast(getattr(self, part).coarse(x), "float32")

    def encode_picture(self, picture: np.ndarray) -> np.ndarray:
        """Latents of one picture, in tiles where `tiling` asks for them.

        Args:
            picture: float32 of shape `(1, height, width, 3)` in [-1, 1], whose sides
                are multiples of the autoencoder's downsampling.

        Returns:
            float32 of shape `(1, height / 8, width / 8, 4)`.
        """
        side = self._tile_side(*picture.shape[1:3])
        if side is None:
            return backend.to_numpy(self.program("encode_image")(picture))
        shape = encoder_shape(self.config.autoencoder)
        tiler = Tiler(self._tile_program("image_encoder"), *shape, side, shrinks=True)
        return backend.to_numpy(self.program("encode_rest")(tiler(list(picture[0]))))

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """The picture of one's latents, in tiles where `tiling` asks for them.

        Args:
            latents: float32 of shape `(1, h, w, 4)`.

        Returns:
            uint8 of shape `(1, 8 * h, 8 * w, 3)`.
        """
        pixels = self.config.autoencoder.downsampling
        side = self._tile_side(*(n * pixels for n in latents.shape[1:3]))
        if side is None:
            return backend.to_numpy(self.program("decode")(latents))
        shape = decoder_shape(self.config.autoencoder)
        tiler = Tiler(self._tile_program("decoder"), *shape, side, shrinks=False)
        rows = list(backend.to_numpy(self.program("decode_begin")(latents))[0])
        picture = tiler(rows)
        return np.round(np.clip((picture + 1.0) * 127.5, 0.0, 255.0)).astype("uint8")

    def _tile_side(self, height: int, width: int) -> int | None:
        # A tiny autoencoder takes little memory.
        is_tiny = isinstance(self.config.autoencoder, TinyAutoencoderConfig)
        return None if is_tiny else tile_side(self.tiling, height, width)

    def _tile_program(self, part: str):
        """A program for each stage and number of norms, of a part's tiles."""

        def program(stage: int, norms: int) -> backend.Program:
            name = f"{part} tile {stage}.{norms}"
            if name not in self._programs:
                network = getattr(self, part)
                function = functools.partial(through, network.stages[stage])
                self._programs[name] = backend.Program(function, [network], self._xla)
            return self._programs[name]

        return program

    def program(self, name: str, followers: tuple = ()) -> backend.Program:
        """A compiled function, made at its first use.

        Args:
            name: `"encode"` (tokens, and a dict of what else the text encoder takes,
                to context, and to pooled text where it projects), `"encode_2"` (the
                same of the second text encoder), `"denoise"` (see
                `sampling.loop.run`), `"encode_image"` (pictures in [-1, 1] to latents),
                `"decode"` (latents to uint8 pictures), or what is not tiled of these
                two, `"encode_rest"` and `"decode_begin"`.
            followers: The networks that follow pictures as `"denoise"` runs.
        """
        key = (name, *followers)
        if key not in self._programs:
            function, part = {
                "encode": (
                    functools.partial(self._encode, "text_encoder"),
                    "text_encoder",
                ),
                "encode_2": (
                    functools.partial(self._encode, "text_encoder_2"),
                    "text_encoder_2",
                ),
                "denoise": (
                    functools.partial(self._denoise, followers),
                    "diffusion_model",
                ),
                "encode_image": (self._encode_image, "image_encoder"),
                "encode_rest": (self._coarse("image_encoder"), "image_encoder"),
                "decode": (self._decode, "decoder"),
                "decode_begin": (self._coarse("decoder"), "decoder"),
            }[name]
            networks = [getattr(self, part), *followers]
            self._programs[key] = backend.Program(function, networks, self._xla)
        return self._programs[key]


def _key(source):
    """What tells sources apart."""
    return str(sorted(source.items()) if isinstance(source, Mapping) else source)


def read_tokenizer(source, config: ModelConfig) -> Tokenizer:
    """The tokenizer in a model's folder, or CLIP's."""
    if isinstance(source, (str, os.PathLike)):
        root = hub.resolve(source, configs_only=True)
        for name in ("tokenizer", "tokenizer_2"):  # a refiner has the second alone
            if (root / name).is_dir():
                return Tokenizer.from_folder(root / name, config.tokenizer)
    return Tokenizer(config.tokenizer)
