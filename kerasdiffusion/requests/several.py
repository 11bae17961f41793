"""Kinds of values that are several numbers: by name, in a series, a size."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kerasdiffusion.requests.kinds import Kind, Number, number, refuse, whole


@dataclass(frozen=True)
class Numbers(Kind):
    """Numbers in their order or by their names.

    Args:
        ranges: The lowest and the highest value of each.
        defaults: Of those that may be left out.
        short: Whether `True` stands for the defaults (and `False` for `None`).
        alone: Whether the first may stand without brackets.
        whole: Whether they are whole numbers.
        rule: What else must hold: a text and a function of the numbers.
    """

    ranges: Mapping[str, tuple[float, float]]
    defaults: Mapping[str, float] = field(default_factory=dict)
    short: bool = False
    alone: bool = False
    whole: bool = False
    rule: tuple[str, Callable] | None = None

    __hash__ = object.__hash__

    @property
    def least(self) -> int:
        """How many cannot be left out."""
        return max(1, len(self.ranges) - len(self.defaults))

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        bounds = [Number(*each).schema for each in self.ranges.values()]
        named = dict(zip(self.ranges, bounds, strict=True))
        required = [name for name in self.ranges if name not in self.defaults]
        several = [
            {
                "type": "array",
                "prefixItems": bounds,
                "items": False,
                "minItems": self.least,
            },
            {
                "type": "object",
                "properties": named,
                "required": required,
                "additionalProperties": False,
            },
        ]
        several += [bounds[0]] * self.alone + [{"type": "boolean"}] * self.short
        return {"anyOf": several}

    def check(self, value, name=None):
        """See `Kind`."""
        order = f"be ({', '.join(self.ranges)}), or a dict by these names"
        if self.alone:
            order = f"be a number, {order.removeprefix('be ')}"
        if self.short and isinstance(value, bool):
            value = {} if value else None
            if value is None:
                return None
        if self.alone and isinstance(value, numbers.Real):
            value = (value,)
        if isinstance(value, Mapping):
            unknown = [key for key in value if key not in self.ranges]
            if unknown:
                raise refuse(ValueError, name, order, unknown[0])
            found = dict(value)
        elif isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
            value = value.tolist() if hasattr(value, "tolist") else value
            if not isinstance(value, (list, tuple)):
                raise refuse(TypeError, name, order, value)
            if len(value) > len(self.ranges):
                raise refuse(ValueError, name, order, value)
            found = dict(zip(self.ranges, value, strict=False))
        else:
            raise refuse(TypeError, name, order, value)
        found = {**self.defaults, **found}
        missing = [key for key in self.ranges if key not in found]
        if missing:
            raise refuse(ValueError, name, f"{order}; {missing[0]} is missing", value)
        checked = tuple(self._one(key, found[key], name) for key in self.ranges)
        if self.rule is not None and not self.rule[1](*checked):
            raise refuse(ValueError, name, self.rule[0], value)
        return checked

    def _one(self, key: str, value, name: str | None):
        """A number of them, checked."""
        bounds, default = self.ranges[key], self.defaults.get(key)
        if key in self.defaults and (value is default or value == default == math.inf):
            return default
        name = f"{name}: {key}" if name else None
        found = Number(*bounds).check(value, name)
        if self.whole:
            if not found.is_integer():
                raise refuse(TypeError, name, "be a whole number", value)
            return int(found)
        return found

    def parse(self, text):
        """See `Kind`."""
        parts = [number(each.strip()) for each in text.split(",")]
        least, most = self.least, len(self.ranges)
        if not least <= len(parts) <= most or any(isinstance(x, str) for x in parts):
            count = "one" if least == 1 else least
            count = f"{count} to {most}" if most != least else count
            raise refuse(
                ValueError, None, f"be {count} numbers with commas between", text
            )
        return parts

    def write(self, value):
        """See `Kind`."""
        return ",".join(map(super().write, value))

    def to_json(self, value, name):
        """See `Kind`; JSON has no infinity, which is left out behind."""
        found = list(value)
        while found and found[-1] == math.inf:
            found.pop()
        return found


@dataclass(frozen=True)
class Series(Kind):
    """Numbers, as many as there are steps."""

    most: int = 1000

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        return {
            "type": "array",
            "items": {"type": "number"},
            "minItems": 1,
            "maxItems": self.most,
        }

    def check(self, value, name=None):
        """See `Kind`."""
        if hasattr(value, "tolist"):
            value = value.tolist()
        rule = "be numbers"
        if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
            raise refuse(TypeError, name, rule, value)
        found = []
        for each in value:
            if isinstance(each, bool) or not isinstance(each, numbers.Real):
                raise refuse(TypeError, name, rule, value)
            found.append(float(each))
            if len(found) > self.most:
                raise refuse(ValueError, name, f"be at most {self.most} numbers", value)
        if not found:
            raise refuse(ValueError, name, "not be empty", value)
        return tuple(found)

    def parse(self, text):
        """See `Kind`."""
        separator = "," if "," in text else None
        parts = [number(each.strip()) for each in text.split(separator)]
        if not parts or any(isinstance(each, str) for each in parts):
            rule = "be one or more numbers with commas between"
            raise refuse(ValueError, None, rule, text)
        return parts

    def write(self, value):
        """See `Kind`."""
        return ",".join(map(super().write, value))


@dataclass(frozen=True)
class Size(Kind):
    """Height and width in pixels; as text `WIDTHxHEIGHT`, or a corner's `TOP,LEFT`.

    Args:
        is_corner: Whether it is a corner's.
        most: The largest that either may be; any by default.
    """

    is_corner: bool = False
    most: int | None = None

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        most = {} if self.most is None else {"maximum": self.most}
        side = {"type": "integer", "minimum": 0, **most}
        return {"type": "array", "items": side, "minItems": 2, "maxItems": 2}

    def check(self, value, name=None):
        """See `Kind`."""
        value = value.tolist() if hasattr(value, "tolist") else value
        range_ = "0 or more" if self.most is None else f"from 0 to {self.most}"
        rule = f"be a height and a width, whole numbers, {range_}"
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise refuse(ValueError, name, rule, value)
        for side in value:
            if isinstance(side, bool) or not isinstance(side, numbers.Real):
                raise refuse(ValueError, name, rule, value)
            if not 0 <= side < math.inf or side != int(side):
                raise refuse(ValueError, name, rule, value)
            if self.most is not None and side > self.most:
                raise refuse(ValueError, name, rule, value)
        return tuple(map(int, value))

    def parse(self, text):
        """See `Kind`."""
        if self.is_corner:
            sides = [number(each.strip()) for each in text.split(",")]
            rule = "be 2 numbers with commas between"
        else:
            width, x, height = text.lower().partition("x")
            sides = [whole(each) for each in (height if x else width, width)]
            rule = "be N or WIDTHxHEIGHT in pixels, as 512 or 768x512"
        if len(sides) != 2 or any(isinstance(side, str) for side in sides):
            raise refuse(ValueError, None, rule, text)
        return tuple(sides)

    def write(self, value):
        """See `Kind`."""
        first, second = map(super().write, value)
        return f"{first},{second}" if self.is_corner else f"{second}x{first}"
