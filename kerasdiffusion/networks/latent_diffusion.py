"""LatentDiffusion: the networks as one Keras model, built when they are first used."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

import keras
from keras import ops

from kerasdiffusion.compute import backend, compile_cache, devices
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.networks import vocabularies
from kerasdiffusion.networks.adapted import Adapted
from kerasdiffusion.networks.autoencoding import Autoencoding
from kerasdiffusion.networks.control import Networks
from kerasdiffusion.networks.fingerprint import fingerprint, of_tags
from kerasdiffusion.networks.lazy import LazyNetworks
from kerasdiffusion.networks.parts import (
    PARTS,
    check_tokenizer,
    read_tokenizer,
    read_tokenizer_2,
)
from kerasdiffusion.networks.programs import Programs
from kerasdiffusion.networks.quantization import EightBitWeights
from kerasdiffusion.networks.serialization import Serialization
from kerasdiffusion.networks.tiling import check_tiling
from kerasdiffusion.networks.warming import Warming
from kerasdiffusion.networks.wider import Wider
from kerasdiffusion.pictures import write
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.presets.named import find_preset, find_unet
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.requests.signatures import check_arguments
from kerasdiffusion.weights import load, save, swap

# What a U-Net may take beside latents, timestep and context.
EXTRAS = ("concat", "vector", "guidance", "noise_level")


#: Of files of weights, of which `save_preset` writes one kind.
ENDINGS = (*(".ckpt", ".pt", ".pth", ".bin", ".h5", ".keras"), ".safetensors", ".gguf")


class LatentDiffusion(
    Adapted,
    Autoencoding,
    EightBitWeights,
    Serialization,
    Warming,
    Programs,
    Wider,
    LazyNetworks,
    keras.Model,
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
        text_encoder_2: load.Source | None = None,
        unet: load.Source | None = None,
        strict: bool = True,
        prediction_type: str | None = None,
        zero_terminal_snr: bool | None = None,
        tokenizer: Tokenizer | None = None,
        tiling: bool | int | str = "auto",
        low_memory: bool | str = False,
        name: str = "stable_diffusion",
    ):
        compile_cache.keep_programs(
            keras.backend.backend()
        )  # ahead of all that the backend is asked for
        precision = backend.resolve_precision(precision)
        tiling = check_tiling(tiling)
        # Not cast on the way in: bfloat16 cannot tell timestep 999 from 1000.
        super().__init__(name=name, dtype=policy(precision), autocast=False)
        preset, (weights, known) = weights, find_preset(weights)
        if config is None and weights is None:
            config = ModelConfig()
        swapped = {
            "autoencoder": vae,
            "text_encoder": text_encoder,
            "text_encoder_2": text_encoder_2,
            "diffusion_model": unet,
        }
        self.config = swap.read_model(
            weights,
            swapped,
            config or known,
            prediction_type=prediction_type,
            zero_terminal_snr=zero_terminal_snr,
        )
        own = {"diffusion_model": find_unet(preset)}
        sources = {
            part: next(
                (each for each in (swapped.get(field), own.get(part)) if each), weights
            )
            for part, (_, field) in PARTS.items()
        }
        self._tokens_sources = {} if tokenizer else dict(sources, own=weights)
        if not strict:
            lenient = {}
            for part, source in sources.items():
                if source is not None:
                    sources[part] = lenient.setdefault(
                        str(source), load.Lenient(source)
                    )
        self._sources = sources
        defaults = self.config.generation
        self.img_height = defaults.height if img_height is None else img_height
        self.img_width = defaults.width if img_width is None else img_width
        write.check_size(
            self.img_height, self.img_width, self.config.autoencoder.downsampling
        )
        self.asked_to_compile = jit_compile
        self.compiler = backend.resolve_jit_compile(jit_compile)
        # `compile` of Keras sets `jit_compile` anew, for `fit`: by XLA or not.
        self.jit_compile = self.compiler is True
        self.precision, self.tiling = precision, tiling
        self._tokenizer, self._tokenizer_2 = tokenizer, None
        self._learned = {}
        # Keras's wrapper around it is for one layer, which is built.
        self.__dict__.pop("quantize", None)
        self._control_networks = Networks(precision)
        self._start_adapters()
        self._place = devices.placing()
        if low_memory and self.compiler == "openvino":
            raise ValueError(
                "With `low_memory` weights are read again and again; OpenVINO would "
                "write and compile them each time. Leave out one of the two: by "
                "`low_memory` alone the least memory is taken, by OpenVINO alone the "
                f"weights are on the disk. Received: low_memory={low_memory!r}, "
                'jit_compile="openvino"'
            )
        self._own_networks(low_memory)
        self._own_programs()
        self._own_twins()

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
            found = read_tokenizer(self._told_tokens("text_encoder"), self.config)
            self._tokenizer = check_tokenizer(found, self.config.text_encoder)
        return self._tokenizer

    def _told_tokens(self, part: str) -> list:
        """Where the tokens of a text encoder may be listed: its source, the model's."""
        sources = self._tokens_sources
        return [sources[name] for name in (part, "own") if name in sources]

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
            found = read_tokenizer_2(self._told_tokens("text_encoder_2"), self.config)
            if found is None:
                vocabulary = self.tokenizer.vocabulary
                found = Tokenizer(self.config.tokenizer_2, vocabulary)
            self._tokenizer_2 = check_tokenizer(found, self.config.text_encoder_2)
        return self._tokenizer_2

    def save_preset(
        self,
        path: str | os.PathLike,
        format: str | None = None,
        dtype: str | None = None,
        overwrite: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Writes the model as what diffusers, ComfyUI and this library read.

        Args:
            path: A folder, or a file that ends in `.safetensors`.
            format: `"diffusers"` (a folder) or `"original"` (a single file); by default
                what the path says.
            dtype: What the weights are stored in, `"float16"` for example; by default
                as they are.
            overwrite: Whether what is there may be replaced.
            metadata: Texts for the header of a single file.

        Raises:
            FileExistsError: If there is something and `overwrite` is off.
            ValueError: If the format is none of the two, or a folder is to have
                `metadata`.
        """
        ending = os.path.splitext(os.fspath(path))[1]
        if format is None:
            format = "original" if ending == ".safetensors" else "diffusers"
        if format == "diffusers" and ending in ENDINGS and not os.path.isdir(path):
            raise ValueError(
                "`path` must be a folder, or a file that ends in .safetensors. "
                f"Received: {os.fspath(path)!r}"
            )
        if format not in ("diffusers", "original"):
            raise ValueError(
                f"`format` must be 'diffusers' or 'original'. Received: {format!r}"
            )
        if metadata and format == "diffusers":
            raise ValueError(
                "`metadata` is for the header of a single file: a path that ends in "
                f".safetensors. Received: {os.fspath(path)!r}"
            )
        self.build()
        with self._turn():  # the adapters of a call that is under way are not written
            for part in self._parts:
                self._up_to_date(part)
            how = {"dtype": dtype, "overwrite": overwrite}
            self._write(path, format, metadata, how)

    def _write(self, path, format: str, metadata, options) -> None:
        if format == "original":
            if self._learned:
                warnings.warn(
                    "A single file has no place for words that were learned: they are "
                    f"in a folder's. Received: {os.fspath(path)}",
                    UserWarning,
                    stacklevel=3,
                )
            own = vocabularies.as_metadata(self.tokenizer.vocabulary)
            more = {**(metadata or {}), **own}
            save.save_file(path, self._parts, self.config, metadata=more, **options)
        else:
            learned = {
                part: self._learned[config].vectors
                for part, (_, field) in PARTS.items()
                if (config := getattr(self.config, field)) in self._learned
            }
            save.save_folder(
                path,
                self._parts,
                self.config,
                self.tokenizer,
                tokenizer_2=self.tokenizer_2,
                learned=learned,
                **options,
            )

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

    def fingerprint_of(self, tags) -> str:
        """The same of adapters that prompts name, `prompts.tags.Tag` each."""
        return of_tags(tags)

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
