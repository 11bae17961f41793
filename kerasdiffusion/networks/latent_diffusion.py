"""LatentDiffusion: the networks as one Keras model, built when they are first used."""

from __future__ import annotations

import functools
import os

import keras
import numpy as np
from keras import ops

from kerasdiffusion.compute import backend, compile_cache, devices, memory
from kerasdiffusion.networks.adapted import Adapted, Dressed
from kerasdiffusion.networks.autoencoding import Autoencoding
from kerasdiffusion.networks.control import Networks, controller
from kerasdiffusion.networks.fingerprint import fingerprint
from kerasdiffusion.networks.lazy import LazyNetworks
from kerasdiffusion.networks.parts import (
    PARTS,
    Guests,
    read_tokenizer,
)
from kerasdiffusion.networks.quantization import EightBitWeights
from kerasdiffusion.networks.tiling import check_tiling
from kerasdiffusion.pictures import write
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.presets.named import find_preset, find_unet
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.requests.cheaper_steps import cheapened
from kerasdiffusion.requests.signatures import check_arguments
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.axes import denoising_axes
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.weights import load, save, swap

# The part that each program is of.
PROGRAMS = {
    "encode": "text_encoder",
    "encode_2": "text_encoder_2",
    "denoise": "diffusion_model",
    "encode_image": "image_encoder",
    "encode_rest": "image_encoder",
    "decode": "decoder",
    "decode_begin": "decoder",
}
# Where the batch is, in those that may be divided.
AXES = {
    "denoise": denoising_axes,
    "decode": (lambda _: (0,), lambda _: 0),
    "encode_image": (lambda _: (0,), lambda _: 0),
}
# What a U-Net may take beside latents, timestep and context.
EXTRAS = ("concat", "vector", "guidance", "noise_level")


class LatentDiffusion(
    Adapted, Autoencoding, EightBitWeights, LazyNetworks, keras.Model
):
    """Text encoder, U-Net and autoencoder, their weights and compiled programs.

    What can be done with them is in `StableDiffusion`, which explains the arguments.
    """

    def __new__(cls, *args, **keywords):
        """Looks at the arguments under the name of the class that is called."""
        check_arguments(cls, args, keywords)
        return super().__new__(cls, *args, **keywords)

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
        low_memory: bool = False,
        name: str = "stable_diffusion",
    ):
        compile_cache.keep_programs(
            keras.backend.backend()
        )  # ahead of all that the backend is asked for
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
        own = {"diffusion_model": find_unet(preset)}
        self._sources = {
            part: next(
                (each for each in (swapped.get(field), own.get(part)) if each), weights
            )
            for part, (_, field) in PARTS.items()
        }
        defaults = self.config.generation
        self.img_height = defaults.height if img_height is None else img_height
        self.img_width = defaults.width if img_width is None else img_width
        write.check_size(
            self.img_height, self.img_width, self.config.autoencoder.downsampling
        )
        self.compiler = backend.resolve_jit_compile(jit_compile)
        # `compile` of Keras sets `jit_compile` anew, for `fit`: by XLA or not.
        self.jit_compile = self.compiler is True
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
        self._start_adapters()
        self._guests, self._place, self._arrival = None, devices.placing(), None
        if low_memory:
            if self.compiler == "openvino":
                raise ValueError(
                    "With `low_memory` weights are read again and again; OpenVINO "
                    "would compile each time. Received: low_memory=True, "
                    'jit_compile="openvino"'
                )
            self._guests = Guests(
                self._make, self._sources, self.config.parts, self._dress
            )

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

    def fingerprint(self) -> dict[str, str]:
        """All that pictures depend on beside the request, as a text for each part.

        `Request.key` hashes it. The weights are looked at as they are in memory, after
        training too; with many requests ask once.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> request = Request(task="text_to_image", prompt="a cat", seed=1)
        >>> request.key(model) == request.key(model.fingerprint())
        True
        """
        return fingerprint(self)

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
        outputs = self._network(part)(tokens, **how)
        return keras.tree.map_structure(lambda x: ops.cast(x, "float32"), outputs)

    def _denoise(self, followers, branches, scale, shares, methods, controls, *state):
        network, methods = self._network("diffusion_model"), dict(methods)
        if "pag" in methods:
            # One entry for each layer: names are no tensors, but keys may differ.
            layers = methods.pop("pag_layers")
            network = functools.partial(network, perturbed_layers=tuple(layers))
        network = cheapened(network, methods)
        control = controller(followers, controls)
        denoise = denoiser(network, branches, scale, shares, methods, control)
        return loop.run(denoise, *state)

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
        key, part = (name, *followers), PROGRAMS[name]
        if key not in self._programs:
            function = {
                "encode": functools.partial(self._encode, part),
                "encode_2": functools.partial(self._encode, part),
                "denoise": functools.partial(self._denoise, followers),
                "encode_image": self._encode_image,
                "encode_rest": self._coarse(part),
                "decode": self._decode,
                "decode_begin": self._coarse(part),
            }[name]
            networks = [self._network(part), *followers]
            self._programs[key] = self._program(
                name, part, function, networks, AXES.get(name)
            )
        program = self._running(part, self._programs[key])
        if name == "denoise" and not self._programs[key].goes_round:
            return loop.row_by_row(program)
        return program

    def _ready(self, part: str) -> None:
        """Returns when a program of a part, just compiled, can run for the first time.

        While the U-Net does, the decoder's is compiled.
        """
        self._wait((part,))
        latents = np.zeros((1, *self.latent_shape), "float32")
        if part == "diffusion_model" and "decode" not in self.traces:
            if self._tile_side(*self._pixels(latents)) is None:
                self.program("decode").compile_soon(latents)

    def _program(
        self, name: str, part: str, function, networks, axes=None
    ) -> backend.Program:
        if not self.low_memory and not backend.has_accelerator():
            memory.keep_freed_pages()
        ready = functools.partial(self._ready, part) if self._goes_ahead else None
        idle = loop.without_rows if name == "denoise" else None
        facts = repr((name, self.precision, self.config))
        return backend.Program(
            function, networks, self.compiler, axes, ready, idle, facts
        )

    def _running(self, part: str, program: backend.Program):
        """A program whose part comes into memory where it is not there.

        Its weights are those of the adapters that are asked for.
        """
        if self._guests is None or part in self._parts:
            return Dressed(program, self, part)

        def run(*args):
            self._network(part)
            return program(*args)

        return run
