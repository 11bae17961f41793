"""What Keras promises of every model: to be saved, read, cloned, copied and exported.

Keras asks a model for its settings and walks through its attributes for weights. Parts
are found by their public names here, and are made when they are first asked for.
"""

from __future__ import annotations

import dataclasses
import warnings

import keras

from kerasdiffusion.compute import backend
from kerasdiffusion.models.keras_files import exporting, register
from kerasdiffusion.networks import vocabularies
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.weights.folders import dataclass_from


class Serialization:
    """What a `LatentDiffusion` answers to Keras's saving."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        register(cls)

    def get_config(self) -> dict:
        """What `from_config` makes a model of the same kind of, without its weights."""
        self._check_is_not_quantized()
        return {
            "name": self.name,
            "img_height": self.img_height,
            "img_width": self.img_width,
            "jit_compile": self.asked_to_compile,
            "precision": self.precision,
            "tiling": self.tiling,
            "config": dataclasses.asdict(self.config),
            "vocabulary": vocabularies.to_json(self.tokenizer.vocabulary),
            "vocabulary_2": self._second_vocabulary(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model as `get_config` describes it, with random weights."""
        arguments = dict(config)
        made = dataclass_from(ModelConfig, arguments.pop("config"), "a Keras config")
        vocabulary = vocabularies.from_json(arguments.pop("vocabulary", None))
        tokenizer = Tokenizer(made.tokenizer, vocabulary)
        second = arguments.pop("vocabulary_2", None)
        model = cls(**arguments, config=made, tokenizer=tokenizer, weights=None)
        if second is not None:
            words = vocabularies.from_json(second)
            model._tokenizer_2 = Tokenizer(made.tokenizer_2, words)
        return model

    def _second_vocabulary(self) -> dict | None:
        """Of the second text encoder, where words were added."""
        second = self.tokenizer_2
        if second is None or second.vocabulary == self.tokenizer.vocabulary:
            return None
        return vocabularies.to_json(second.vocabulary)

    def save(self, filepath, *args, **kwargs):
        """Keras's own file (`.keras`), which `keras.models.load_model` reads.

        For other programs `save_preset` writes diffusers' folder and the single file.
        """
        self._check_is_not_quantized()  # ahead of the file
        self.build()
        if self._learned:
            warnings.warn(
                "Words that were learned are not in Keras's file: `load_embedding` "
                "brings them again.",
                stacklevel=2,
            )
        super().save(filepath, *args, **kwargs)

    def export(self, filepath, format="tf_saved_model", input_signature=None, **kwargs):
        """What `call` computes, as Keras exports it: the U-Net's prediction of tokens.

        Args:
            filepath: As in `keras.Model.export`.
            format: As there.
            input_signature: As there; by default one picture of the model's size.
            **kwargs: As there.
        """
        self.build()
        if input_signature is None:
            input_signature = [self._signature()]
        self._check_is_not_quantized()
        with exporting(format):
            super().export(filepath, format, input_signature=input_signature, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """Keras's file of weights alone (`.weights.h5`), into the parts."""
        self._check_is_not_quantized()
        with backend.empty_weights():
            self.build()
        super().load_weights(filepath, *args, **kwargs)

    def _signature(self) -> dict:
        """Of what `call` takes, for one picture."""
        network, size = self.config.diffusion_model, self.latent_shape[:2]
        tokens = (1, self.config.tokenizer.context_length)
        shapes = {
            "tokens": (tokens, "int32"),
            "latents": ((1, *self.latent_shape), "float32"),
            "timestep": ((1,), "float32"),
        }
        if self.config.text_encoder_2 is not None:
            shapes["tokens_2"] = (tokens, "int32")
        beside = network.in_channels - self.latent_shape[-1]
        for name, shape, is_there in (
            ("concat", (1, *size, beside), beside),
            ("vector", (1, network.vector_width), network.vector_width),
            ("guidance", (1, network.guidance_width), network.guidance_width),
        ):
            if is_there:
                shapes[name] = (shape, "float32")
        if network.noise_levels:
            shapes["noise_level"] = ((1,), "int32")
        return {
            name: keras.InputSpec(dtype=dtype, shape=shape, name=name)
            for name, (shape, dtype) in shapes.items()
        }

    def save_own_variables(self, store) -> None:
        """Nothing of its own; but Keras looks for the parts next."""
        self.build()

    def load_own_variables(self, store) -> None:
        """Likewise; what is made here is written over."""
        with backend.empty_weights():
            self.build()

    def __dir__(self):
        # Parts have names, by which they are found before and after they are made.
        return [name for name in super().__dir__() if name != "_parts"]

    def _check_is_not_quantized(self) -> None:
        if self._eight_bit:
            raise ValueError(
                "Keras's files, copies and exports have no 8-bit weights of this "
                "library's: `save_preset` writes them as floats. "
                f"Received: a model with {', '.join(self._eight_bit)} in 8 bits"
            )
