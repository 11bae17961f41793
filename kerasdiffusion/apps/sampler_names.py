"""What AUTOMATIC1111's web UI calls the samplers.

Reference:
    `modules/sd_samplers_kdiffusion.py`, `modules/sd_samplers_timesteps.py` and
    `modules/sd_schedulers.py` of AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

#: Canonical name to the web UI's `Sampler` and `Schedule type`; DDPM and PNDM, which it
#: lacks, go by their own. `Uniform` is "linspace" here; samplers without a type have
#: one spacing there.
WEB_UI_NAMES: dict[str, tuple[str, str | None]] = {
    "ddim": ("DDIM", None),
    "ddpm": ("DDPM", None),
    "pndm": ("PNDM", None),
    "plms": ("PLMS", None),
    "euler": ("Euler", "Uniform"),
    "euler_ancestral": ("Euler a", "Uniform"),
    "lms": ("LMS", "Uniform"),
    "heun": ("Heun", "Uniform"),
    "dpmpp_2m": ("DPM++ 2M", "Uniform"),
    "euler_karras": ("Euler", "Karras"),
    "euler_ancestral_karras": ("Euler a", "Karras"),
    "lms_karras": ("LMS", "Karras"),
    "heun_karras": ("Heun", "Karras"),
    "dpmpp_2m_karras": ("DPM++ 2M", "Karras"),
}
