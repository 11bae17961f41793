"""A ControlNet to begin with: the U-Net's own way down, which adds nothing yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.networks.quantization import check_plain
from kerasdiffusion.presets.config import ControlNetConfig
from kerasdiffusion.weights.names import canonical_name


def begin_control(
    model, picture_channels: int = 3, picture_widths: Sequence[int] | None = None
) -> ControlNet:
    """A ControlNet for a model, to be taught by `Finetuner`.

    Args:
        model: A `StableDiffusion`, whose U-Net's weights are copied.
        picture_channels: Channels of the pictures that it learns to follow.
        picture_widths: Channels of the convolutions that bring these to the size of
            the latents; all but the last halve the sides. By default the published
            ones, 16, 32, 96 and 256, as far as the model's autoencoder halves.

    Returns:
        A `ControlNet` in float32, whose residuals are zero.

    Raises:
        ValueError: If the widths do not fit the autoencoder, or the U-Net has 8 bits
            or adapters in its weights.

    Example:

    >>> network = begin_control(StableDiffusion.from_preset("emoji"))
    >>> network.config.downsampling
    8

    Reference:
        Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion
        Models", section 3.1; diffusers `models/controlnets/controlnet.py`,
        `from_unet`.
    """
    unet, side = model.diffusion_model, model.config.autoencoder.downsampling
    check_plain(unet)
    if picture_widths is None:
        picture_widths = ControlNetConfig().picture_widths[: side.bit_length()]
    config = ControlNetConfig(
        **dataclasses.asdict(unet.config),
        picture_channels=picture_channels,
        picture_widths=tuple(picture_widths),
    )
    if config.downsampling != side:
        raise ValueError(
            f"`picture_widths` must halve to a {side}th, as the model's autoencoder "
            f"does: {side.bit_length()} widths. Received: {tuple(picture_widths)}"
        )
    network = ControlNet(config, dtype="float32")
    own = {canonical_name(v.path, unet.name): v for v in unet.variables}
    for variable in network.variables:
        found = own.get(canonical_name(variable.path, network.name))
        if found is not None:
            variable.assign(found)
    return network
