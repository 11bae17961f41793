"""What AUTOMATIC1111's API lists: samplers, schedulers, models, adapters, upscalers.

Reference:
    `modules/api/api.py` and `modules/api/models.py` of
    AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

import os

from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.requests.larger import OF_LATENTS
from kerasdiffusion.requests.web_ui_names import ALONE, SCHEDULE_TYPES, WEB_UI_NAMES

#: The version whose API this is.
VERSION = "v1.10.1"
# What it calls spacings that have another name here.
_OTHERS = {"align_your_steps_11": "align_your_steps", "ddim_uniform": "ddim"}
#: Its schedulers: name and label.
SCHEDULERS = {"automatic": "Automatic", "uniform": "Uniform"} | {
    _OTHERS.get(spacing, spacing): label for spacing, label in SCHEDULE_TYPES.items()
}
#: How pictures are made larger without a network.
UPSCALERS = ("None", "Lanczos", "Nearest")


def samplers() -> list[dict]:
    """Its `/samplers`."""
    found = {}
    for name in ALONE:
        label = WEB_UI_NAMES[name][0]
        found.setdefault(
            label, {"name": label, "aliases": [f"k_{name}"], "options": {}}
        )
    return list(found.values())


def schedulers() -> list[dict]:
    """Its `/schedulers`."""
    return [
        {
            "name": name,
            "label": label,
            "aliases": None,
            "default_rho": 7.0 if name == "karras" else -1.0,
            "need_inner_model": False,
        }
        for name, label in SCHEDULERS.items()
    ]


def upscalers() -> list[dict]:
    """Its `/upscalers`."""
    return [
        {
            "name": name,
            "model_name": None,
            "model_path": None,
            "model_url": None,
            "scale": 4.0,
        }
        for name in UPSCALERS
    ]


def latent_modes() -> list[dict]:
    """Its `/latent-upscale-modes`."""
    return [{"name": name} for name in OF_LATENTS]


def sd_models(models: Models) -> list[dict]:
    """Its `/sd-models`; where files are is nobody's business."""
    return [
        {
            "title": name,
            "model_name": name,
            "hash": None,
            "sha256": None,
            "filename": os.path.basename(source) or name,
            "config": None,
        }
        for name, source in models.names().items()
    ]


def loras(models: Models) -> list[dict]:
    """Its `/loras`."""
    return [
        {"name": name, "alias": name, "path": path.name, "metadata": {}}
        for name, path in models.adapter_files().items()
    ]


def styles(models: Models) -> list[dict]:
    """Its `/prompt-styles`."""
    return [
        {"name": name, **style._asdict()} for name, style in models.styles.all().items()
    ]


def memory(models: Models) -> dict:
    """Its `/memory`: what this process has, and what weights take."""
    found: dict = {"free": 0, "used": 0, "total": 0}
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found = {"free": free, "used": pages - free, "total": pages}
    except (AttributeError, OSError, ValueError):
        pass
    weights = sum(models.loaded().values())
    return {"ram": found, "cuda": {"error": "not told"}, "weights": weights}


def scripts(models: Models) -> dict:
    """Its `/scripts`."""
    there = ["controlnet"] if models.control_files() else []
    return {"txt2img": there, "img2img": there}


def scheduler_label(name) -> str | None:
    """The label of a scheduler, by its name or its label."""
    if name is None or name == "":
        return None
    text = str(name)
    by_name = {key.lower(): label for key, label in SCHEDULERS.items()}
    by_name |= {label.lower(): label for label in SCHEDULERS.values()}
    return by_name.get(text.lower(), text)
