"""The noise that diffusers' `scheduler_config.json` describes, and our configuration.

Reference:
    diffusers `schedulers/scheduling_*.py` for the fields and their defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.weights.fields import DIFFUSERS_VERSION, Fields
from kerasdiffusion.weights.schedulers import TIMESTEP_SPACINGS

SCHEDULER_FIXED = {
    "thresholding": False,
    "use_flow_sigmas": False,
    "variance_type": None,
}
SCHEDULERS = (
    "DDIMScheduler DDPMScheduler PNDMScheduler LMSDiscreteScheduler "
    "EulerDiscreteScheduler EulerAncestralDiscreteScheduler HeunDiscreteScheduler "
    "DPMSolverMultistepScheduler DPMSolverSinglestepScheduler UniPCMultistepScheduler "
    "DEISMultistepScheduler KDPM2DiscreteScheduler KDPM2AncestralDiscreteScheduler "
    "DPMSolverSDEScheduler LCMScheduler TCDScheduler EDMEulerScheduler "
    "EDMDPMSolverMultistepScheduler"
).split()
BETA_SCHEDULES = ("scaled_linear", "linear", "squaredcos_cap_v2")
# Whose `set_alpha_to_one` is true where it is not written.
ENDS_AT_ONE = ("DDIMScheduler", "LCMScheduler", "TCDScheduler")


def schedule_from_json(
    values: Mapping, where: str = "scheduler", steps_offset: int | None = 1
) -> ScheduleConfig:
    """The noise that diffusers' `scheduler/scheduler_config.json` describes.

    Args:
        values: The JSON object.
        where: Its file, for messages.
        steps_offset: What the pipeline makes of the field of that name, 1 for Stable
            Diffusion 1 and 2; `None` if it leaves it as it is (SDXL, LCM).

    Returns:
        A `ScheduleConfig`.

    Raises:
        WeightsError: Naming the field, where it describes something else.
    """
    fields = Fields(values, where)
    name = fields.take("_class_name", "PNDMScheduler")
    if not isinstance(name, str) or name not in SCHEDULERS:
        fields.refuse("_class_name", name)
    if name.startswith("EDM"):
        return _range_from_json(fields)
    offset = fields.whole("steps_offset", 0, "train_steps", 0)
    betas = fields.take("trained_betas", ())
    fields.check("train_steps", len(betas) if isinstance(betas, list) else 0)
    if not isinstance(betas, (list, tuple)) or not all(
        type(beta) in (int, float) and 0 < beta < 1 for beta in betas
    ):
        fields.refuse("trained_betas", betas)
    train_steps = fields.whole("num_train_timesteps", 1000, "train_steps")
    if betas and len(betas) != train_steps:
        fields.refuse("num_train_timesteps", train_steps)
    config = ScheduleConfig(
        beta_schedule=fields.take("beta_schedule", "linear"),
        beta_start=fields.number("beta_start", 0.0001, 0, 1),
        beta_end=fields.number("beta_end", 0.02, 0, 1),
        train_steps=train_steps,
        prediction_type=fields.take("prediction_type", "epsilon"),
        steps_offset=offset if steps_offset is None else steps_offset,
        final_alpha_one=bool(fields.take("set_alpha_to_one", name in ENDS_AT_ONE)),
        zero_terminal_snr=bool(fields.take("rescale_betas_zero_snr", False)),
        trained_betas=tuple(map(float, betas)),
    )
    if config.beta_schedule not in BETA_SCHEDULES:
        fields.refuse("beta_schedule", config.beta_schedule)
    if config.prediction_type not in ("epsilon", "v_prediction", "sample"):
        fields.refuse("prediction_type", config.prediction_type)
    if config.beta_start > config.beta_end:
        fields.refuse("beta_start", config.beta_start)
    variance = fields.take("variance_type", "")
    if not isinstance(variance, str) or variance.startswith("learned"):
        fields.refuse("variance_type", variance)
    kind = fields.take("timestep_type", "discrete")
    if kind not in ("discrete", "continuous"):
        fields.refuse("timestep_type", kind)
    # Of these two diffusers heeds the second with v-prediction alone.
    if kind == "continuous" and config.prediction_type == "v_prediction":
        config = _continuous(fields, config)
    fields.finish(SCHEDULER_FIXED, set(fields.values) - set(SCHEDULER_FIXED))
    return config


def _continuous(fields: Fields, config: ScheduleConfig) -> ScheduleConfig:
    """The noise of a network that is told of it as in Karras et al. 2022."""
    ends = [fields.take("sigma_min"), fields.take("sigma_max")]
    over = [fields.take(f"use_{way}_sigmas") for way in ("karras", "exponential")]
    if None in ends or True not in over:
        return dataclasses.replace(config, timestep_type="continuous")
    for name, end in zip(("sigma_min", "sigma_max"), ends, strict=True):
        if type(end) not in (int, float) or not 0 < end < 1e6 or ends[0] >= ends[1]:
            fields.refuse(name, end)
    low, high = map(float, ends)
    return dataclasses.replace(config, sigma_min=low, sigma_max=high)


def _range_from_json(fields: Fields) -> ScheduleConfig:
    """The noise of a network that was trained on a range of noise levels."""
    kinds = {"epsilon": "edm", "v_prediction": "v_prediction"}
    kind = fields.take("prediction_type", "epsilon")
    if not isinstance(kind, str) or kind not in kinds:
        fields.refuse("prediction_type", kind)
    return ScheduleConfig(
        train_steps=fields.whole("num_train_timesteps", 1000, "train_steps"),
        prediction_type=kinds[kind],
        sigma_min=fields.number("sigma_min", 0.002, 0, 1e6),
        sigma_max=fields.number("sigma_max", 80.0, 0, 1e6),
        sigma_data=fields.number("sigma_data", 0.5, 0, 1e6),
    )


def schedule_to_json(
    config: ScheduleConfig, spacing: str | None = None, any_offset: bool = False
) -> dict:
    """Diffusers' `scheduler/scheduler_config.json` of a schedule: DDIM's or EDM's.

    Args:
        config: The schedule.
        spacing: The model's, if it is one of `TIMESTEP_SPACINGS`.
        any_offset: Whether the pipeline takes any `steps_offset` (SDXL's).
    """
    if config.steps_offset != 1 and not any_offset:
        raise ValueError(
            f"Diffusers knows `steps_offset` 1 only. Received: {config.steps_offset}"
        )
    if config.is_continuous:
        edm = config.prediction_type == "edm"
        return {
            "_class_name": "EDMDPMSolverMultistepScheduler",
            "_diffusers_version": DIFFUSERS_VERSION,
            "num_train_timesteps": config.train_steps,
            "prediction_type": "epsilon" if edm else config.prediction_type,
            "sigma_data": config.sigma_data,
            "sigma_max": config.sigma_max,
            "sigma_min": config.sigma_min,
            "sigma_schedule": "karras" if edm else "exponential",
        }
    spaced = {"timestep_spacing": spacing} if spacing in TIMESTEP_SPACINGS else {}
    kind = {"_class_name": "DDIMScheduler"}
    if config.timestep_type == "continuous":
        kind = {
            "_class_name": "EulerDiscreteScheduler",
            "timestep_type": "continuous",
        }
    return {
        **kind,
        "_diffusers_version": DIFFUSERS_VERSION,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "beta_start": config.beta_start,
        "clip_sample": False,
        "num_train_timesteps": config.train_steps,
        "prediction_type": config.prediction_type,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "set_alpha_to_one": config.final_alpha_one,
        "steps_offset": config.steps_offset,
        "trained_betas": list(config.trained_betas) or None,
        **spaced,
    }
