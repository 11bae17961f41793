"""KerasCV's models."""

import importlib

__all__ = ["StableDiffusion", "StableDiffusionV2", "stable_diffusion"]


def __getattr__(name):
    if name in __all__:
        room = importlib.import_module(f"{__name__}.stable_diffusion")
        return room if name == "stable_diffusion" else getattr(room, name)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}: of KerasCV's models it has "
        "Stable Diffusion alone"
    )


def __dir__():
    return sorted(__all__)
