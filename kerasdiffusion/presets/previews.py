"""Latents as cheap pictures: a linear map to colours for each family's latents.

A colour is `latent @ factors + bias`, in [-1, 1]. `training/bundled/fit_preview.py`
fits the map of a model by least squares.

Reference:
    ComfyUI `comfy/latent_formats.py`, `latent_rgb_factors` and their bias: those of
    Stable Diffusion 1 and 2, SDXL, Playground 2.5 and the x4 upscaler.
"""

from __future__ import annotations

from typing import NamedTuple

from kerasdiffusion.presets.config import AutoencoderConfig, ModelConfig


class PreviewMap(NamedTuple):
    """A linear map from latents to colours.

    Args:
        factors: Red, green and blue of each channel.
        bias: Red, green and blue of no latent.
    """

    factors: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


SD = PreviewMap(
    (
        (0.3512, 0.2297, 0.3227),
        (0.3250, 0.4974, 0.2350),
        (-0.2829, 0.1762, 0.2721),
        (-0.2120, -0.2616, -0.7177),
    )
)
SDXL = PreviewMap(
    (
        (0.3651, 0.4232, 0.4341),
        (-0.2533, -0.0042, 0.1068),
        (0.1076, 0.1111, -0.0362),
        (-0.3165, -0.2492, -0.2188),
    ),
    (0.1084, -0.0175, -0.0011),
)
PLAYGROUND = PreviewMap(
    (
        (0.3920, 0.4054, 0.4549),
        (-0.2634, -0.0196, 0.0653),
        (0.0568, 0.1687, -0.0755),
        (-0.3112, -0.2359, -0.2076),
    )
)
UPSCALER = PreviewMap(
    (
        (-0.2340, -0.3863, -0.3257),
        (0.0994, 0.0885, -0.0908),
        (-0.2833, -0.2349, -0.3741),
        (0.2523, -0.0055, -0.1651),
    )
)
#: `python -m kerasdiffusion.training.bundled.fit_preview emoji`
EMOJI = PreviewMap(
    (
        (0.1627, -0.0364, -0.3142),
        (-0.0129, 0.2533, -0.2250),
        (-0.0722, -0.0620, -0.4948),
        (-0.0604, 0.0425, -0.1435),
        (-0.1567, -0.0735, 0.2613),
        (-0.2020, 0.0131, -0.3297),
        (0.1163, -0.0685, 0.1747),
        (0.3549, 0.1806, 0.1370),
    ),
    (0.2401, -0.0163, 0.0396),
)

#: By channels and scale factor, which tell the families' latents apart.
PREVIEWS = {
    (4, 0.18215): SD,
    (4, 0.13025): SDXL,
    (4, 0.5): PLAYGROUND,
    (4, 0.08333): UPSCALER,
    (8, 0.6886515021324158): EMOJI,
}


def find_preview(config: ModelConfig) -> PreviewMap | None:
    """The map of a model's latents; `None` where none was fitted."""
    latents = config.autoencoder
    if not isinstance(latents, AutoencoderConfig):
        return None
    return PREVIEWS.get((latents.latent_channels, latents.scale_factor))
