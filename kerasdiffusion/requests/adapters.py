"""The kind of field that names adapters: files, each with its weight."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from kerasdiffusion.adapters.loaded import MOST_WEIGHT
from kerasdiffusion.requests.kinds import Kind, refuse

_RULE = (
    "be adapters: a file's name, or (file, weight), or (file, weight, text encoders' "
    "weight), or a list of them"
)


@dataclass(frozen=True)
class Adapters(Kind):
    """Files of adapters with weights, as tuples of a name and one or two numbers."""

    #: A flag of it may be given several times.
    repeats = True

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        weight = {"type": "number", "minimum": -MOST_WEIGHT, "maximum": MOST_WEIGHT}
        one = {
            "type": "array",
            "prefixItems": [{"type": "string"}, weight, weight],
            "items": False,
            "minItems": 2,
        }
        return {"type": "array", "items": one}

    def check(self, value, name=None):
        """See `Kind`."""
        if isinstance(value, (str, os.PathLike)) or _is_one(value):
            value = [value]
        if not isinstance(value, (list, tuple)):
            raise refuse(TypeError, name, _RULE, value)
        return tuple(self._one(each, name) for each in value) or None

    def _one(self, value, name) -> tuple:
        if isinstance(value, (str, os.PathLike)):
            value = (value, 1.0)
        if not _is_one(value):
            raise refuse(TypeError, name, _RULE, value)
        for weight in value[1:]:
            if not math.isfinite(weight) or abs(weight) > MOST_WEIGHT:
                rule = f"have weights from {-MOST_WEIGHT:g} to {MOST_WEIGHT:g}"
                raise refuse(ValueError, name, rule, weight)
        return (os.fspath(value[0]), *map(float, value[1:]))

    def parse(self, text):
        """See `Kind`: `FILE[:WEIGHT[:TEXT_WEIGHT]]`, several with commas between."""
        found = []
        for each in text.split(","):
            path, weights = each.strip(), []
            while len(weights) < 2 and not Path(path).exists():
                rest, colon, weight = path.rpartition(":")
                if not colon or not rest:
                    break
                with contextlib.suppress(ValueError):
                    weights.insert(0, float(weight))
                    path = rest
                    continue
                break
            found.append((path, *(weights or [1.0])))
        return found

    def write(self, value):
        """See `Kind`."""
        numbers = super().write
        return ", ".join(":".join([path, *map(numbers, own)]) for path, *own in value)

    def to_json(self, value, name):
        """See `Kind`."""
        return [list(each) for each in value]

    def from_json(self, value, name):
        """See `Kind`."""
        is_list = isinstance(value, list)
        return (
            [tuple(x) if isinstance(x, list) else x for x in value]
            if is_list
            else value
        )

    def files(self, value):
        """See `Kind`."""
        value = value if isinstance(value, list) else [value]
        firsts = [
            each[0] if isinstance(each, list) and each else each for each in value
        ]
        return [
            each
            for each in firsts
            if isinstance(each, str) and (Path(each).name != each or "\\" in each)
        ]


def _is_one(value) -> bool:
    return (
        isinstance(value, tuple)
        and 2 <= len(value) <= 3
        and isinstance(value[0], (str, os.PathLike))
        and all(isinstance(x, Real) and not isinstance(x, bool) for x in value[1:])
    )
