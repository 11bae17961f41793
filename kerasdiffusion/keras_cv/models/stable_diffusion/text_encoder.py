"""KerasCV's text encoders: tokens and positions in, context out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import keras
from keras import ops

from kerasdiffusion.keras_cv import sources
from kerasdiffusion.keras_cv.parts import Part
from kerasdiffusion.models import text_encoder
from kerasdiffusion.models.layers import Block


class TextEncoder(Part, text_encoder.TextEncoder):
    """Stable Diffusion 1's text encoder by KerasCV's arguments.

    Args:
        max_length: Tokens of a prompt.
        vocab_size: Tokens of the vocabulary; the published 49408 by default.
        name: Name of the model.
        download_weights: Whether it begins with the published weights.
        config: A `TextEncoderConfig`, in place of all these.
        dtype: A dtype or dtype policy; the global policy by default.

    Call arguments:
        inputs: `[tokens, positions]` or a dict of `"tokens"` and `"positions"`, whole
            numbers of shape `(batch, tokens)`; or tokens alone, as this library has it.

    Call returns:
        Context, a tensor of shape `(batch, tokens, width)`.
    """

    part = "text_encoder"

    def __init__(
        self,
        max_length: int = 77,
        vocab_size: int | None = None,
        name: str | None = None,
        download_weights: bool = True,
        *,
        config=None,
        dtype=None,
    ):
        def usual():
            found = sources.config(self.version).text_encoder
            size = found.vocabulary_size if vocab_size is None else vocab_size
            return replace(found, context_length=max_length, vocabulary_size=size)

        make = super().__init__
        self._start(make, config, usual, dtype, name, download_weights)
        # Tokens may come as floats, which half precision could not tell apart.
        self.autocast = False

    def call(self, inputs, layers=None, vectors=None, seen=None):
        if isinstance(inputs, Mapping):
            inputs = inputs["tokens"], inputs["positions"]
        if not isinstance(inputs, (list, tuple)):
            return super().call(ops.cast(inputs, "int32"), layers, vectors, seen)
        tokens, positions = (ops.cast(each, "int32") for each in inputs)
        model, config = self.text_model, self.config
        x = model.embeddings.token_embedding(tokens)
        x = x + model.embeddings.position_embedding(positions)
        for layer in model.encoder_layers[: config.depth - config.skipped_layers]:
            x = layer(x)
        return model.final_layer_norm(x) if config.final_norm else x

    @property
    def layers(self) -> list:
        """In KerasCV's order: two inputs, the embedding, the layers, the norm."""
        found = self.__dict__.get("_in_order")
        if found is None:
            model, length = self.text_model, self.config.context_length
            inputs = [
                keras.layers.InputLayer((length,), dtype="int32", name=name)
                for name in ("tokens", "positions")
            ]
            embedding = CLIPEmbedding(model.embeddings)
            found = [
                *(*inputs, embedding, *model.encoder_layers),
                model.final_layer_norm,
            ]
            # Not by name: Keras would take them for layers of the network.
            self.__dict__["_in_order"] = found
        return found


class TextEncoderV2(TextEncoder):
    """Stable Diffusion 2's text encoder by KerasCV's arguments."""

    version = 2


class CLIPEmbedding(Block):
    """Tokens' and positions' vectors, by KerasCV's names: the network's own."""

    def __init__(self, embeddings):
        super().__init__(dtype=embeddings.dtype_policy)
        self.token_embedding = embeddings.token_embedding
        self.position_embedding = embeddings.position_embedding
        self.built = True

    def call(self, inputs):
        tokens, positions = inputs
        return self.token_embedding(tokens) + self.position_embedding(positions)
