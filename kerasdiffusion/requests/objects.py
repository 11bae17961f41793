"""Kinds of values that are more than numbers and names: prompts, seeds, pictures."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.requests.binary import (
    BINARY,
    is_pil,
    read_binary,
    to_npy,
    to_png,
)
from kerasdiffusion.requests.control import Control
from kerasdiffusion.requests.kinds import Kind, as_list, refuse

#: One seed more than the last.
SEEDS = 2**64


def one_or_several(schema: dict) -> dict:
    """JSON schema of a value, or of a list of such."""
    return {"anyOf": [schema, {"type": "array", "items": schema, "minItems": 1}]}


@dataclass(frozen=True)
class Prompts(Kind):
    """A string or several; where `encoded`, contexts too."""

    encoded: bool = False

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        text = {"type": "string"}
        return one_or_several({"anyOf": [text, BINARY]} if self.encoded else text)

    def check(self, value, name=None):
        """See `Kind`."""
        if type(value) is str:
            return value
        from kerasdiffusion.prompts.given import texts

        value = texts(value, name or "prompt")
        if isinstance(value, str):
            return value
        if hasattr(value, "shape") and self.encoded:
            return value
        what = ", or what `encode_text` gives" if self.encoded else ""
        if not isinstance(value, (list, tuple)):
            raise refuse(
                TypeError, name, f"be a string or a list of strings{what}", value
            )
        for each in value:
            is_context = self.encoded and hasattr(each, "shape")
            if not isinstance(each, str) and not is_context:
                rule = f"be a string or a list of strings{what}"
                raise refuse(TypeError, name, rule, value)
        if not value:
            raise refuse(ValueError, name, "not be an empty list", value)
        return tuple(str(each) if isinstance(each, str) else each for each in value)

    def to_json(self, value, name):
        """See `Kind`."""
        if isinstance(value, tuple):
            return [self.to_json(each, name) for each in value]
        return value if isinstance(value, str) else to_npy(value)

    def from_json(self, value, name):
        """See `Kind`."""
        if isinstance(value, list):
            return [self.from_json(each, name) for each in value]
        return read_binary(value, name) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Seed(Kind):
    """A seed, or one for each picture; -1 is `None`, a random one, as in A1111."""

    schema = {
        "anyOf": [
            {"type": "integer", "minimum": -1, "maximum": SEEDS - 1},
            {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": SEEDS - 1},
                "minItems": 1,
            },
        ]
    }

    def check(self, value, name=None):
        """See `Kind`."""
        value = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(value, (list, tuple)):
            if not value:
                raise refuse(ValueError, name, "not be an empty list", value)
            return tuple(self._one(each, name) for each in value)
        return None if value == -1 else self._one(value, name)

    def _one(self, value, name) -> int:
        rule = "be a whole number from 0 to 2**64 - 1"
        if isinstance(value, bool):
            raise refuse(TypeError, name, rule, value)
        try:
            seed = operator.index(value)
        except TypeError:
            raise refuse(TypeError, name, rule, value) from None
        if not 0 <= seed < SEEDS:
            raise refuse(ValueError, name, rule, value)
        return seed

    def parse(self, text):
        """See `Kind`."""
        parts = [each.strip() for each in text.split(",")]
        found = []
        for each in parts:
            digits = each.removeprefix("-") if len(parts) == 1 else each
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
                return text
            found.append(int(each))
        return found if len(found) > 1 else found[0]

    def write(self, value):
        """See `Kind`."""
        return ",".join(map(str, as_list(value)))


@dataclass(frozen=True)
class Picture(Kind):
    """A path, a PIL image or an array, or a list of these: read when it is needed."""

    schema = one_or_several({"anyOf": [{"type": "string"}, BINARY]})

    def check(self, value, name=None):
        """See `Kind`."""
        if isinstance(value, (list, tuple)):
            if not value:
                raise refuse(ValueError, name, "not be an empty list", value)
            return tuple(self.check(each, name) for each in value)
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        is_array = hasattr(value, "__array__") or hasattr(value, "shape")
        if not isinstance(value, str) and not is_array and not is_pil(value):
            rule = "be a path, a PIL image or an array, or a list of these"
            raise refuse(TypeError, name, rule, value)
        return value

    def write(self, value):
        """See `Kind`."""
        return value if isinstance(value, str) else ""

    def files(self, value):
        """See `Kind`."""
        return [each for each in as_list(value) if isinstance(each, str)]

    def to_json(self, value, name):
        """See `Kind`."""
        if isinstance(value, tuple):
            return [self.to_json(each, name) for each in value]
        if isinstance(value, str):
            return value
        return to_png(value, name) if is_pil(value) else to_npy(value)

    def from_json(self, value, name):
        """See `Kind`."""
        if isinstance(value, list):
            return [self.from_json(each, name) for each in value]
        return read_binary(value, name) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Array(Kind):
    """Numbers that this library gave, as arrays or tensors."""

    what: str = "an array"

    schema = BINARY

    def check(self, value, name=None):
        """See `Kind`."""
        if isinstance(value, (str, bytes, Mapping)):
            raise refuse(TypeError, name, f"be {self.what}", value)
        return value

    def to_json(self, value, name):
        """See `Kind`."""
        return to_npy(value)

    def from_json(self, value, name):
        """See `Kind`."""
        return read_binary(value, name)


@dataclass(frozen=True)
class Model(Kind):
    """A model, or where it is: a preset's name, a folder or a file."""

    schema = {"type": "string"}

    def check(self, value, name=None):
        """See `Kind`."""
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if not isinstance(value, str) and not hasattr(value, "latent_shape"):
            raise refuse(TypeError, name, "be a `StableDiffusion`", value)
        return value

    def files(self, value):
        """See `Kind`."""
        return [] if value in PRESETS else [value]

    def to_json(self, value, name):
        """See `Kind`."""
        source = value
        if not isinstance(value, str):
            source = getattr(value, "source", None)
        if not isinstance(source, str):
            raise refuse(
                ValueError,
                name,
                "be a preset's name, a folder or a file to be written: save the model "
                "by `save_preset` and name the folder",
                value,
            )
        return source


@dataclass(frozen=True)
class Controls(Kind):
    """A `Control` or several."""

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        number = {"type": "number"}
        share = {**number, "minimum": 0.0, "maximum": 1.0}
        return one_or_several(
            {
                "type": "object",
                "properties": {
                    "network": {"type": "string"},
                    "picture": Picture.schema,
                    "scale": number,
                    "start": share,
                    "end": share,
                    "guess_mode": {"type": "boolean"},
                },
                "required": ["network", "picture"],
                "additionalProperties": False,
            }
        )

    def check(self, value, name=None):
        """See `Kind`."""
        listed = as_list(value)
        if not all(isinstance(each, Control) for each in listed):
            rule = "be a `Control(network, picture)` or a list of them"
            raise refuse(TypeError, name, rule, value)
        return tuple(listed) or None

    def files(self, value):
        """See `Kind`."""
        pictures = [
            each["picture"]
            for each in as_list(value)
            if isinstance(each, Mapping) and isinstance(each.get("picture"), str)
        ]
        networks = [
            each["network"]
            for each in as_list(value)
            if isinstance(each, Mapping)
            and isinstance(each.get("network"), str)
            and not re.fullmatch(r"[\w-]+", each["network"])
        ]
        return pictures + networks

    def to_json(self, value, name):
        """See `Kind`."""
        return [self._one(each, name) for each in as_list(value)]

    def _one(self, control: Control, name) -> dict:
        network = control.network
        if not isinstance(network, (str, os.PathLike)):
            raise refuse(
                ValueError,
                f"{name}: network",
                "be a name, a folder or a file to be written",
                network,
            )
        found = {"network": os.fspath(network)}
        found["picture"] = Picture().to_json(
            Picture().check(control.picture, name), name
        )
        for each in fields(Control)[2:]:
            if getattr(control, each.name) != each.default:
                found[each.name] = getattr(control, each.name)
        return found

    def from_json(self, value, name):
        """See `Kind`."""
        known = {each.name for each in fields(Control)}
        found = []
        for each in as_list(value):
            if not isinstance(each, Mapping) or not {"network", "picture"} <= set(each):
                raise refuse(ValueError, name, "have a network and a picture", each)
            for key in each:
                if key not in known:
                    rule = f"have {', '.join(sorted(known))}"
                    raise refuse(ValueError, name, rule, key)
            picture = Picture().from_json(each["picture"], name)
            found.append(Control(**{**each, "picture": picture}))
        return found
