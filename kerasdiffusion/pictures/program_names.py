"""What other programs call the arguments of a picture: a table, a row each.

Reference:
    SwarmUI `docs/Image Metadata Format.md`; Fooocus `modules/meta_parser.py`; InvokeAI
    `invokeai/app/invocations/metadata.py`, and `backend/args.py` of version 2; what
    NovelAI and Draw Things write, as sd-parsers and SD Prompt Reader read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Names(NamedTuple):
    """What a program calls things.

    Attributes:
        program: Its name, the first word of `version`.
        known: From its names to ours.
        harmless: Its names of what changes no picture.
        neutral: Values that change none, by name.
        version: Its name of its version.
    """

    program: str
    known: Mapping[str, str]
    harmless: tuple[str, ...] = ()
    neutral: Mapping[str, object] = {}
    version: str | None = None


SWARM = Names(
    "SwarmUI",
    {
        "prompt": "prompt",
        "negativeprompt": "negative_prompt",
        "seed": "seed",
        "steps": "steps",
        "cfgscale": "guidance_scale",
        "width": "width",
        "height": "height",
        "sampler": "sampler",
        "comfyuisampler": "sampler",
        "scheduler": "schedule_type",
        "comfyuischeduler": "schedule_type",
        "model": "model",
        "initimagecreativity": "strength",
    },
    (
        *("aspectratio", "images", "imageformat", "nopreviews", "automaticvae", "date"),
        *("generation_time", "wildcardseed", "original_prompt", "used_wildcards"),
        *("sidelength", "donotsave", "personalnote", "prep_time", "gen_time"),
    ),
    version="swarm_version",
)
FOOOCUS = Names(
    "Fooocus",
    {
        "prompt": "prompt",
        "negative_prompt": "negative_prompt",
        "seed": "seed",
        "steps": "steps",
        "guidance_scale": "guidance_scale",
        "sampler": "sampler",
        "scheduler": "schedule_type",
        "base_model": "model",
        "base_model_hash": "model_hash",
        "clip_skip": "clip_skip",
    },
    ("metadata_scheme", "created_by"),
    {"refiner_model": "None", "vae": "Default (model)"},
    "version",
)
INVOKE = Names(
    "InvokeAI",
    {
        "positive_prompt": "prompt",
        "negative_prompt": "negative_prompt",
        "seed": "seed",
        "steps": "steps",
        "cfg_scale": "guidance_scale",
        "scheduler": "sampler",
        "width": "width",
        "height": "height",
        "strength": "strength",
    },
    ("app_version", "rand_device"),
    {
        "generation_mode": ("txt2img", "sdxl_txt2img"),
        "cfg_rescale_multiplier": 0,
        "clip_skip": 0,
        "hrf_strength": None,
    },
    "app_version",
)
INVOKE_2 = Names(
    "InvokeAI",
    {
        "seed": "seed",
        "steps": "steps",
        "cfg_scale": "guidance_scale",
        "sampler": "sampler",
        "width": "width",
        "height": "height",
        "strength": "strength",
    },
    (),
    {"type": "txt2img", "threshold": 0, "perlin": 0, "hires_fix": False},
)
NOVEL = Names(
    "NovelAI",
    {
        "prompt": "prompt",
        "uc": "negative_prompt",
        "seed": "seed",
        "steps": "steps",
        "scale": "guidance_scale",
        "sampler": "sampler",
        "noise_schedule": "schedule_type",
        "width": "width",
        "height": "height",
        "strength": "strength",
    },
    ("request_type", "signed_hash", "n_samples", "version", "extra_noise_seed"),
    {"noise": 0, "uncond_scale": (0, 1), "cfg_rescale": 0, "prefer_brownian": True},
)
DRAW_THINGS = Names(
    "Draw Things",
    {
        "c": "prompt",
        "uc": "negative_prompt",
        "seed": "seed",
        "steps": "steps",
        "scale": "guidance_scale",
        "sampler": "sampler",
        "size": "size",
        "model": "model",
        "strength": "strength",
    },
    ("profile",),
    {"strength": 1, "shift": 1, "mask_blur": 0},
)
EASY = Names(
    "Easy Diffusion",
    {
        "prompt": "prompt",
        "negative_prompt": "negative_prompt",
        "seed": "seed",
        "num_inference_steps": "steps",
        "guidance_scale": "guidance_scale",
        "sampler_name": "sampler",
        "width": "width",
        "height": "height",
        "use_stable_diffusion_model": "model",
        "prompt_strength": "strength",
    },
    (
        *("output_format", "output_quality", "output_lossless", "num_outputs"),
        *("vram_usage_level", "stream_progress_updates", "stream_image_progress"),
        *("session_id", "show_only_filtered_image", "block_nsfw", "request_id"),
        *("metadata_output_format", "original_prompt", "active_tags"),
        *("inactive_tags", "save_to_disk_path"),
    ),
)
# What Easy Diffusion writes for people.
EASY_LABELS = {
    "Prompt": "prompt",
    "Negative Prompt": "negative_prompt",
    "Seed": "seed",
    "Stable Diffusion model": "use_stable_diffusion_model",
    "Clip Skip": "clip_skip",
    "VAE model": "use_vae_model",
    "Sampler": "sampler_name",
    "Width": "width",
    "Height": "height",
    "Steps": "num_inference_steps",
    "Guidance Scale": "guidance_scale",
}
