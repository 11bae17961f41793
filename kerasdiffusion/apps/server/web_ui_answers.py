"""What AUTOMATIC1111's API answers when pictures are painted.

Reference:
    `modules/api/api.py` and `modules/processing.py` (`Processed.js`) of
    AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kerasdiffusion.apps.server.core import Core
from kerasdiffusion.apps.server.pictures import encoded, infotext, to_base64
from kerasdiffusion.apps.server.web_ui_fields import Asking
from kerasdiffusion.apps.server.work import Job


class Painted(NamedTuple):
    """What was painted of a call.

    Args:
        pictures: uint8 of shape `(height, width, 3)`, one each.
        texts: How each was made, for `format_parameters`.
    """

    pictures: list[np.ndarray]
    texts: list[dict]


def painted_of(core: Core, job: Job) -> Painted:
    """The pictures of a job that is done; of an interrupted one, what there is."""
    texts = core.desk.described(job)
    there = [i for i, piece in enumerate(job.pieces) if piece.pictures is not None]
    return Painted(job.pictures, [texts[i] for i in there])


def answer(values: Mapping, asking: Asking, painted: Painted) -> dict:
    """Pictures, what was asked, and what is said of them as JSON in a string."""
    pairs = list(zip(painted.pictures, painted.texts, strict=True))
    large = ("init_images", "mask", "alwayson_scripts")
    echo = {name: None if name in large else x for name, x in values.items()}
    # (Python's clients may send infinity, as s_tmax; JSON has none.)
    echo = json.loads(json.dumps(echo), parse_constant=lambda _: None)
    if values.get("include_init_images"):
        echo["init_images"] = asking.given
    images = []
    if values.get("send_images") is not False:
        images = [to_base64(encoded(picture, text)) for picture, text in pairs]
    return {
        "images": images,
        "parameters": echo,
        "info": json.dumps(_info(asking, painted), ensure_ascii=False),
    }


def _info(asking: Asking, painted: Painted) -> dict:
    """What the web UI says of pictures, by its names."""
    texts, request, found = painted.texts, asking.request, asking.values
    prompt = request.instruction or request.prompt
    prompt = prompt[0] if isinstance(prompt, tuple) else prompt
    negative = str(request.negative_prompt or "")
    seeds = [text["seed"] for text in texts]
    subseeds = [text.get("Variation seed", -1) for text in texts]
    height, width = painted.pictures[0].shape[:2] if painted.pictures else (0, 0)
    first = texts[0] if texts else {}
    resized = request.seed_resize_from or (-1, -1)
    known = {"prompt", "negative_prompt", "seed", "height", "width", "model", "version"}
    known |= {"steps", "sampler", "schedule_type", "guidance_scale", "strength"}
    return {
        "prompt": prompt,
        "all_prompts": [text["prompt"] for text in texts],
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * len(texts),
        "seed": seeds[0] if seeds else -1,
        "all_seeds": seeds,
        "subseed": subseeds[0] if subseeds else -1,
        "all_subseeds": subseeds,
        "subseed_strength": request.variation_strength,
        "width": width,
        "height": height,
        "sampler_name": first.get("sampler", ""),
        "cfg_scale": first.get("guidance_scale", 0.0),
        "steps": first.get("steps", 0),
        "batch_size": found.get("batch_size", 1),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": first.get("model", ""),
        "sd_model_hash": "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": resized[1],
        "seed_resize_from_h": resized[0],
        "denoising_strength": first.get("strength"),
        "extra_generation_params": {
            name: value for name, value in first.items() if name not in known
        },
        "index_of_first_image": 0,
        "infotexts": [infotext(text) for text in texts],
        "styles": asking.values["styles"],
        "job_timestamp": stamp(),
        "clip_skip": request.clip_skip or 1,
        "is_using_inpainting_conditioning": False,
        "version": first.get("version", ""),
    }


def stamp() -> str:
    """The time, as the web UI writes it."""
    return time.strftime("%Y%m%d%H%M%S")
