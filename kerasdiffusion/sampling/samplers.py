"""From a sampler's name, a number of steps and a schedule to a table."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence

import numpy as np

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.names import ALIASES, SAMPLERS, Sampler, find_sampler
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.sampling.spacings import find_spacing
from kerasdiffusion.sampling.table import COLUMNS, Table, stack

__all__ = [
    "ALIASES",
    "SAMPLERS",
    "Sampler",
    "find_sampler",
    "make_table",
    "usual_spacing",
]


#: Samplers that other programs take by training steps, and not from k-diffusion.
BY_TIMESTEPS = ("ddim", "ddpm", "pndm", "plms", "unipc")


def make_table(
    config: ScheduleConfig,
    sampler: str,
    num_steps: int | None = None,
    *,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    spacing: str | None = None,
    eta: float | None = None,
    s_churn: float | None = None,
    s_noise: float | None = None,
    first_step: int = 0,
    program: str = "diffusers",
) -> Table:
    """The table of a sampler.

    Args:
        config: The noise that the network was trained with.
        sampler: A name that `find_sampler` knows.
        num_steps: Number of steps, 1 to `config.train_steps`. Some samplers call the
            network more often than that.
        timesteps: In place of `num_steps`, the training steps that the steps start
            from, falling, 0 to `config.train_steps - 1`.
        sigmas: In place of `num_steps`, the noise levels that the steps start from,
            falling and above 0; a 0 may follow, where the last step ends anyway.
        spacing: One of `spacings.SPACINGS`, or what other programs call it; `None`
            takes the sampler's own.
        eta: The share of fresh noise, at least 0, for samplers that take it (DDIM,
            the ancestral and the SDE ones, TCD); `None` takes the sampler's own.
        s_churn: Noise that Euler, Heun, Heun++ and DPM2 add ahead of each step, at
            least 0, spread over the steps (Karras et al. 2022, algorithm 2).
        s_noise: What fresh noise is multiplied by, at least 0.
        first_step: The step to begin with, 0 to `num_steps - 1`, for latents that are
            noisy already to `table.sigmas[0]`.
        program: Whose run it is, where samplers are alike but for this. With
            `"webui"` (AUTOMATIC1111's) and `"comfy"` no timestep is rounded for
            k-diffusion's samplers, and they begin with noise of the first sigma, or of
            a variance that is 1 higher.

    Returns:
        A `Table`, whose last row returns latents at unit scale.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the sampler takes
            no such option.

    Example:

    >>> table = make_table(ScheduleConfig(), "heun", 20)
    >>> len(table), table.rows.shape
    (39, (39, 34))
    """
    kind = find_sampler(sampler)
    options = _checked_options(kind, eta=eta, s_churn=s_churn, s_noise=s_noise)
    schedule = Schedule(config)
    as_k_diffusion = program != "diffusers" and not kind.name.startswith(BY_TIMESTEPS)
    custom = _custom_levels(schedule, timesteps, sigmas)
    if custom is None:
        num_steps = _whole("num_steps", num_steps, 1, config.train_steps)
        spacing = kind.spacing if spacing is None else find_spacing(spacing)
        sigmas, timesteps = schedule.spaced(
            spacing,
            num_steps,
            integer_timesteps=kind.integer_timesteps and not as_k_diffusion,
            open_end=kind.open_end,
        )
    else:
        if spacing is not None or num_steps not in (None, len(custom[0])):
            raise ValueError(
                "`timesteps` and `sigmas` take the place of `num_steps` and `spacing`. "
                f"Received: num_steps={num_steps!r}, spacing={spacing!r}"
            )
        sigmas, timesteps = custom
        num_steps = len(sigmas)
    path = (float(sigmas[-1]), float(sigmas[0])) if kind.path else None
    first_step = _whole("first_step", first_step, 0, num_steps - 1)
    sigmas, timesteps = sigmas[first_step:], timesteps[first_step:]
    to_first = kind.end == "first"
    to_first |= kind.end == "config" and not config.final_alpha_one
    end = float(min(schedule.sigmas[0], sigmas[-1])) if to_first else 0.0

    # Samplers of the ordinary equation add noise for `s_churn` alone.
    s_noise = options.pop("s_noise", 1.0)
    seen = {"schedule": schedule}
    rows = kind.function(
        np.append(sigmas, end),
        **options,
        **kind.fixed,
        **{name: seen[name] for name in kind.sees},
    )
    # A level of the grid has its timestep; one between two levels is looked up.
    levels = [row.sigma for row in rows]
    known = dict(zip(levels, schedule.timestep_at(levels).tolist(), strict=True))
    known.update(zip(sigmas.tolist(), timesteps.tolist(), strict=True))
    values = stack(rows, known, schedule.scalings(levels))
    told = schedule.told(levels)
    if told is not None:
        values[:, COLUMNS.timestep] = told
    values[:, COLUMNS.noise] *= s_noise
    unit_scale = 1.0 / math.sqrt(1.0 + end**2)
    values[-1, COLUMNS.x] *= unit_scale
    values[-1, COLUMNS.noise] *= unit_scale

    steps = np.array([row.step for row in rows])
    values[:, COLUMNS.rest] = (num_steps - first_step - steps) / num_steps
    first_rows = np.flatnonzero(np.diff(steps, prepend=-1))
    unit_start = kind.unit_start or config.is_continuous
    unit_start |= spacing is not None and spacing.endswith("leading")
    if as_k_diffusion:
        unit_start = program == "comfy"
    whole = first_step == 0 and unit_start
    churn = 0.0
    if options.get("s_churn", 0.0) > 0.0:
        churn = math.sqrt(levels[0] ** 2 - sigmas[0] ** 2)
    return Table(
        sampler=kind.name,
        values=values,
        sigmas=np.append(values[first_rows, COLUMNS.sigma], end),
        timesteps=values[first_rows, COLUMNS.timestep],
        steps=steps + first_step,
        num_steps=num_steps,
        initial_scale=math.hypot(sigmas[0], 1.0) if whole else float(sigmas[0]),
        opening_noise=churn * s_noise,
        path=path,
    )


def usual_spacing(sampler: str, spacing: str | None) -> str:
    """How steps are spaced if nobody says: the model's way or the sampler's own.

    Args:
        sampler: A name that `find_sampler` knows.
        spacing: The model's, or `None`. A sampler of a more special way has its own.

    Returns:
        A spacing for `make_table`.
    """
    own = find_sampler(sampler).spacing
    return spacing if spacing and own in ("leading", "linspace") else own


def _custom_levels(schedule: Schedule, timesteps, sigmas):
    """Sigmas and timesteps that the caller listed; `None` where there is no list."""
    if timesteps is None and sigmas is None:
        return None
    if timesteps is not None and sigmas is not None:
        raise ValueError(
            "Only one of `timesteps` and `sigmas` can be given. "
            f"Received: timesteps={timesteps!r}, sigmas={sigmas!r}"
        )
    name, given = "sigmas", sigmas
    low, high, rule = 0.0, np.inf, "above 0"
    if sigmas is None:
        name, given = "timesteps", timesteps
        low, high = -1.0, len(schedule.sigmas) - 1
        rule = f"from 0 to {high}"
    try:
        levels = np.array(given, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be numbers. Received: {given!r}") from None
    if name == "sigmas" and levels.ndim == 1 and len(levels) > 1 and levels[-1] == 0.0:
        levels = levels[:-1]
    inside = np.isfinite(levels) & (levels > low) & (levels <= high)
    if (
        levels.ndim != 1
        or not len(levels)
        or not inside.all()
        or (np.diff(levels) >= 0.0).any()
    ):
        raise ValueError(
            f"`{name}` must be one number or more, falling, {rule}. Received: {given!r}"
        )
    if name == "sigmas":
        return levels, schedule.timestep_at(levels)
    return schedule.sigma_at(levels), levels


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


def _checked_options(kind: Sampler, **given: float | None) -> dict[str, float]:
    """A sampler's options, the caller's where they are not `None`."""
    options = dict(kind.options)
    for name, value in given.items():
        if value is None:
            continue
        if name not in options:
            takers = [
                other for other, sampler in SAMPLERS.items() if name in sampler.options
            ]
            raise ValueError(
                f"The sampler {kind.name} takes no `{name}`; {', '.join(takers)} do. "
                f"Received: {name}={value!r}"
            )
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"`{name}` must be a number. Received: {value!r}")
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(
                f"`{name}` must be at least 0 and finite. Received: {value!r}"
            )
        options[name] = float(value)
    return options
