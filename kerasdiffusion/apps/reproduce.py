"""From another program's parameters of a picture to the options that make it again.

Those that this library writes are read by `requests.text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kerasdiffusion.apps.foreign import (
    HARMLESS,
    NEUTRAL,
    WEB_UI,
    Program,
    as_ours,
    program_of,
)
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.requests.larger import UPSCALERS
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.sampling.names import SAMPLERS, find_sampler
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.sampling.spacings import find_spacing

# What "Automatic" is in the web UI from 1.9 on; "normal" for the others.
_AUTOMATIC = {
    **dict.fromkeys(("dpmpp_2m", "dpmpp_sde", "dpmpp_2s_ancestral"), "karras"),
    **dict.fromkeys(("dpm_2", "dpm_2_ancestral"), "karras"),
    **dict.fromkeys(("dpmpp_2m_sde", "dpmpp_2m_sde_heun"), "exponential"),
    "dpmpp_3m_sde": "exponential",
}
_OF_OWN_SPACING = ("ddim", "ddpm", "plms", "pndm", "lcm", "tcd", "restart", "dpm_fast")
# Options of samplers, by their labels, and what is given without a sampler's own.
_OF_SAMPLERS = {
    "Eta": "eta",
    "Eta DDIM": "eta",
    "Sigma churn": "s_churn",
    "Sigma noise": "s_noise",
}
_MOST_STEPS = 1000
# What the readers of other programs' pictures write as this library does.
_SHARED = (
    *("timesteps", "prompt_2", "original_size", "target_size", "crop", "clip_skip"),
    "seed_resize_from",
)


def sampling_options(parameters: Mapping, config: ScheduleConfig) -> dict:
    """Keywords of `text_to_image` that sample as the program did that wrote these.

    Args:
        parameters: As `metadata.read_parameters` gives them.
        config: The schedule of the model that paints.

    Returns:
        `sampler`, `rng`, and where they are given or needed `num_steps`, `spacing`,
        `sigmas`, `eta`, `s_churn`, `s_noise`, `variation_seed`, `variation_strength`.

    Raises:
        ValueError: If the sampler or the spacing is unknown, or a number is none.
    """
    version = str(parameters.get("version", ""))
    program = program_of(version)
    options = {"rng": _rng(parameters, program)}
    steps = _steps(parameters)
    if steps is not None:
        options["num_steps"] = steps
    sampler, kind = _sampler(parameters, program)
    for label, name in _OF_SAMPLERS.items():
        # What a sampler does not take changed nothing there either.
        if label in parameters and (not sampler or name in _options(sampler)):
            options[name] = _number(parameters, label)
    if "Variation seed strength" in parameters:
        options["variation_strength"] = _number(parameters, "Variation seed strength")
    if "Variation seed" in parameters and options.get("variation_strength"):
        options["variation_seed"] = int(_number(parameters, "Variation seed"))
    if sampler is None:
        return options
    options["sampler"] = sampler
    if "Timesteps" in parameters:
        options.pop("num_steps", None)
        return options
    own = sampler in _OF_OWN_SPACING and program.rng != "comfy"
    if own or (kind is None and program.default is None):
        return options
    if kind in (None, "Automatic"):
        kind = program.default or "normal"
        if program is WEB_UI and _modern(version):
            kind = _AUTOMATIC.get(sampler, "normal")
    options["spacing"] = find_spacing(program.spacings.get(kind, kind))
    if sampler in program.cut or "Discard penultimate sigma" in parameters:
        if steps is not None:
            more = Schedule(config).spaced(options.pop("spacing"), steps + 1)[0]
            options["sigmas"] = more[:-1].tolist()
            del options["num_steps"]
    return options


def keywords(parameters: Mapping) -> tuple[dict, set[str]]:
    """What another program's picture says of other keywords, and the labels of these.

    Args:
        parameters: As `metadata.read_parameters` gives them.

    Raises:
        ValueError: If a value is none that its keyword takes.
    """
    found, labels = {}, set()
    for name in _SHARED:
        field = FIELDS[name]
        label = "clip_skip" if name == "clip_skip" else field.asked.label
        if label in parameters and parameters[label] not in NEUTRAL.get(label, ()):
            try:
                found[name] = field.asked.kind.read(str(parameters[label]))
            except ValueError as error:
                raise ValueError(f"{label!r} in a picture {error}") from None
            labels.add(label)
    larger = _larger(parameters)
    found |= {name: value for name, (_, value) in larger.items()}
    labels |= {label for label, _ in larger.values()}
    weights = program_of(str(parameters.get("version", ""))).weights
    if weights is not None:
        found["prompt_weighting"] = weights
    return found, labels


def _larger(parameters: Mapping) -> dict[str, tuple[str, object]]:
    """The second pass that a picture tells of: labels and values by field.

    Nothing, if it was enlarged by what is not here.
    """
    if parameters.get("Hires upscaler", UPSCALERS[0]) not in UPSCALERS:
        return {}
    if not {"Hires upscale", "Hires resize"} & set(parameters):
        return {}
    found = {}
    for name, field in FIELDS.items():
        label = "strength" if name == "hires_strength" else field.asked.label
        if not name.startswith("hires_") or label not in parameters:
            continue
        text, value = str(parameters[label]), None
        if not text.startswith("Use same") and text not in ("0", "Automatic"):
            try:
                value = field.asked.kind.read(text)
            except ValueError as error:
                raise ValueError(f"{label!r} in a picture {error}") from None
        if value is not None or name == "hires_strength":
            found[name] = label, 0.0 if value is None else value
    if "hires_size" in found:
        found.pop("hires_scale", None)
    return found


def prompts(parameters: Mapping) -> tuple[str, str | None, list[str]]:
    """The prompts of a picture in this library's language, and what is not followed.

    Args:
        parameters: As `metadata.read_parameters` gives them.
    """
    version = str(parameters.get("version", ""))
    texts = [parameters.get("prompt", ""), parameters.get("negative_prompt")]
    if version.startswith("kerasdiffusion"):
        return texts[0], texts[1], []
    program, remarks = program_of(version), []
    for i, text in enumerate(texts):
        if isinstance(text, str):
            texts[i], remark = as_ours(text, program)
            if remark is not None and remark not in remarks:
                remarks.append(remark)
    return texts[0], texts[1], remarks


def unsupported(parameters: Mapping, followed: Iterable[str] = ()) -> list[str]:
    """What the parameters ask for that is not followed: all that is not known to be.

    Args:
        parameters: As `metadata.read_parameters` gives them.
        followed: Labels that the caller follows.
    """
    version = str(parameters.get("version", ""))
    program = program_of(version)
    known = set(followed) | {"steps", "sampler", "schedule_type", "guidance_scale"}
    known |= {"seed", "width", "height", "Discard penultimate sigma"}
    known |= {"Variation seed", "Variation seed strength"}
    if program.rngs:
        said = str(parameters.get("RNG", parameters.get("rand_device", ""))).lower()
        known |= {"RNG", "rand_device"} if said in program.rngs else set()
    try:
        taken = _options(_sampler(parameters, program)[0])
    except ValueError:
        taken = ()
    known |= {label for label, name in _OF_SAMPLERS.items() if name in taken}
    names = [
        name
        for name, value in parameters.items()
        if name not in known
        and name not in HARMLESS
        and str(value) not in NEUTRAL.get(name, ())
    ]
    if program.rng is None and "seed" in parameters and "RNG" not in known:
        names.append(f"the noise of {program.starts}")
    return names


def _sampler(parameters: Mapping, program: Program):
    """The canonical name of a picture's sampler, and its spacing as it is said."""
    if "sampler" not in parameters:
        return None, None
    label, kind = str(parameters["sampler"]), parameters.get("schedule_type")
    if kind is None and program.starts == "stable-diffusion.cpp":
        label, _, kind = label.partition(" ")  # "euler_a karras"
        kind = kind or None
    # k-diffusion's functions, as the first versions of ComfyUI call them.
    label = label.removeprefix("sample_")
    if program.starts == "InvokeAI" and re.search(r"\w_k$", label):
        label, kind = label[:-2], "karras"
    sampler = find_sampler(program.samplers.get(label, label)).name
    for ending in ("_karras", "_exponential"):  # As the web UI wrote before 1.9.
        if sampler.endswith(ending):
            sampler, kind = sampler.removesuffix(ending), ending[1:]
    return sampler, None if kind is None else str(kind)


def _options(sampler: str | None) -> Mapping:
    return SAMPLERS[sampler].options if sampler else {}


def _steps(parameters: Mapping) -> int | None:
    steps = parameters.get("steps")
    if steps is None:
        return None
    whole = type(steps) in (int, float) and steps == steps // 1
    if not whole or not 1 <= steps <= _MOST_STEPS:
        raise ValueError(
            f"`steps` in a picture must be a whole number from 1 to {_MOST_STEPS}; "
            f"--steps counts more. Received: {str(steps)[:40]}"
        )
    return int(steps)


def _number(parameters: Mapping, label: str) -> float:
    try:
        return float(parameters[label])
    except (TypeError, ValueError):
        raise ValueError(
            f"{label!r} in a picture must be a number. Received: "
            f"{str(parameters[label])[:40]}"
        ) from None


def _rng(parameters: Mapping, program: Program) -> str:
    """Whose noise the seed stands for."""
    said = str(parameters.get("RNG", parameters.get("rand_device", "")))
    if program.rng == "comfy" and str(parameters.get("sampler", "")).endswith("_gpu"):
        return "comfy-gpu"
    return program.rngs.get(said.lower(), program.rng or "torch")


def _modern(version: str) -> bool:
    """Whether it is the web UI from 1.9 on, or a program that follows it."""
    numbers = re.match(r"[vf]?(\d+)\.(\d+)", version)
    return bool(version) and (
        numbers is None or (int(numbers[1]), int(numbers[2])) >= (1, 9)
    )
