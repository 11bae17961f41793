"""Networks of transformers and diffusers, and ours with their weights."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import keras
import numpy as np
import torch
import transformers

from kerasdiffusion.compute.backend import Program, empty_weights
from kerasdiffusion.networks.parts import PARTS, TINY
from kerasdiffusion.presets.config import TinyAutoencoderConfig
from kerasdiffusion.weights.load import load_weights, read_config
from tests.tiny import lively


def write_peers(
    folder: Path,
    text: dict | None,
    unet: dict,
    vae: dict,
    text_2: dict | None = None,
    scheduler: dict | None = None,
) -> dict:
    """The peers' own networks with random weights, saved by themselves.

    Args:
        folder: Where to, in diffusers' layout.
        text: Arguments of `transformers.CLIPTextConfig`.
        unet: Arguments of `diffusers.UNet2DConditionModel`.
        vae: Arguments of `diffusers.AutoencoderKL`.
        text_2: Arguments of `transformers.CLIPTextConfig` of the second text encoder.
        scheduler: What its configuration file says.

    Returns:
        The networks by the names of their folders.
    """
    tiny = vae.get("num_decoder_blocks")
    autoencoder = diffusers.AutoencoderTiny if tiny else diffusers.AutoencoderKL
    with torch.device("meta"):
        peers = {
            "unet": diffusers.UNet2DConditionModel(**unet),
            "vae": autoencoder(**vae),
        }
        if text is not None:
            peers["text_encoder"] = transformers.CLIPTextModel(
                transformers.CLIPTextConfig(**text)
            )
        if text_2 is not None:
            peers["text_encoder_2"] = transformers.CLIPTextModelWithProjection(
                transformers.CLIPTextConfig(**text_2)
            )
    if scheduler is not None:
        path = folder / "scheduler" / "scheduler_config.json"
        path.parent.mkdir()
        path.write_text(json.dumps(scheduler))
    random = np.random.default_rng(0)
    for name, network in peers.items():
        network.to_empty(device="cpu").eval()
        with torch.no_grad():
            for path, tensor in network.named_parameters():
                tensor.copy_(torch.from_numpy(values(random, path, tensor.shape)))
            for path, tensor in network.named_buffers():  # transformers' position ids
                assert path.endswith("position_ids"), path
                tensor.copy_(torch.arange(tensor.shape[-1]).expand(tensor.shape))
        network.save_pretrained(folder / name)
    return peers


def values(random: np.random.Generator, path: str, shape) -> np.ndarray:
    """`tests.tiny.lively`, by PyTorch's names and in its order of dimensions."""
    if path.endswith("bias") or len(shape) == 1:
        leaf = "beta" if path.endswith("bias") else "gamma"
        return lively(random, leaf, tuple(shape))
    if "embedding.weight" in path:
        return lively(random, "embeddings", tuple(shape))
    kernel = lively(random, "kernel", (*shape[2:], shape[1], shape[0]))
    return np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))


class Ours:
    """Our networks with the weights in a folder.

    Args:
        folder: What `write_peers` wrote.
        parts: Which of them; all by default.
        compiled: Whether to compile them, as `StableDiffusion` does.
    """

    def __init__(self, folder: Path, parts=None, compiled: bool = True):
        self.compiled = compiled
        self.config = read_config(folder)
        self.parts = {}
        with empty_weights():
            for part in parts or self.config.parts:
                network, field = PARTS[part]
                config = getattr(self.config, field)
                network = TINY[part] if is_tiny(config) else network
                self.parts[part] = network(config)
        load_weights(self.parts, folder)

    def __call__(self, part: str, inputs) -> np.ndarray:
        """What a part computes."""
        network = self.parts[part]
        call = Program(network, [network]) if self.compiled else network
        outputs = call(inputs)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def is_tiny(config) -> bool:
    return isinstance(config, TinyAutoencoderConfig)


def channels_first(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1)))


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def assert_same(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4):
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    varies = expected.std() > 0.3 * np.abs(expected).mean()
    assert varies, "an output that hardly varies shows nothing"
    assert np.abs(found - expected).max() / np.abs(expected).max() < tolerance


class Comparison:
    """The same inputs through both, one method for each part."""

    def __init__(self, peers: dict, ours: Ours):
        self.peers, self.ours = peers, ours
        self.random = np.random.default_rng(1)

    def normal(self, *shape) -> np.ndarray:
        return self.random.normal(size=shape).astype("float32")

    def text_encoder(self, batch: int = 2) -> None:
        config = self.ours.config.text_encoder
        size = (batch, config.context_length)
        tokens = self.random.integers(0, config.vocabulary_size, size, "int32")
        with torch.no_grad():
            expected = self.peers["text_encoder"](torch.from_numpy(tokens).long())
        expected = expected.last_hidden_state.numpy()
        assert_same(self.ours("text_encoder", tokens), expected)

    def diffusion_model(self, height: int, width: int, batch: int = 2) -> None:
        """`height` and `width` of the latents."""
        config = self.ours.config.diffusion_model
        inputs = {
            "latents": self.normal(batch, height, width, config.in_channels),
            "timestep": np.linspace(981.0, 7.25, batch, dtype="float32"),
            "crossattn": self.normal(batch, 9, config.context_width),
        }
        with torch.no_grad():
            expected = self.peers["unet"](
                channels_first(inputs["latents"]),
                torch.from_numpy(inputs["timestep"]),
                torch.from_numpy(inputs["crossattn"]),
            ).sample
        found = self.ours("diffusion_model", inputs)
        assert_same(found, channels_last(expected))

    def image_encoder(self, height: int, width: int, batch: int = 2) -> None:
        """`height` and `width` in pixels; mean and variance."""
        images = self.random.uniform(-1, 1, (batch, height, width, 3))
        images = images.astype("float32")
        with torch.no_grad():
            posterior = self.peers["vae"].encode(channels_first(images)).latent_dist
        scale = self.ours.config.autoencoder.scale_factor
        expected = channels_last(posterior.mean) * scale
        assert_same(self.ours("image_encoder", images), expected)
        log_variance = self.ours.parts["image_encoder"].moments(images)[1]
        assert_same(
            keras.ops.convert_to_numpy(log_variance), channels_last(posterior.logvar)
        )

    def decoder(self, height: int, width: int, batch: int = 2) -> None:
        """`height` and `width` of the latents."""
        config = self.ours.config.autoencoder
        latents = self.normal(batch, height, width, config.latent_channels)
        with torch.no_grad():
            scaled = channels_first(latents) / config.scale_factor
            expected = self.peers["vae"].decode(scaled).sample
        assert_same(self.ours("decoder", latents), channels_last(expected))
