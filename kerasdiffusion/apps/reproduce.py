"""From a picture's parameters to the options that make it again.

Reference:
    `modules/sd_samplers_kdiffusion.py` and `modules/sd_schedulers.py` of
    AUTOMATIC1111/stable-diffusion-webui; `comfy/samplers.py` of ComfyUI.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kerasdiffusion.apps.options import RNGS
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.names import find_sampler
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.sampling.spacings import find_spacing

# What "Automatic" is in the web UI from 1.9 on; "normal" for the others.
_AUTOMATIC = {
    **dict.fromkeys(("dpmpp_2m", "dpmpp_sde", "dpmpp_2s_ancestral"), "karras"),
    **dict.fromkeys(("dpm_2", "dpm_2_ancestral"), "karras"),
    **dict.fromkeys(("dpmpp_2m_sde", "dpmpp_2m_sde_heun"), "exponential"),
    "dpmpp_3m_sde": "exponential",
}
# Those of which a step more is spaced and the last but one left out.
_CUT_WEB_UI = ("dpm_2", "dpm_2_ancestral", "dpmpp_3m_sde")
_CUT_COMFY = ("dpm_2", "dpm_2_ancestral", "unipc_3", "unipc_3_bh1")
# Their names of spacings that mean another here, and of samplers likewise.
_SPACINGS_WEB_UI = {"Align Your Steps": "align_your_steps_11"}
_SPACINGS_COMFY = {"beta": "beta_timesteps"}
_SAMPLERS = {"UniPC": "unipc_3_bh1", "uni_pc": "unipc_3_bh1", "DEIS": "deis_3"}
_SAMPLERS |= {"deis": "deis_3"}
_OF_OWN_SPACING = ("ddim", "ddpm", "plms", "pndm", "lcm", "tcd", "restart", "dpm_fast")
# What else changes a picture, and is not followed.
_UNSUPPORTED = re.compile(
    r"Hires|Lora|TI hashes|ControlNet|Refiner|ENSD|FreeU|Tiling|Schedule (min|max|rho)|"
    r"Seed resize|strength|clip_skip|Control \d|Outpaint"
)
_RNGS = {"CPU": "webui-cpu", "NV": "torch-cuda", "GPU": "torch-cuda"}


def sampling_options(parameters: Mapping, config: ScheduleConfig) -> dict:
    """Keywords of `text_to_image` that sample as the program did that wrote these.

    Args:
        parameters: As `write.read_parameters` gives them.
        config: The schedule of the model that paints.

    Returns:
        `sampler`, `rng`, and where they are given or needed `num_steps`, `spacing`,
        `sigmas`, `eta`, `s_churn`, `s_noise`, `variation_seed`, `variation_strength`.

    Raises:
        ValueError: If the sampler or the spacing is unknown.
    """
    version = str(parameters.get("version", ""))
    ours, comfy = version.startswith("kerasdiffusion"), version == "ComfyUI"
    options = {"rng": _rng(parameters, ours, comfy)}
    steps = parameters.get("steps")
    if steps is not None:
        options["num_steps"] = steps
    for name, label in (
        ("eta", "Eta"),
        ("eta", "Eta DDIM"),
        ("s_churn", "Sigma churn"),
        ("s_noise", "Sigma noise"),
        ("variation_strength", "Variation seed strength"),
    ):
        if label in parameters:
            options[name] = float(parameters[label])
    if "Variation seed" in parameters and options.get("variation_strength"):
        options["variation_seed"] = int(parameters["Variation seed"])
    if "sampler" not in parameters:
        return options
    label, kind = str(parameters["sampler"]), parameters.get("schedule_type")
    if ours:
        suffix = f" {kind}" if kind in ("Karras", "Exponential") else ""
        options["sampler"] = find_sampler(label + suffix).name
        if "Spacing" in parameters:
            options["spacing"] = find_spacing(str(parameters["Spacing"]))
        if "Sigmas" in parameters:
            options["sigmas"] = [float(each) for each in parameters["Sigmas"].split()]
            del options["num_steps"]
        return options
    sampler = find_sampler(_SAMPLERS.get(label, label)).name
    for ending in ("_karras", "_exponential"):  # As the web UI wrote before 1.9.
        if sampler.endswith(ending):
            sampler, kind = sampler.removesuffix(ending), ending[1:]
    options["sampler"] = sampler
    if sampler in _OF_OWN_SPACING and not comfy:
        return options
    if kind in (None, "Automatic"):
        kind = _AUTOMATIC.get(sampler, "normal") if _modern(version) else "normal"
    special = _SPACINGS_COMFY if comfy else _SPACINGS_WEB_UI
    options["spacing"] = find_spacing(special.get(kind, kind))
    cut = sampler in (_CUT_COMFY if comfy else _CUT_WEB_UI)
    if (cut or "Discard penultimate sigma" in parameters) and steps is not None:
        more = Schedule(config).spaced(options.pop("spacing"), steps + 1)[0]
        options["sigmas"] = more[:-1].tolist()
        del options["num_steps"]
    return options


def _rng(parameters: Mapping, ours: bool, comfy: bool) -> str:
    """Whose noise the seed stands for; the web UI says so where it is not the GPU's."""
    said = str(parameters.get("RNG", ""))
    if ours:
        return said if said in RNGS else {**_RNGS, "CPU": "torch"}.get(said, "numpy")
    if comfy:
        on_gpu = str(parameters.get("sampler", "")).endswith("_gpu")
        return "comfy-gpu" if on_gpu else "comfy"
    return _RNGS.get(said, "torch-cuda")


def _modern(version: str) -> bool:
    """Whether it is the web UI from 1.9 on, or a program that follows it."""
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    return bool(version) and (
        numbers is None or (int(numbers[1]), int(numbers[2])) >= (1, 9)
    )


def unsupported(parameters: Mapping) -> list[str]:
    """What the parameters ask for that is not followed."""
    return [name for name in parameters if _UNSUPPORTED.match(name)]
