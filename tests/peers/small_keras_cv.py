"""KerasCV's own Stable Diffusion networks at a tenth of their width.

keras-cv has them at one size only. Here the constants in its constructors are replaced
while it builds, so that the classes, the topology and the files are its own and small.

Run as a program with `TF_USE_LEGACY_KERAS=1` it saves them by Keras 2, in the layout of
the files that KerasCV publishes: `python -m tests.peers.small_keras_cv FOLDER PARTS`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np
from keras_cv.src.backend import keras, ops
from keras_cv.src.models.stable_diffusion import (
    attention_block,
    decoder,
    diffusion_model,
    image_encoder,
    resnet_block,
    text_encoder,
)

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    ModelConfig,
    TextEncoderConfig,
    TokenizerConfig,
)

CONFIG = ModelConfig(
    tokenizer=TokenizerConfig(context_length=7),
    text_encoder=TextEncoderConfig(
        vocabulary_size=99, context_length=7, width=48, mlp_width=192
    ),
    diffusion_model=DiffusionModelConfig(
        block_widths=(32, 64, 128, 128), context_width=48
    ),
    autoencoder=AutoencoderConfig(block_widths=(32, 64, 128, 128)),
)
TEXT = {768: 48}
U_NET = {320: 32, 640: 64, 1280: 128, 40: 4, 80: 8, 160: 16, 768: 48}
AUTOENCODER = {128: 32, 256: 64, 512: 128}


class _Namespace:
    """A module with some names replaced."""

    def __init__(self, module, **replaced):
        self.__dict__.update(replaced, _module=module)

    def __getattr__(self, name):
        return getattr(self._module, name)


def _shrink(function, sizes):
    def shrunk(*arguments, **keywords):
        def smaller(value):
            if isinstance(value, tuple):
                return tuple(map(smaller, value))
            if isinstance(value, bool) or not isinstance(value, int):
                return value
            return sizes.get(value, value)

        keywords = {key: smaller(value) for key, value in keywords.items()}
        return function(*map(smaller, arguments), **keywords)

    return shrunk


def _build(module, classes, sizes, make):
    """Build with the constructors that a module calls given smaller sizes."""
    layers = _Namespace(
        keras.layers,
        Input=_shrink(keras.layers.Input, sizes),
        Dense=_shrink(keras.layers.Dense, sizes),
        Embedding=_shrink(keras.layers.Embedding, sizes),
    )
    with mock.patch.object(module, "keras", _Namespace(keras, layers=layers)):
        with mock.patch.multiple(
            module, **{name: _shrink(getattr(module, name), sizes) for name in classes}
        ):
            return make()


def build(small: bool = True, size: int = 64) -> dict:
    """KerasCV's four networks by part, at a tenth of their width or at their own."""
    length, vocabulary = (7, 99) if small else (77, 49408)
    sizes = (TEXT, U_NET, AUTOENCODER) if small else ({}, {}, {})
    autoencoder = ("PaddedConv2D", "ResnetBlock", "AttentionBlock")
    return {
        "text_encoder": lambda: _build(
            text_encoder,
            ("CLIPEmbedding", "CLIPEncoderLayer"),
            sizes[0],
            lambda: text_encoder.TextEncoder(
                length, vocabulary, download_weights=False
            ),
        ),
        "diffusion_model": lambda: _build(
            diffusion_model,
            ("PaddedConv2D", "ResBlock", "SpatialTransformer", "Upsample"),
            sizes[1],
            lambda: diffusion_model.DiffusionModel(
                size, size, length, download_weights=False
            ),
        ),
        "decoder": lambda: _build(
            decoder,
            autoencoder,
            sizes[2],
            lambda: decoder.Decoder(size, size, download_weights=False),
        ),
        "image_encoder": lambda: _build(
            image_encoder,
            autoencoder,
            sizes[2],
            lambda: image_encoder.ImageEncoder(download_weights=False),
        ),
    }


def randomise(model, seed: int = 0) -> None:
    """Weights of which no two tensors are alike, and that keep activations near 1."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        scale = 0.1 if len(shape) == 1 else 1 / np.sqrt(np.prod(shape[:-1]))
        values = random.standard_normal(shape, "float32") * np.float32(scale)
        variable.assign(values + np.float32("gamma" in variable.name))


def inputs(part: str, config: ModelConfig, size: int) -> dict:
    """What the KerasCV network of a part and ours take, from the same numbers."""
    random = np.random.default_rng(1)
    length = config.tokenizer.context_length
    latents = random.normal(size=(2, size // 8, size // 8, 4)).astype("float32")
    if part == "text_encoder":
        tokens = random.integers(0, config.text_encoder.vocabulary_size, (2, length))
        positions = np.broadcast_to(np.arange(length), (2, length))
        tokens = tokens.astype("int32")
        return {"ours": tokens, "theirs": [tokens, positions.astype("int32")]}
    if part == "diffusion_model":
        width = config.diffusion_model.block_widths[0]
        context_width = config.diffusion_model.context_width
        context = random.normal(size=(2, length, context_width)).astype("float32")
        timestep = np.array([1.0, 801.0], "float32")
        angles = timestep[:, None] * np.exp(
            -np.log(10000.0) * np.arange(width // 2) / (width // 2)
        )
        waves = np.concatenate([np.cos(angles), np.sin(angles)], 1).astype("float32")
        return {
            "ours": {"latents": latents, "timestep": timestep, "crossattn": context},
            "theirs": [latents, waves, context],
        }
    if part == "image_encoder":
        latents = random.uniform(-1, 1, (2, size, size, 3)).astype("float32")
    return {"ours": latents, "theirs": latents}


def as_the_original(model) -> None:
    """Undo KerasCV's departures in a built network: the epsilons of its norms."""
    blocks = (
        diffusion_model.SpatialTransformer,
        resnet_block.ResnetBlock,
        attention_block.AttentionBlock,
    )
    # The autoencoder is all of such blocks; of the U-Net only the transformers are.
    top = isinstance(model, keras.Sequential)
    for layer in model._flatten_layers():
        if isinstance(layer, blocks) or (top and layer is model):
            for inner in layer._flatten_layers():
                if isinstance(inner, keras.layers.GroupNormalization):
                    inner.epsilon = 1e-6


def exact_gelu(self, x):
    """KerasCV's GEGLU with the function that its tanh approximates."""
    x = self.dense(x)
    x, gate = x[..., : self.output_dim], x[..., self.output_dim :]
    return x * ops.gelu(gate, approximate=False)


if __name__ == "__main__":
    for part in sys.argv[2:]:
        model = build()[part]()
        randomise(model)
        model.save_weights(Path(sys.argv[1]) / f"{part}.h5")
