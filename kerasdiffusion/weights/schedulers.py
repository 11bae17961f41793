"""Which sampler a folder's `scheduler_config.json` asks for.

Diffusers' pipelines paint by the scheduler that lies in the folder: so do ours, by the
sampler that stands for it. What no sampler here does is named in one warning.

Reference:
    diffusers `schedulers/scheduling_*.py`, each class's arguments and `set_timesteps`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from kerasdiffusion.sampling.names import ALIASES, SAMPLERS
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.weights.fields import Fields

#: What `timestep_spacing` may be.
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
#: Ways from the training steps' noise to the steps' by the noise alone.
OVER_SIGMAS = ("karras", "exponential", "beta")
#: Of those that take the ends of these from the spaced steps, not from the training's.
FROM_SPACED = (
    "EulerDiscreteScheduler LMSDiscreteScheduler HeunDiscreteScheduler "
    "KDPM2DiscreteScheduler KDPM2AncestralDiscreteScheduler DPMSolverSDEScheduler"
).split()
#: Arguments at which a sampler here stands for the class, where that is one value.
KEPT = {
    "clip_sample": False,
    "disable_corrector": [],
    "dynamic_thresholding_ratio": None,
    "euler_at_final": False,
    "final_sigmas_type": "zero",
    "interpolation_type": "linear",
    "lower_order_final": True,
    "original_inference_steps": 50,
    "predict_x0": True,
    "rho": 7.0,
    "skip_prk_steps": True,
    "solver_p": None,
    "timestep_scaling": 10.0,
    "use_lu_lambdas": False,
}
#: What an argument is where a class's file does not say, and it is not the kept value.
UNSAID = {
    "DDIMScheduler": {"clip_sample": True},
    "DDPMScheduler": {"clip_sample": True},
    "PNDMScheduler": {"skip_prk_steps": False},
}


def sampling_of(values: Mapping, where: str, clips: bool) -> tuple[str, str | None]:
    """The sampler of a scheduler's file, and how its steps are spaced.

    Args:
        values: The JSON object.
        where: Its file, for messages.
        clips: Whether the pipeline heeds `clip_sample` (SDXL's does).

    Returns:
        A name in `SAMPLERS`, and a spacing or `None` for the sampler's own.

    Raises:
        WeightsError: If a field has a value that diffusers does not know either.
    """
    fields = Fields(values, where)
    name = fields.take("_class_name", "PNDMScheduler")
    spacing = fields.take("timestep_spacing")
    if spacing not in (None, *TIMESTEP_SPACINGS):
        fields.refuse("timestep_spacing", spacing)
    unsaid = UNSAID.get(name, {})
    found = {**unsaid, **{key: value for key, value in fields.values.items()}}
    if not clips:
        found.pop("clip_sample", None)
    strange = {
        key: found[key]
        for key, kept in KEPT.items()
        if found.get(key, kept) not in (kept, None) and kept is not None
    }
    sampler = _sampler(name, found, strange)
    for way in OVER_SIGMAS:
        if found.get(f"use_{way}_sigmas") is True:
            sampler, spacing = _over_sigmas(name, sampler, way, spacing, strange)
    if found.get("timestep_type") != "continuous":
        for end in ("sigma_min", "sigma_max"):
            if isinstance(found.get(end), (int, float)) and not name.startswith("EDM"):
                strange[end] = found[end]
    if strange:
        settings = ", ".join(f"{key}={shown(value)}" for key, value in strange.items())
        warnings.warn(
            f"The folder's scheduler, {name}, has settings that are not followed: "
            f"{settings}. Its pictures are made by {sampler}, unless `sampler` says "
            f"otherwise. Received: {where}",
            UserWarning,
            stacklevel=2,
        )
    return sampler, spacing


def _sampler(name: str, found: Mapping, strange: dict) -> str:
    """The sampler of a class, with what it cannot do noted in `strange`."""
    order = found.get("solver_order", 2)
    kind = found.get("solver_type")
    algorithm = found.get("algorithm_type")
    if name == "DPMSolverSinglestepScheduler":
        strange["_class_name"] = name
        return "dpmpp_2m"
    if name.startswith("EDM"):
        way = found.get("sigma_schedule") or "karras"
        base = "euler" if name == "EDMEulerScheduler" else "dpmpp_2m"
        return f"{base}_{way}" if f"{base}_{way}" in SAMPLERS else f"{base}_karras"
    if name == "DPMSolverMultistepScheduler":
        if order != 2:
            strange["solver_order"] = order
        if algorithm in ("dpmsolver", "sde-dpmsolver"):
            strange["algorithm_type"] = algorithm
        if str(algorithm).startswith("sde-"):
            return "dpmpp_2m_sde_heun" if kind == "heun" else "dpmpp_2m_sde"
        if kind not in (None, "midpoint"):
            strange["solver_type"] = kind
        return "dpmpp_2m"
    if name == "UniPCMultistepScheduler":
        if order not in (2, 3):
            strange["solver_order"] = order
        if kind not in (None, "bh1", "bh2"):
            strange["solver_type"] = kind
        three = "_3" * (order == 3)
        return f"unipc{three}{'_bh1' * (kind == 'bh1')}"
    if name == "DEISMultistepScheduler":
        if order not in (2, 3):
            strange["solver_order"] = order
        return "deis_3" if order == 3 else "deis"
    return ALIASES[name]


def _over_sigmas(name, sampler, way, spacing, strange) -> tuple[str, str | None]:
    if name in FROM_SPACED and spacing in ("leading", "trailing"):
        return sampler, f"{way}_{spacing}"
    if f"{sampler}_{way}" in SAMPLERS:
        return f"{sampler}_{way}", None
    if way == "beta":
        return sampler, way
    strange[f"use_{way}_sigmas"] = True
    return sampler, spacing
