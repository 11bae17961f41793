"""Stable Diffusion as a Keras 3 model. Public names; frameworks load when used."""

import importlib
import sys

from kerasdiffusion._version import __version__

_PUBLIC = {
    "StableDiffusion": "kerasdiffusion.tasks.stable_diffusion",
    "save_animation": "kerasdiffusion.pictures.animations",
    "PRESETS": "kerasdiffusion.presets.named",
    "ModelConfig": "kerasdiffusion.presets.config",
    "Request": "kerasdiffusion.requests.request",
    "Control": "kerasdiffusion.requests.control",
    "control_network": "kerasdiffusion.networks.control",
    "ControlNet": "kerasdiffusion.models.controlnet",
    "T2IAdapter": "kerasdiffusion.models.t2i_adapter",
    "Finetuner": "kerasdiffusion.training.finetuning.finetuner",
    "teach": "kerasdiffusion.training.lessons.courses",
    "Lesson": "kerasdiffusion.training.lessons.lesson",
    "begin_control": "kerasdiffusion.training.finetuning.control",
    "Objective": "kerasdiffusion.training.objective",
    "LoRA": "kerasdiffusion.training.finetuning.learned",
    "LoHa": "kerasdiffusion.training.finetuning.learned",
    "LoKr": "kerasdiffusion.training.finetuning.learned",
    "NewWords": "kerasdiffusion.training.finetuning.words",
    "sharded_weights": "kerasdiffusion.compute.devices",
    "Tokenizer": "kerasdiffusion.prompts.tokenizer",
    "TextEncoder": "kerasdiffusion.models.text_encoder",
    "DiffusionModel": "kerasdiffusion.models.diffusion_model",
    "ImageEncoder": "kerasdiffusion.models.autoencoder",
    "Decoder": "kerasdiffusion.models.autoencoder",
    "SAMPLERS": "kerasdiffusion.sampling.samplers",
    "WeightsError": "kerasdiffusion.weights.base",
}

__all__ = ["__version__", *_PUBLIC]
# What KerasCV has and we have under its name alone.
_OF_KERAS_CV = {
    *("NoiseScheduler", "SimpleTokenizer"),
    *("StableDiffusionV2", "TextEncoderV2", "DiffusionModelV2"),
}


def __getattr__(name):
    if name in _PUBLIC:
        if _PUBLIC[name] not in sys.modules:
            from kerasdiffusion.compute.memory import collector_paused

            with collector_paused(importing=True):
                importlib.import_module(_PUBLIC[name])
        return getattr(sys.modules[_PUBLIC[name]], name)
    if name in _OF_KERAS_CV:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}: it is KerasCV's, and "
            f"stands in `kerasdiffusion.keras_cv.models.stable_diffusion.{name}`"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
