"""AUTOMATIC1111's options, as far as they are here: a table, and one state."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.requests.kinds import Choice, Kind, Number, Whole, near
from kerasdiffusion.storage.bounds import shown


class Option(NamedTuple):
    """An option: what it is at first, which values it takes, what it does here.

    Args:
        default: Its value at first.
        kind: Which values it takes; `None` where only the default will do, since
            nothing here does otherwise.
    """

    default: Any
    kind: Kind | None = None


#: Those that change pictures or are asked for by clients. Any other is refused.
OPTIONS = {
    "sd_model_checkpoint": Option(None),
    "sd_checkpoint_hash": Option(None),
    "sd_vae": Option("Automatic", Choice(("Automatic", "None"))),
    "CLIP_stop_at_last_layers": Option(1, Whole(1, 12)),
    "randn_source": Option("GPU", Choice(("GPU", "CPU", "NV"))),
    "eta_noise_seed_delta": Option(0),
    "eta_ddim": Option(0.0, Number(0.0, 1.0)),
    "eta_ancestral": Option(1.0, Number(0.0, 1.0)),
    "s_churn": Option(0.0, Number(0.0)),
    "s_noise": Option(1.0, Number(0.0)),
    "s_tmin": Option(0.0),
    "s_min_uncond": Option(0.0),
    "token_merging_ratio": Option(0.0, Number(0.0, 0.75)),
    "emphasis": Option("Original"),
    "samples_format": Option("png"),
    "enable_pnginfo": Option(True),
    "samples_save": Option(False),
    "grid_save": Option(False),
    "return_grid": Option(False),
    "live_previews_enable": Option(True),
    "face_restoration_model": Option(None),
    "img2img_fix_steps": Option(False),
    "initial_noise_multiplier": Option(1.0),
    "sdxl_crop_left": Option(0),
    "sdxl_crop_top": Option(0),
    "use_old_karras_scheduler_sigmas": Option(False),
    "always_discard_next_to_last_sigma": Option(False),
    "sgm_noise_multiplier": Option(False),
}


class Options:
    """The options of a server, which its clients share.

    Args:
        models: Which models there are.
    """

    def __init__(self, models: Models):
        self._models, self._lock = models, threading.Lock()
        self._set: dict[str, Any] = {}

    def all(self) -> dict:
        """Every option, as `GET /options` gives them."""
        with self._lock:
            found = {name: each.default for name, each in OPTIONS.items()}
            found |= self._set
        found["sd_model_checkpoint"] = self._model(found["sd_model_checkpoint"])
        return found

    def set(self, values: Mapping) -> None:
        """Sets some for all requests to come; all of them, or none.

        Raises:
            Refused: If there is no such option here, or it does not take the value.
        """
        checked = self.checked(values)
        with self._lock:
            self._set |= checked

    def checked(self, values: Mapping | None) -> dict:
        """Some options, as they are taken.

        Raises:
            Refused: As `set`.
        """
        if values is None:
            return {}
        if not isinstance(values, Mapping):
            raise Refused(422, f"Options must be an object. Received: {shown(values)}")
        now, found = self.all(), {}
        for name, value in values.items():
            option = OPTIONS.get(name)
            if option is None:
                raise Refused(
                    422,
                    f"An option must be one that is here.{near(name, list(OPTIONS))} "
                    f"Received: {shown(name)}",
                    str(name)[:100],
                )
            if name == "sd_model_checkpoint":
                found[name] = None if not value else self._found(value)
            elif value is None:
                continue  # as it is
            elif option.kind is None:
                if value != now[name]:
                    raise Refused(
                        422,
                        f"`{name}` must be {option.default!r} here. "
                        f"Received: {shown(value)}",
                        name,
                    )
            else:
                try:
                    value = int(value) if _is_whole(option.kind, value) else value
                    found[name] = option.kind.check(value, name)
                except (ValueError, TypeError) as error:
                    raise Refused(422, str(error), name) from None
        return found

    def _found(self, value) -> str:
        if not isinstance(value, str):
            rule = "`sd_model_checkpoint` must be a string."
            raise Refused(422, f"{rule} Received: {shown(value)}")
        return self._models.find(value)

    def _model(self, name: str | None) -> str:
        there = self._models.names()
        return name if name in there else self._models.default


def _is_whole(kind: Kind, value) -> bool:
    return isinstance(kind, Whole) and isinstance(value, float) and value.is_integer()
