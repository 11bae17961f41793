"""Samplers by name: what each name stands for, and what other programs call it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kerasdiffusion.sampling import methods, multistep, singlestep, stochastic
from kerasdiffusion.sampling.table import Row
from kerasdiffusion.storage.bounds import shown


@dataclass(frozen=True)
class Sampler:
    """What a sampler's name stands for.

    Args:
        name: The canonical name.
        function: From sigmas to rows.
        spacing: The spacing where the user asks for none.
        options: What a user may set, with the defaults.
        fixed: What the name itself sets.
        sees: What else the function takes: `"schedule"`.
        integer_timesteps: Whether the network sees whole timesteps only.
        open_end: See `Schedule.spaced`.
        end: What the last step ends at: `"zero"`; `"first"`, the first training step's
            noise; `"config"`, either, as the schedule says (`final_alpha_one`).
        unit_start: Whether unit noise stands for the noisy latents of variance 1,
            signal included, as in DDIM, and not for the noise alone.
        path: Whether other programs take its noise from one Brownian path over sigma.
    """

    name: str
    function: Callable[..., list[Row]]
    spacing: str = "linspace"
    options: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    sees: tuple[str, ...] = ()
    integer_timesteps: bool = False
    open_end: bool = False
    end: str = "zero"
    unit_start: bool = False
    path: bool = False


# The defaults are those of diffusers' scheduler of the same name when it is made from
# Stable Diffusion 1.5's scheduler_config.json; of k-diffusion where diffusers has none.
_CHURN = {"s_churn": 0.0, "s_noise": 1.0}
_ETA = {"eta": 1.0, "s_noise": 1.0}
_DDIM = Sampler(
    "ddim",
    methods.ancestral,
    spacing="leading",
    options={"eta": 0.0},
    integer_timesteps=True,
    end="config",
    unit_start=True,
)
_SOLVER = Sampler(
    "dpmpp_2m",
    multistep.dpmpp_2m,
    integer_timesteps=True,
    open_end=True,
    unit_start=True,
)
_UNIPC = replace(_SOLVER, name="unipc", function=multistep.unipc)
_DEIS = replace(_SOLVER, name="deis", function=multistep.deis, end="first")
_DISTILLED = Sampler(
    "lcm",
    methods.lcm,
    spacing="lcm",
    options={"s_noise": 1.0},
    sees=("schedule",),
    integer_timesteps=True,
    unit_start=True,
)
_OF_ONE_SPACING = (
    _DDIM,
    replace(_DDIM, name="ddpm", options={}, fixed={"eta": 1.0}, end="zero"),
    replace(
        _DDIM,
        name="pndm",
        function=multistep.pndm,
        options={},
        sees=("schedule",),
    ),
    replace(_DDIM, name="plms", function=multistep.plms, options={}),
    Sampler(
        "dpm_fast",
        singlestep.dpm_fast,
        options={**_ETA, "eta": 0.0},
        end="first",
    ),
    Sampler("restart", singlestep.restart, spacing="karras", options={"s_noise": 1.0}),
    _DISTILLED,
    replace(
        _DISTILLED,
        name="tcd",
        function=methods.tcd,
        options={"eta": 0.3, "s_noise": 1.0},
        end="first",
    ),
)
_OF_ANY_SPACING = (
    Sampler("euler", methods.euler, options=_CHURN),
    Sampler("euler_ancestral", methods.ancestral, options=_ETA),
    Sampler("lms", multistep.lms),
    Sampler("heun", singlestep.heun, options=_CHURN),
    Sampler("heunpp2", singlestep.heunpp2, options=_CHURN),
    Sampler("dpm_2", singlestep.dpm2, options=_CHURN),
    Sampler("dpm_2_ancestral", singlestep.dpm2_ancestral, options=_ETA),
    Sampler("dpmpp_2s_ancestral", singlestep.dpmpp_2s_ancestral, options=_ETA),
    _SOLVER,
    Sampler("dpmpp_sde", stochastic.dpmpp_sde, options=_ETA, path=True),
    replace(
        _SOLVER,
        name="dpmpp_2m_sde",
        function=stochastic.dpmpp_2m_sde,
        options=_ETA,
        fixed={"kind": "midpoint"},
        path=True,
    ),
    replace(
        _SOLVER,
        name="dpmpp_2m_sde_heun",
        function=stochastic.dpmpp_2m_sde,
        options=_ETA,
        fixed={"kind": "heun"},
        path=True,
    ),
    Sampler("dpmpp_3m_sde", stochastic.dpmpp_3m_sde, options=_ETA, path=True),
    replace(_UNIPC, fixed={"order": 2, "kind": "bh2"}),
    replace(_UNIPC, name="unipc_bh1", fixed={"order": 2, "kind": "bh1"}),
    replace(_UNIPC, name="unipc_3", fixed={"order": 3, "kind": "bh2"}),
    replace(_UNIPC, name="unipc_3_bh1", fixed={"order": 3, "kind": "bh1"}),
    replace(_DEIS, fixed={"order": 2}),
    replace(_DEIS, name="deis_3", fixed={"order": 3}),
    Sampler("ipndm", multistep.ipndm),
)

SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler for sampler in (*_OF_ONE_SPACING, *_OF_ANY_SPACING)
}
SAMPLERS.update(
    (
        f"{each.name}_{spacing}",
        replace(each, name=f"{each.name}_{spacing}", spacing=spacing),
    )
    for spacing in ("karras", "exponential")
    for each in _OF_ANY_SPACING
)

#: What other programs call them: diffusers (the classes), AUTOMATIC1111's web UI,
#: k-diffusion and ComfyUI. Names that differ in case and punctuation alone are not
#: here, and any of them may end in "Karras" or "Exponential".
ALIASES: dict[str, str] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "PNDMScheduler": "pndm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "LMSDiscreteScheduler": "lms",
    "HeunDiscreteScheduler": "heun",
    "KDPM2DiscreteScheduler": "dpm_2",
    "KDPM2AncestralDiscreteScheduler": "dpm_2_ancestral",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "DPMSolverSDEScheduler": "dpmpp_sde",
    "UniPCMultistepScheduler": "unipc",
    "DEISMultistepScheduler": "deis",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
    "Euler a": "euler_ancestral",
    "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral",
    "DPM2 ancestral": "dpm_2_ancestral",
    "DPM++ 2S a": "dpmpp_2s_ancestral",
    "HeunPP": "heunpp2",
    "PLMS Classic": "plms",
    "LCM Karras": "lcm",
    "Restart Karras": "restart",
    "k_euler": "euler",
    "k_euler_a": "euler_ancestral",
    "k_euler_ancestral": "euler_ancestral",
    "k_lms": "lms",
    "k_heun": "heun",
    "k_dpm_2": "dpm_2",
    "k_dpm_2_a": "dpm_2_ancestral",
    "k_dpm_2_ancestral": "dpm_2_ancestral",
    "k_dpm_fast": "dpm_fast",
    "k_dpmpp_2m": "dpmpp_2m",
    "k_dpmpp_2s_a": "dpmpp_2s_ancestral",
    "k_dpmpp_2s_ancestral": "dpmpp_2s_ancestral",
    "k_dpmpp_sde": "dpmpp_sde",
    "k_dpmpp_2m_sde": "dpmpp_2m_sde",
    "k_dpmpp_2m_sde_heun": "dpmpp_2m_sde_heun",
    "k_dpmpp_3m_sde": "dpmpp_3m_sde",
    "dpmpp_sde_gpu": "dpmpp_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun_gpu": "dpmpp_2m_sde_heun",
    "dpmpp_3m_sde_gpu": "dpmpp_3m_sde",
    "uni_pc_bh2": "unipc_3",
    "DPM-Solver++": "dpmpp_2m",
    "DPM-Solver++(2M)": "dpmpp_2m",
    "DPM-Solver++(2M) SDE": "dpmpp_2m_sde",
    "SDE-DPM-Solver++": "dpmpp_2m_sde",
}


def plain(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))


_BY_PLAIN_NAME = {plain(name): name for name in SAMPLERS}
for _alias, _name in ALIASES.items():
    _BY_PLAIN_NAME[plain(_alias)] = _name
    for _spacing in ("karras", "exponential"):
        if f"{_name}_{_spacing}" in SAMPLERS:
            _BY_PLAIN_NAME[plain(_alias) + _spacing] = f"{_name}_{_spacing}"


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
    known = plain(name)
    if known in _BY_PLAIN_NAME:
        return SAMPLERS[_BY_PLAIN_NAME[known]]
    near = difflib.get_close_matches(known[:200], _BY_PLAIN_NAME, n=5, cutoff=0.5)
    near = list(dict.fromkeys(_BY_PLAIN_NAME[match] for match in near))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"`sampler` must be one of {', '.join(SAMPLERS)}.{hint} Received: {shown(name)}"
    )
