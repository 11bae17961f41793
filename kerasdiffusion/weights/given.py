"""A model's configuration where some of its parts come from elsewhere.

A source that lacks a part is a model all the same, if the part is given; and a model
that lacks one that nobody gives is refused here, with what to give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    ModelConfig,
    TextEncoderConfig,
)
from kerasdiffusion.presets.families import (
    BIG_G,
    SD1,
    UPSCALER,
    VIT_H,
    VIT_L_PENULTIMATE,
    XL_AUTOENCODER,
)
from kerasdiffusion.weights.base import WeightsError

#: The keyword that gives a part, by the field of `ModelConfig` that describes it.
KEYWORDS = {
    "autoencoder": "vae",
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
    "diffusion_model": "unet",
}
_NAMES = {
    "autoencoder": "autoencoder",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
    "diffusion_model": "U-Net",
}


@dataclass
class Given:
    """Parts of a model that come from elsewhere.

    Args:
        sources: Where from, by field of `ModelConfig`.
        read: From a field and the configuration that its family has, or `None`, to the
            configuration of the part that is given.

    Attributes:
        absent: The fields that the model's own source lacks, once it was read.
    """

    sources: Mapping[str, object] = field(default_factory=dict)
    read: Callable | None = None
    absent: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        return name in self.sources

    def __bool__(self) -> bool:
        return bool(self.sources)

    def instead(self, name: str, source, usual=None):
        """The configuration of a part that the model's own source lacks.

        Args:
            name: Its field.
            source: The model's own, for the message.
            usual: The configuration that its family has.

        Raises:
            WeightsError: If the part is not given either.
        """
        if name not in self:
            refuse_absent(name, source)
        self.absent.add(name)
        return self.read(name, usual)


def refuse_absent(name: str, source) -> None:
    """Says that a model lacks a part, and how to give it.

    Raises:
        WeightsError: Always.
    """
    keyword = KEYWORDS[name]
    raise WeightsError(
        f"The model has no {_NAMES[name]}: pass one as `{keyword}` "
        f"(--{keyword.replace('_', '-')}), a folder, a file or hf://owner/name. "
        f"Received: {source}"
    )


def usual_autoencoder(network: DiffusionModelConfig) -> AutoencoderConfig:
    """The autoencoder that a U-Net's family has."""
    if network.vector_width:
        return XL_AUTOENCODER
    return UPSCALER.autoencoder if network.noise_levels else SD1.autoencoder


def usual_text_encoder(network: DiffusionModelConfig, name: str) -> TextEncoderConfig:
    """The text encoder that a U-Net's family has."""
    if network.vector_width:
        refiner = network.context_width == BIG_G.width
        second = name == "text_encoder_2" or refiner
        return BIG_G if second else VIT_L_PENULTIMATE
    return VIT_H if network.context_width == VIT_H.width else SD1.text_encoder


def wanted_encoders(network: DiffusionModelConfig, there: Mapping, given) -> list[str]:
    """Which text encoders a model of this U-Net has.

    Args:
        network: The U-Net's configuration.
        there: Those that were found, by field: of a folder's own name.
        given: Parts that come from elsewhere.

    Returns:
        Their fields, in order. A refiner's one is called the second in its folder.
    """
    if not network.vector_width:
        return ["text_encoder"]
    second = there.get("text_encoder_2")
    alone = second is not None and second.width == network.context_width
    if alone and "text_encoder" not in there:
        return ["text_encoder_2"]
    is_second = second is not None or "text_encoder_2" in given
    return ["text_encoder", *["text_encoder_2"] * is_second]


def check_whole(config: ModelConfig, source: str | Path | None = None) -> None:
    """That text encoders, U-Net and autoencoder fit each other.

    Args:
        config: The model's.
        source: Where it comes from, for the message.

    Raises:
        WeightsError: If they do not, with what is missing.
    """
    network, widths = config.diffusion_model, config.text_width
    pooled = config.text_encoders[-1].projection_width
    if network.vector_width and (widths < network.context_width or not pooled):
        if config.text_encoder_2 is None:
            refuse_absent("text_encoder_2", source)
    if widths != network.context_width:
        each = " + ".join(str(encoder.width) for encoder in config.text_encoders)
        raise WeightsError(
            f"The text encoders must give the {network.context_width} channels that "
            f"the U-Net takes. Received: {each} in {source}"
        )
    if network.vector_width and not 0 < pooled < network.vector_width:
        raise WeightsError(
            "The last text encoder must give the pooled text that the U-Net takes, in "
            f"{network.vector_width} channels with its size ids. Received: {pooled} "
            f"channels in {source}"
        )
    latents = config.autoencoder.latent_channels
    if latents != network.out_channels:
        raise WeightsError(
            f"The autoencoder must have the {network.out_channels} channels of latents "
            f"that the U-Net gives. Received: {latents} in {source}"
        )
