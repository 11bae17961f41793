"""AUTOMATIC1111's fields of txt2img and img2img as a `Request`: tables and few rules.

Every field is taken, left out since it changes no picture, or refused unless it says
what is so here anyway. A field that nobody knows is refused too.

Reference:
    `modules/api/models.py` and `modules/processing.py` of
    AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kerasdiffusion.apps import reproduce
from kerasdiffusion.apps.server import web_ui_control, web_ui_images
from kerasdiffusion.apps.server.core import Core
from kerasdiffusion.apps.server.desk import refusing
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import check_pixels
from kerasdiffusion.apps.server.styles import Styles, names_of
from kerasdiffusion.apps.server.web_ui_lists import VERSION, scheduler_label
from kerasdiffusion.requests.kinds import SHARE, Number, Switch, Text, Whole, near
from kerasdiffusion.requests.larger import UPSCALERS
from kerasdiffusion.requests.objects import SEEDS
from kerasdiffusion.requests.request import FIELDS, Request
from kerasdiffusion.requests.subject import LARGEST, WIDEST
from kerasdiffusion.sampling.spacings import find_spacing
from kerasdiffusion.storage.bounds import BOUNDS, shown

_SIDE = Whole(8, LARGEST, "a whole number of pixels")
_COUNT = Whole(1, BOUNDS["server_pictures"].most)
_SEED = Whole(-1, SEEDS - 1)
#: What is taken, and as what.
TAKEN = {
    "prompt": Text(),
    "negative_prompt": Text(),
    "seed": _SEED,
    "subseed": _SEED,
    "subseed_strength": SHARE,
    "seed_resize_from_h": Whole(-1, LARGEST),
    "seed_resize_from_w": Whole(-1, LARGEST),
    "sampler_name": Text(),
    "sampler_index": Text(),
    "scheduler": Text(),
    "batch_size": _COUNT,
    "n_iter": _COUNT,
    "steps": FIELDS["num_steps"].asked.kind,
    "cfg_scale": Number(),
    "width": _SIDE,
    "height": _SIDE,
    "denoising_strength": SHARE,
    "eta": Number(),
    "s_churn": Number(0.0),
    "s_noise": Number(0.0),
    "refiner_checkpoint": Text(),
    "refiner_switch_at": Number(0.0, 1.0),
    "send_images": Switch(),
    "clip_skip": Whole(1, 12),  # as SD.Next has it
}
OF_HIRES = {
    "enable_hr": Switch(),
    "hr_scale": FIELDS["hires_scale"].asked.kind,
    "hr_upscaler": Text(),
    "hr_second_pass_steps": Whole(0, 1000),
    "hr_resize_x": Whole(0, LARGEST),
    "hr_resize_y": Whole(0, LARGEST),
    "hr_sampler_name": Text(),
    "hr_scheduler": Text(),
    "hr_prompt": Text(),
    "hr_negative_prompt": Text(),
}
OF_IMAGES = {
    "resize_mode": Whole(0, 3),
    "mask_blur": Whole(0, WIDEST),
    "mask_blur_x": Whole(0, WIDEST),
    "mask_blur_y": Whole(0, WIDEST),
    "mask_round": Switch(),
    "inpainting_fill": Whole(0, 3),
    "inpaint_full_res": Switch(),
    "inpaint_full_res_padding": Whole(0, LARGEST),
    "inpainting_mask_invert": Whole(0, 1),
    "image_cfg_scale": Number(0.0),
    "include_init_images": Switch(),
}
#: Read by functions of their own.
APART = (
    *("override_settings", "alwayson_scripts", "init_images", "mask"),
    *("styles",),
)
#: What changes no picture.
HARMLESS = (
    *("save_images", "do_not_save_samples", "do_not_save_grid", "comments"),
    *("force_task_id", "override_settings_restore_afterwards", "script_args"),
)
#: What does nothing here, and may only say so.
NEUTRAL = {
    "restore_faces": (False,),
    "tiling": (False,),
    "firstphase_width": (0,),
    "firstphase_height": (0,),
    "s_tmax": (0, math.inf, 999),
    "s_tmin": (0,),
    "s_min_uncond": (0,),
    "firstpass_image": (),
    "latent_mask": (),
    "script_name": ("None",),
    "disable_extra_networks": (False,),
    "infotext": (),
    "initial_noise_multiplier": (1,),
    "hr_checkpoint_name": ("Use same checkpoint",),
    "hr_additional_modules": (["Use same choices"],),
    "hr_additional_steps": (0,),
}
#: What to do without some of these. (The web UI has taken the first two, and passed by
#: the size that they were for, since it has `hr_resize_x`.)
_INSTEAD = {
    **dict.fromkeys(
        ("firstphase_width", "firstphase_height"),
        "give the first pass's size as width and height, the second's as hr_resize_x "
        "and hr_resize_y",
    ),
    "hr_checkpoint_name": "one model paints both passes; paint over the picture by "
    "img2img for another one's",
}
#: What img2img repaints where it is not told.
STRENGTH = 0.75


@dataclass
class Asking:
    """What one call asks for.

    Args:
        request: A `Request`.
        model: The model's name, or `None`.
        size: Height and width, or `None`.
        values: All fields, checked.
        settings: The options of this call.
        given: Pictures that came along, as they are given back.
    """

    request: Request
    model: str | None
    size: tuple[int, int] | None
    values: dict
    settings: dict
    given: list = field(default_factory=list)


def read(values: Mapping, core: Core, options, of_images: bool) -> Asking:
    """What the JSON of txt2img or img2img asks for.

    Args:
        values: It.
        core: The server's parts.
        options: The server's `web_ui_options.Options`.
        of_images: Whether it is img2img.

    Raises:
        Refused: If something is not as it must be, or is not here.
    """
    found = _checked(values, of_images)
    found["styles"] = names_of(values.get("styles"))
    settings = options.all() | options.checked(values.get("override_settings"))
    name = core.models.find(settings["sd_model_checkpoint"])
    with refusing(core.models):
        config = core.models.get(name).config
        _style(found, core.models.styles)
        shared = _shared(found, settings, config)
        found.setdefault("denoising_strength", STRENGTH)
        if of_images:
            request, size = web_ui_images.read_images(values, found, shared, config)
            asking = Asking(request, None, size, found, settings)
            asking.given = values["init_images"]
        else:
            if found.get("enable_hr"):
                shared |= _larger(found, settings, config)
            request = Request(task="text_to_image", **shared)
            asking = Asking(request, None, _size(found, core, name), found, settings)
        asking.model, asking.settings = name, settings
        own = config.generation
        followed = web_ui_control.read(
            values.get("alwayson_scripts"),
            core.models,
            _painted_size(asking) or (own.height, own.width),
            asking.request.image,
        )
        if followed:
            asking.request = asking.request.replace(control=followed)
    return asking


def _checked(values: Mapping, of_images: bool) -> dict:
    """The fields that are taken, each as it must be."""
    kinds = TAKEN | (OF_IMAGES if of_images else OF_HIRES)
    elsewhere = OF_HIRES if of_images else OF_IMAGES
    if not of_images and values.get("enable_hr") in (None, False):
        kinds, elsewhere = TAKEN, OF_IMAGES | OF_HIRES
    found = {}
    for name, value in values.items():
        if name in APART or name in HARMLESS or value is None:
            continue
        kind = kinds.get(name)
        if kind is None:
            _check_neutral(name, value, [*kinds, *APART], name in elsewhere)
            continue
        if isinstance(kind, Whole) and isinstance(value, float) and value == value // 1:
            value = int(value)
        try:
            found[name] = kind.check(value, name)
        except (ValueError, TypeError) as error:
            raise Refused(422, str(error), name) from None
    return found


def _check_neutral(name: str, value, known: list, is_elsewhere: bool) -> None:
    """That a field which nothing here follows asks for nothing."""
    taken = (None, "", False, *NEUTRAL.get(name, ()))
    if any(value is each or value == each for each in taken) or value in ([], {}):
        return
    if is_elsewhere:  # of the other call: the web UI does not look at it
        return
    if name in NEUTRAL:
        rule = f"`{name}` is not here: {_INSTEAD.get(name, 'leave it out')}."
    else:
        rule = f"A field must be one that is known.{near(name, known)}"
    raise Refused(422, f"{rule} Received: {name}={shown(value, 60)}"[:400], name[:100])


def _style(found: dict, styles: Styles) -> None:
    """Puts styles around all prompts of a call, those of a second pass too."""
    for start in ("", "hr_"):
        names = f"{start}prompt", f"{start}negative_prompt"
        given = [found.get(name, "") for name in names]
        pairs = zip(names, given, styles.around(*given, found["styles"]), strict=True)
        for name, before, after in pairs:
            if before or (after and not start):
                found[name] = after


def _shared(found: Mapping, settings: Mapping, config) -> dict:
    """Fields of a request that both calls have."""
    fields = {
        "prompt": found.get("prompt", ""),
        "batch_size": found.get("batch_size", 1) * found.get("n_iter", 1),
        "progress_bar": False,
    }
    if found.get("negative_prompt"):
        fields["negative_prompt"] = found["negative_prompt"]
    if found.get("seed", -1) != -1:
        fields["seed"] = found["seed"]
    if "cfg_scale" in found:
        fields["unconditional_guidance_scale"] = found["cfg_scale"]
    if found.get("subseed_strength"):
        fields["variation_strength"] = found["subseed_strength"]
        if found.get("subseed", -1) != -1:
            fields["variation_seed"] = found["subseed"]
    drawn = tuple(found.get(f"seed_resize_from_{side}", 0) for side in "hw")
    if min(drawn) > 0:
        fields["seed_resize_from"] = drawn
    skip = found.get("clip_skip", 1)
    skip = skip if skip > 1 else settings["CLIP_stop_at_last_layers"]
    if skip > 1:
        fields["clip_skip"] = skip
    if settings["token_merging_ratio"]:
        fields["merge_tokens"] = settings["token_merging_ratio"]
    if found.get("refiner_checkpoint", "None") not in ("", "None"):
        fields["refiner"] = found["refiner_checkpoint"]
        if "refiner_switch_at" in found:
            fields["refiner_start"] = found["refiner_switch_at"]
    name = found.get("sampler_name") or found.get("sampler_index")
    return fields | sampling(
        name, found.get("scheduler"), found.get("steps"), found, settings, config
    )


def sampling(sampler, scheduler, steps, found: Mapping, settings, config) -> dict:
    """Fields that sample as the web UI does."""
    label = scheduler_label(scheduler)
    told = {"version": VERSION, "RNG": settings["randn_source"]}
    if steps is not None:
        told["steps"] = steps
    if sampler:
        told["sampler"] = sampler
        if label is not None:
            told["schedule_type"] = label
    is_ddim = str(sampler).upper().startswith("DDIM")
    for key, name, own in (
        ("Eta", "eta", settings["eta_ddim" if is_ddim else "eta_ancestral"]),
        ("Sigma churn", "s_churn", settings["s_churn"]),
        ("Sigma noise", "s_noise", settings["s_noise"]),
    ):
        value = found.get(name, own)
        if sampler and value != {"s_churn": 0.0, "s_noise": 1.0}.get(name):
            told[key] = value
    fields = reproduce.sampling_options(told, config.schedule)
    if not sampler and label not in (None, "Automatic"):
        fields["spacing"] = find_spacing(label)
    return fields


def _size(found: Mapping, core: Core, name: str) -> tuple[int, int] | None:
    """Height and width, where one is given; the other is the model's."""
    if "width" not in found and "height" not in found:
        return None
    model = core.models.get(name)
    size = found.get("height", model.img_height), found.get("width", model.img_width)
    check_pixels(*size, "width")
    return size


def _larger(found: Mapping, settings: Mapping, config) -> dict:
    """The fields of a request that ask for the second pass."""
    wide, tall = found.get("hr_resize_x", 0), found.get("hr_resize_y", 0)
    fields = {"hires_size": (tall, wide)}
    if not (wide or tall):
        fields = {"hires_scale": found.get("hr_scale", 2.0)}
    upscaler = found.get("hr_upscaler", "Latent")
    upscaler = "Lanczos" if upscaler == "None" else upscaler
    if upscaler not in UPSCALERS:
        raise Refused(
            422,
            f"`hr_upscaler` must be one of {', '.join(UPSCALERS)}. "
            f"Received: {shown(upscaler, 60)}",
            "hr_upscaler",
        )
    name, kind = (
        "" if found.get(key, "") == f"Use same {what}" else found.get(key, "")
        for key, what in (
            ("hr_sampler_name", "sampler"),
            ("hr_scheduler", "scheduler"),
        )
    )
    if name or kind:
        own = sampling(
            name or found.get("sampler_name") or found.get("sampler_index"),
            kind or found.get("scheduler"),
            None,
            found,
            settings,
            config,
        )
        for key in ("sampler", "spacing"):
            if own.get(key) is not None:
                fields[f"hires_{key}"] = own[key]
    for key in ("prompt", "negative_prompt"):
        if found.get(f"hr_{key}"):
            fields[f"hires_{key}"] = found[f"hr_{key}"]
    if found.get("hr_second_pass_steps"):
        fields["hires_steps"] = found["hr_second_pass_steps"]
    strength = found["denoising_strength"]
    return {**fields, "hires_upscaler": upscaler, "hires_strength": strength}


def _painted_size(asking: Asking) -> tuple[int, int] | None:
    """Height and width of what a control's picture lies over."""
    image = asking.request.image
    if image is None:
        return asking.size
    first = image[0] if isinstance(image, tuple) else image
    return first.height, first.width
