"""What AUTOMATIC1111's web UI calls the samplers and how their steps are spaced.

Reference:
    `modules/sd_samplers_kdiffusion.py`, `modules/sd_samplers_timesteps.py` and
    `modules/sd_schedulers.py` of AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

# Samplers that have no schedule type there.
_ALONE = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "pndm": "PNDM",
    "plms": "PLMS",
    "dpm_fast": "DPM fast",
    "restart": "Restart",
    "lcm": "LCM",
    "tcd": "TCD",
}
_SPACED = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "lms": "LMS",
    "heun": "Heun",
    "heunpp2": "HeunPP2",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "unipc": "UniPC",
    "unipc_bh1": "UniPC bh1",
    "unipc_3": "UniPC 3",
    "unipc_3_bh1": "UniPC 3 bh1",
    "deis": "DEIS",
    "deis_3": "DEIS 3",
    "ipndm": "IPNDM",
}
#: Its words for `Schedule type` of the spacings that it has.
SCHEDULE_TYPES = {
    "karras": "Karras",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
    "sgm_uniform": "SGM Uniform",
    "kl_optimal": "KL Optimal",
    "align_your_steps_11": "Align Your Steps",
    "simple": "Simple",
    "normal": "Normal",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
}
_TYPES = {"": "Uniform", "_karras": "Karras", "_exponential": "Exponential"}

#: Canonical name to the web UI's `Sampler` and `Schedule type`; those that it lacks go
#: by a name that `find_sampler` knows.
WEB_UI_NAMES: dict[str, tuple[str, str | None]] = {
    **{name: (label, None) for name, label in _ALONE.items()},
    **{
        name + suffix: (label, kind)
        for suffix, kind in _TYPES.items()
        for name, label in _SPACED.items()
    },
}
#: Those whose spacing is not in the name.
ALONE = [
    name for name in WEB_UI_NAMES if not name.endswith(("_karras", "_exponential"))
]
