"""KerasCV's Stable Diffusion: the model, its networks, tokenizer and noise."""

import importlib

_HOMES = {
    "SimpleTokenizer": "clip_tokenizer",
    "Decoder": "decoder",
    "DiffusionModel": "diffusion_model",
    "DiffusionModelV2": "diffusion_model",
    "ImageEncoder": "image_encoder",
    "NoiseScheduler": "noise_scheduler",
    "StableDiffusion": "stable_diffusion",
    "StableDiffusionV2": "stable_diffusion",
    "TextEncoder": "text_encoder",
    "TextEncoderV2": "text_encoder",
}
_ROOMS = {*_HOMES.values(), "constants"}

__all__ = [*sorted(_HOMES), *sorted(_ROOMS)]


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
