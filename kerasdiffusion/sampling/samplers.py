"""Samplers by name: what each name stands for, and the table that it gives."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from kerasdiffusion.config import ScheduleConfig
from kerasdiffusion.sampling import methods
from kerasdiffusion.sampling.schedule import Schedule, scalings
from kerasdiffusion.sampling.table import COLUMNS, Row, Table, stack


@dataclass(frozen=True)
class Sampler:
    """What a sampler's name stands for.

    Args:
        name: The canonical name.
        function: From sigmas to rows.
        spacing: The spacing where the user asks for none.
        options: What a user may set, with the defaults.
        fixed: What the name itself sets.
        sees_prediction_type: Whether the function takes `prediction_type`.
        integer_timesteps: Whether the network sees whole timesteps only.
        open_end: See `Schedule.spaced`.
        ends_at_first_sigma: Whether the last step ends, where the schedule says so
            (`final_alpha_one=False`), at the first training step's noise, not at 0.
        unit_start: Whether unit noise stands for the noisy latents of variance 1,
            signal included, as in DDIM, and not for the noise alone.
    """

    name: str
    function: Callable[..., list[Row]]
    spacing: str = "linspace"
    options: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    sees_prediction_type: bool = False
    integer_timesteps: bool = False
    open_end: bool = False
    ends_at_first_sigma: bool = False
    unit_start: bool = False


# The defaults are those of diffusers' scheduler of the same name when it is made from
# Stable Diffusion 1.5's scheduler_config.json.
_DDIM = Sampler(
    "ddim",
    methods.ancestral,
    spacing="leading",
    options={"eta": 0.0},
    integer_timesteps=True,
    ends_at_first_sigma=True,
    unit_start=True,
)
_PLAIN = (
    _DDIM,
    replace(
        _DDIM, name="ddpm", options={}, fixed={"eta": 1.0}, ends_at_first_sigma=False
    ),
    replace(
        _DDIM, name="pndm", function=methods.pndm, options={}, sees_prediction_type=True
    ),
    replace(_DDIM, name="plms", function=methods.plms, options={}),
    Sampler("euler", methods.ancestral, fixed={"eta": 0.0}),
    Sampler("euler_ancestral", methods.ancestral, options={"eta": 1.0}),
    Sampler("lms", methods.lms),
    Sampler("heun", methods.heun),
    Sampler(
        "dpmpp_2m",
        methods.dpmpp_2m,
        integer_timesteps=True,
        open_end=True,
        unit_start=True,
    ),
)
_WITH_KARRAS = ("euler", "euler_ancestral", "lms", "heun", "dpmpp_2m")

SAMPLERS: dict[str, Sampler] = {sampler.name: sampler for sampler in _PLAIN}
SAMPLERS.update(
    (f"{name}_karras", replace(SAMPLERS[name], name=f"{name}_karras", spacing="karras"))
    for name in _WITH_KARRAS
)

ALIASES: dict[str, str] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "PNDMScheduler": "pndm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "LMSDiscreteScheduler": "lms",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "Euler a": "euler_ancestral",
    "Euler a Karras": "euler_ancestral_karras",
    "k_euler": "euler",
    "k_euler_a": "euler_ancestral",
    "k_lms": "lms",
    "k_heun": "heun",
    "k_dpmpp_2m": "dpmpp_2m",
    "DPM-Solver++": "dpmpp_2m",
    "DPM-Solver++(2M)": "dpmpp_2m",
}


def _plain(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))


_BY_PLAIN_NAME = {_plain(name): name for name in SAMPLERS}
_BY_PLAIN_NAME.update((_plain(alias), name) for alias, name in ALIASES.items())


def find_sampler(name: str) -> Sampler:
    """The sampler of a name.

    Args:
        name: A key of `SAMPLERS` (k-diffusion's names) or of `ALIASES` (AUTOMATIC1111's
            and diffusers' names). Case, spaces and punctuation do not matter.

    Returns:
        The `Sampler`.

    Raises:
        TypeError: If the name is not a string.
        ValueError: If there is none of that name; the message has the near ones.

    Example:

    >>> find_sampler("DPM++ 2M Karras").name
    'dpmpp_2m_karras'
    """
    if not isinstance(name, str):
        raise TypeError(f"`sampler` must be a string. Received: {name!r}")
    plain = _plain(name)
    if plain in _BY_PLAIN_NAME:
        return SAMPLERS[_BY_PLAIN_NAME[plain]]
    near = difflib.get_close_matches(plain, _BY_PLAIN_NAME, n=5, cutoff=0.5)
    near = list(dict.fromkeys(_BY_PLAIN_NAME[match] for match in near))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"`sampler` must be one of {', '.join(SAMPLERS)}.{hint} Received: {name!r}"
    )


def make_table(
    config: ScheduleConfig,
    sampler: str,
    num_steps: int,
    *,
    spacing: str | None = None,
    eta: float | None = None,
    first_step: int = 0,
) -> Table:
    """The table of a sampler.

    Args:
        config: The noise that the network was trained with.
        sampler: A name that `find_sampler` knows.
        num_steps: Number of steps, 1 to `config.train_steps`. Some samplers call the
            network more often than that.
        spacing: One of `schedule.SPACINGS`; `None` takes the sampler's own.
        eta: The share of fresh noise, at least 0, for samplers that take it (DDIM,
            Euler-ancestral); `None` takes the sampler's own.
        first_step: The step to begin with, 0 to `num_steps - 1`, for latents that are
            noisy already to `table.sigmas[0]`.

    Returns:
        A `Table`, whose last row returns latents at unit scale.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the sampler takes no eta.

    Example:

    >>> table = make_table(ScheduleConfig(), "heun", 20)
    >>> len(table), table.rows.shape
    (39, (39, 20))
    """
    kind = find_sampler(sampler)
    num_steps = _whole("num_steps", num_steps, 1, config.train_steps)
    first_step = _whole("first_step", first_step, 0, num_steps - 1)
    options = {**kind.options, **kind.fixed}
    if eta is not None:
        options["eta"] = _checked_eta(kind, eta)
    if kind.sees_prediction_type:
        options["prediction_type"] = config.prediction_type

    schedule = Schedule(config)
    spacing = kind.spacing if spacing is None else spacing
    sigmas, timesteps = schedule.spaced(
        spacing,
        num_steps,
        integer_timesteps=kind.integer_timesteps,
        open_end=kind.open_end,
    )
    sigmas, timesteps = sigmas[first_step:], timesteps[first_step:]
    to_first_sigma = kind.ends_at_first_sigma and not config.final_alpha_one
    end = schedule.sigmas[0] if to_first_sigma else 0.0

    levels = np.append(sigmas, end)
    rows = kind.function(levels, **options)
    # A level of the grid has its timestep; one between two levels is looked up.
    seen = [row.sigma for row in rows]
    known = dict(zip(seen, schedule.timestep_at(seen).tolist(), strict=True))
    known.update(zip(sigmas.tolist(), timesteps.tolist(), strict=True))
    values = stack(rows, known, scalings(config.prediction_type, seen))
    unit_scale = 1.0 / math.sqrt(1.0 + end**2)
    values[-1, COLUMNS.x] *= unit_scale
    values[-1, COLUMNS.noise] *= unit_scale

    whole = first_step == 0 and (kind.unit_start or spacing == "leading")
    return Table(
        sampler=kind.name,
        values=values,
        sigmas=levels,
        timesteps=timesteps,
        steps=np.array([row.step for row in rows]) + first_step,
        num_steps=num_steps,
        initial_scale=math.hypot(sigmas[0], 1.0) if whole else float(sigmas[0]),
    )


def _whole(name: str, value: int, low: int, high: int) -> int:
    rule = f"`{name}` must be a whole number from {low} to {high}. Received: {value!r}"
    if isinstance(value, bool):
        raise TypeError(rule)
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(rule) from None
    if not low <= value <= high:
        raise ValueError(rule)
    return value


def _checked_eta(kind: Sampler, eta: float) -> float:
    if "eta" not in kind.options:
        takers = [
            name for name, sampler in SAMPLERS.items() if "eta" in sampler.options
        ]
        raise ValueError(
            f"The sampler {kind.name} takes no `eta`; {', '.join(takers)} do. "
            f"Received: eta={eta!r}"
        )
    if isinstance(eta, bool) or not isinstance(eta, numbers.Real):
        raise TypeError(f"`eta` must be a number. Received: {eta!r}")
    if not (math.isfinite(eta) and eta >= 0.0):
        raise ValueError(f"`eta` must be at least 0 and finite. Received: {eta!r}")
    return float(eta)
