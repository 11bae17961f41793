"""The ControlNet extension's units as a request's controls, and its own routes.

Reference:
    `scripts/api.py` and `internal_controlnet/args.py` of Mikubill/sd-webui-controlnet.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageOps

from kerasdiffusion.apps.server import web_ui_pictures
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.apps.server.pictures import from_base64
from kerasdiffusion.pictures.control_pictures import canny_edges
from kerasdiffusion.requests.control import Control
from kerasdiffusion.requests.kinds import SHARE, Number, near
from kerasdiffusion.storage.bounds import shown

INVERT = "invert (from white bg & black line)"
#: What makes a picture to follow of another one.
MODULES = ("none", "canny", INVERT)
#: Its version that is answered as.
API_VERSION = 3
_RESIZES = {
    "just resize": web_ui_pictures.JUST,
    "resize": web_ui_pictures.JUST,
    "crop and resize": web_ui_pictures.CROP,
    "inner fit": web_ui_pictures.CROP,
    "resize and fill": web_ui_pictures.FILL,
    "outer fit": web_ui_pictures.FILL,
}
_MODES = ("balanced", "my prompt is more important", "controlnet is more important")
#: What of a unit changes no picture here, or is only how it is computed.
_OPEN = (
    *("low_vram", "pixel_perfect", "processor_res", "hr_option", "save_detected_map"),
    *("use_preview_as_input", "input_mode", "batch_images", "output_dir", "loopback"),
    *("guessmode", "generated_image", "enabled", "module", "model", "weight", "image"),
    *("resize_mode", "threshold_a", "threshold_b", "guidance_start", "guidance_end"),
    *("control_mode", "input_image", "is_ui"),
)
_MOST_UNITS = 8


def read(scripts, models: Models, size, image) -> list[Control]:
    """The controls that `alwayson_scripts` asks for.

    Args:
        scripts: It, or `None`.
        models: Which networks there are.
        size: Height and width of what is painted; `None` for the model's own.
        image: What is painted over, where a unit has no picture of its own.

    Raises:
        Refused: If a script is not here, or a unit is not as it must be.
    """
    if not scripts:
        return []
    if not isinstance(scripts, Mapping):
        raise Refused(422, "`alwayson_scripts` must be an object.", "alwayson_scripts")
    units = []
    for name, told in scripts.items():
        args = told.get("args", []) if isinstance(told, Mapping) else told
        if name.lower() == "controlnet":
            units += args if isinstance(args, list) else [args]
        elif args not in ([], [False], {}, None):
            raise Refused(
                422,
                "A script must be one that this server has: controlnet. "
                f"Received: {shown(name, 60)}",
                "alwayson_scripts",
            )
    if len(units) > _MOST_UNITS:
        raise Refused(422, f"There are at most {_MOST_UNITS} units.", "controlnet")
    found = [_unit(unit, models, size, image) for unit in units if _is_on(unit)]
    return [control for control in found if control is not None]


def _is_on(unit) -> bool:
    if unit in (None, False, {}):
        return False
    if not isinstance(unit, Mapping):
        raise Refused(422, "A unit of ControlNet must be an object.", "controlnet")
    return unit.get("enabled", True) is not False


def _unit(unit: Mapping, models: Models, size, image) -> Control:
    for name, value in unit.items():
        if name == "mask" and value is None:
            continue
        if name not in _OPEN:
            hint = near(name, _OPEN)
            raise Refused(
                422,
                f"A unit of ControlNet must have fields that are known.{hint} "
                f"Received: {shown(name, 60)}",
                "controlnet",
            )
    mode = unit.get("control_mode", 0)
    mode = _MODES[mode] if mode in (0, 1, 2) else str(mode).lower()
    if mode not in _MODES or mode == _MODES[1]:
        raise Refused(
            422,
            "`control_mode` must be Balanced or ControlNet is more important. "
            f"Received: {shown(unit['control_mode'], 60)}",
            "control_mode",
        )
    network = str(unit.get("model", "None"))
    models.control(network)  # refuses what is not here
    picture = _picture(unit, image)
    way = str(unit.get("resize_mode", "Crop and Resize")).lower()
    if unit.get("resize_mode") in (0, 1, 2):
        resize = int(unit["resize_mode"])
    elif way.partition(" (")[0] in _RESIZES:
        resize = _RESIZES[way.partition(" (")[0]]
    else:
        raise Refused(
            422,
            "`resize_mode` must be Just Resize, Crop and Resize or Resize and Fill. "
            f"Received: {shown(way, 60)}",
            "resize_mode",
        )
    if size is not None:
        picture = web_ui_pictures.resized(picture, size, resize)
    picture = prepared(picture, str(unit.get("module", "none")), unit)
    return Control(
        network,
        np.asarray(picture),
        Number().check(unit.get("weight", 1.0), "weight"),
        SHARE.check(unit.get("guidance_start", 0.0), "guidance_start"),
        SHARE.check(unit.get("guidance_end", 1.0), "guidance_end"),
        mode == _MODES[2],
    )


def _picture(unit: Mapping, image):
    """The picture of a unit, in one of the ways that clients have it."""
    given = unit.get("image") or unit.get("input_image")
    if isinstance(given, Mapping):
        given = given.get("image")
    if isinstance(given, str) and given:
        return web_ui_pictures.plain(from_base64(given, "image"))
    if image is None or isinstance(image, tuple):
        raise Refused(422, "A unit of ControlNet must have an `image`.", "image")
    return image


def prepared(picture: Image.Image, module: str, how: Mapping) -> Image.Image:
    """The picture that a network follows, made of another one.

    Raises:
        Refused: If there is no such module.
    """
    name = module.lower()
    if name in ("none", ""):
        return picture
    if name == "canny":
        low = _threshold(how.get("threshold_a"), 100.0)
        high = _threshold(how.get("threshold_b"), 200.0)
        return Image.fromarray(canny_edges(picture, low, high))
    if name in ("invert", INVERT):
        return ImageOps.invert(picture)
    raise Refused(
        422,
        f"A module must be one that this server has: {', '.join(MODULES)}. "
        f"Received: {shown(module, 60)}",
        "module",
    )


def _threshold(value, default: float) -> float:
    """A threshold; less than 0 stands for the module's own, as in the extension."""
    if value is None:
        return default
    value = Number().check(value, "threshold")
    return default if value < 0.0 else value


def module_list() -> dict:
    """The modules, and what of each can be set."""
    low = {"name": "Low Threshold", "value": 100, "min": 1, "max": 255, "step": 1}
    high = {"name": "High Threshold", "value": 200, "min": 1, "max": 255, "step": 1}
    details = {name: {"model_free": False, "sliders": []} for name in MODULES}
    size = {"name": "Resolution", "value": 512, "min": 64, "max": 2048, "step": 8}
    details["canny"]["sliders"] = [size, low, high]
    return {"module_list": list(MODULES), "module_detail": details}


def control_types(models: Models) -> dict:
    """All modules with all networks: what a network follows is in its name."""
    names = ["None", *models.control_files()]
    return {
        "control_types": {
            "All": {
                "module_list": list(MODULES),
                "model_list": names,
                "default_option": "none",
                "default_model": names[-1],
            }
        }
    }
