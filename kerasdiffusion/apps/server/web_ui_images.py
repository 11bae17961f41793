"""What img2img asks for: pictures to paint over, masks, and how large.

Reference:
    `modules/processing.py` of AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

from collections.abc import Mapping

from kerasdiffusion.apps.server import web_ui_pictures
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import check_pixels, from_base64
from kerasdiffusion.requests.request import Request
from kerasdiffusion.storage.bounds import BOUNDS


def read_images(
    values: Mapping, found: dict, shared: dict, config
) -> tuple[Request, tuple[int, int] | None]:
    """What img2img asks for: a picture painted over, a part of it, or an edit.

    Args:
        values: The JSON.
        found: Its fields that are taken, checked.
        shared: Fields of the request.
        config: The model's.

    Returns:
        A `Request`, and the size that a part is painted at; `None` for the picture's.
    """
    given = values.get("init_images")
    if not isinstance(given, list) or not given:
        raise Refused(
            422, "`init_images` must be a list of pictures in base64.", "init_images"
        )
    if len(given) > BOUNDS["server_pictures"].most:
        raise Refused(422, "`init_images` are too many.", "init_images")
    images = [from_base64(each, "init_images") for each in given]
    mode = found.get("resize_mode", web_ui_pictures.JUST)
    if mode > web_ui_pictures.FILL:
        raise Refused(
            422,
            "`resize_mode` must be 0, 1 or 2: pictures are resized, not latents. "
            f"Received: {mode}",
            "resize_mode",
        )
    first = images[0]
    size = found.get("height", first.height), found.get("width", first.width)
    check_pixels(*size, "width")
    whole = values.get("mask") and found.get("inpaint_full_res", True)
    if len(images) > 1:
        shared |= {"prompt": [shared["prompt"]] * len(images)}
    pictures = [web_ui_pictures.plain(each) for each in images]
    if not whole:
        pictures = [web_ui_pictures.resized(each, size, mode) for each in pictures]
    if values.get("mask"):
        return _inpainting(values, found, shared, pictures, (size, mode, whole))
    several = pictures if len(pictures) > 1 else pictures[0]
    if config.diffusion_model.in_channels == 2 * config.autoencoder.latent_channels:
        fields = {**shared, "instruction": shared.pop("prompt"), "image": several}
        fields.pop("prompt", None)
        if "image_cfg_scale" in found:
            fields["image_guidance_scale"] = found["image_cfg_scale"]
        request = Request(task="edit", **fields)
    else:
        fields = {**shared, "image": several, "strength": found["denoising_strength"]}
        request = Request(task="image_to_image", **fields)
    return request, None


def _inpainting(values, found: dict, shared: dict, pictures, how):
    """What a mask asks for: that white is painted."""
    size, mode, whole = how
    mask = web_ui_pictures.mask_of(
        from_base64(values["mask"], "mask"),
        bool(found.get("inpainting_mask_invert", 0)),
        found.get("mask_round", True),
    )
    if whole:
        there = pictures[0].height, pictures[0].width
        mask = web_ui_pictures.resized(mask, there, web_ui_pictures.JUST, "Nearest")
    else:
        mask = web_ui_pictures.resized(mask, size, mode, "Nearest")
    fill, strength = found.get("inpainting_fill", 0), found["denoising_strength"]
    if fill > 1 and strength < 1.0:
        raise Refused(
            422,
            "`inpainting_fill` must be 0 (fill) or 1 (original) where "
            f"`denoising_strength` is below 1. Received: {fill}",
            "inpainting_fill",
        )
    if fill == 0 and strength < 1.0:
        pictures = [web_ui_pictures.filled(each, mask) for each in pictures]
    blur = found.get("mask_blur", 4)
    blur = max(found.get("mask_blur_x", blur), found.get("mask_blur_y", blur))
    fields = {
        **shared,
        "image": pictures if len(pictures) > 1 else pictures[0],
        "mask": mask,
        "strength": strength,
        "feather": blur,
    }
    if whole:
        fields["padding"] = found.get("inpaint_full_res_padding", 0)
    request = Request(task="inpaint", **fields)
    return request, size if whole else None
