"""What PEFT and diffusers write beside the tensors: rank, alpha, how it began."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.storage.reading import parse_json, read_json
from kerasdiffusion.weights.base import WeightsError

CONFIG = "adapter_config.json"
METADATA_KEY = "lora_adapter_metadata"
#: PEFT's kinds that are read.
KINDS = ("LORA", "LOHA", "LOKR", "OFT", "BOFT", "IA3", "GLORA")
#: Settings of PEFT's LoRA under which its tensors are no plain LoRA's, and what they
#: are instead.
OTHERS = {
    "use_qalora": "QALoRA, whose inputs are averaged in groups",
    "use_bdlora": "BD-LoRA, whose factors are blocks of a diagonal",
    "alora_invocation_tokens": "an activated LoRA, which begins behind some tokens",
    "arrow_config": "Arrow, which chooses among several for each token",
    "monteclora_config": "MonteCLoRA, which is drawn by chance",
    "kasa_config": "KaSA, which takes a part of the base away",
    "layer_replication": "made for a network whose layers are repeated",
    "target_parameters": "of parameters, and not of layers",
    "modules_to_save": "beside whole layers that were trained (`modules_to_save`)",
}
#: What the settings of diffusers' parts begin with.
PREFIXES = {
    "diffusion_model": "unet",
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
}
#: Beginnings that leave the base as it is: what was trained is a LoRA's change.
PLAIN = {"gaussian", "eva", "orthogonal", "mica", "true", "false", "lycoris"}
#: Those that take a part of the base away, and that it can be found again from it.
CONVERTED = ("pissa", "olora")


class Settings:
    """The settings of an adapter, for each part.

    Args:
        own: Of all parts alike: `adapter_config.json`.
        parts: By part: the header of diffusers' files.
        path: The file, for messages.
    """

    def __init__(self, own: Mapping, parts: Mapping[str, Mapping], path: Path):
        self.own, self.parts, self.path = own, parts, path
        for settings in (own, *parts.values()):
            _check(settings, path)

    @property
    def is_peft(self) -> bool:
        """Whether PEFT's own settings lie beside the file."""
        return "peft_type" in self.own

    def of(self, part: str) -> Mapping:
        """Those of a part; empty where nothing is said."""
        return self.parts.get(part) or self.own

    def scale_of(self, part: str, module: str) -> tuple[float | None, int | None, bool]:
        """Alpha, rank and whether it is rank-stabilized, for a module."""
        settings = self.of(part)
        if "r" not in settings and "lora_alpha" not in settings:
            return None, None, False
        alpha = settings.get("lora_alpha", settings.get("alpha"))
        alpha = self._by_pattern(settings.get("alpha_pattern"), module, alpha)
        rank = self._by_pattern(settings.get("rank_pattern"), module, settings.get("r"))
        for name, value in (("alpha", alpha), ("rank", rank)):
            if value is not None and type(value) not in (int, float):
                raise WeightsError(
                    f"The settings of an adapter must state a number as {name}. "
                    f"Received: {value!r} in {self.path}"
                )
        alpha = None if alpha is None else float(alpha)
        rank = None if rank is None else int(rank)
        return alpha, rank, settings.get("use_rslora") is True

    def _by_pattern(self, patterns, module: str, otherwise):
        """The value whose name ends the module's, as PEFT looks it up."""
        for pattern, value in (patterns or {}).items():
            name = pattern.removeprefix("^")
            if not re.fullmatch(r"[\w.]+", name):
                raise WeightsError(
                    "The patterns of an adapter's settings must be names of modules. "
                    f"Received: {pattern!r} in {self.path}"
                )
            if f".{module}".endswith(f".{name}"):
                return value
        return otherwise

    def initial(self, part: str) -> str | None:
        """Which part of the base was taken away before training, if one was."""
        how = str(self.of(part).get("init_lora_weights", True)).lower()
        if how in CONVERTED:
            return how
        if how in PLAIN:
            return None
        raise WeightsError(
            f"Adapters that began as {how!r} changed the base by what their files do "
            "not hold: save it with PEFT's `path_initial_model_for_weight_conversion`, "
            f"which makes it a LoRA of the plain base. Received: {self.path}"
        )


def _check(settings: Mapping, path: Path) -> None:
    if not isinstance(settings, Mapping):
        raise WeightsError(f"The settings must be a JSON object. Received: {path}")
    kind = settings.get("peft_type")
    if kind is not None and str(kind).rpartition(".")[2].upper() not in KINDS:
        raise WeightsError(
            f"Of PEFT's kinds these are read: {', '.join(KINDS)}. Received: "
            f"{str(kind)[:40]!r} in {path}"
        )
    others = [what for name, what in OTHERS.items() if settings.get(name)]
    if settings.get("bias") not in (None, "none"):
        others.append("beside biases that were trained")
    if others:
        raise WeightsError(
            f"The adapter is {others[0]}: merge it with PEFT (`merge_and_unload`) and "
            f"load the model. Received: {path}"
        )
    for name in ("alpha_pattern", "rank_pattern"):
        if not isinstance(settings.get(name) or {}, Mapping):
            raise WeightsError(f"`{name}` must be a JSON object. Received: {path}")


def read_settings(path: Path, metadata: Mapping[str, str]) -> Settings:
    """The settings of an adapter's file.

    Args:
        path: The file; `adapter_config.json` may lie beside it.
        metadata: Its header.

    Raises:
        WeightsError: If they are broken, or of a kind that is not read.
    """
    own, parts = {}, {}
    try:
        if path.stem.startswith("adapter_model") and (path.parent / CONFIG).exists():
            own = read_json(path.parent / CONFIG)
        text = metadata.get(METADATA_KEY)
        if text:
            stated = parse_json(text, f"{METADATA_KEY} of {path}")
            if not isinstance(stated, Mapping):
                raise ValueError(f"`{METADATA_KEY}` must be a JSON object: {path}")
            if "r" in stated:
                own = stated
            for part, prefix in PREFIXES.items():
                start = f"{prefix}."
                found = {
                    key.removeprefix(start): value
                    for key, value in stated.items()
                    if key.startswith(start)
                }
                if found:
                    parts[part] = found
    except OSError as error:
        raise WeightsError(f"The settings could not be read: {error}") from error
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(str(error)) from error
    return Settings(own, parts, path)
