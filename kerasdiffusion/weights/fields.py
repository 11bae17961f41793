"""The fields of one JSON file, read so that none is silently ignored."""

from __future__ import annotations

from collections.abc import Mapping

from kerasdiffusion.weights.base import WeightsError

DIFFUSERS_VERSION = "0.30.0"  # whose fields we write


class Fields:
    """One JSON file's fields, each taken once; what is left over is checked."""

    def __init__(self, values: Mapping, where: str):
        self.values, self.where = dict(values), where

    def take(self, name: str, default=None):
        value = self.values.pop(name, None)
        return default if value is None else value

    def need(self, name: str):
        if name not in self.values:
            raise WeightsError(f"The field {name!r} is needed. Received: {self.where}")
        return self.values.pop(name)

    def refuse(self, name: str, value):
        raise WeightsError(
            f"The field {name!r} has a value that is not supported. Received: "
            f"{value!r} in {self.where}"
        )

    def finish(self, fixed: Mapping, free=()) -> None:
        """Refuse what the networks here cannot represent."""
        for name, value in self.values.items():
            if name.startswith("_") or name in free:
                continue
            # A new field of a later version is harmless where it is off.
            if value != fixed[name] if name in fixed else value:
                self.refuse(name, value)


def per_level(fields: Fields, name: str, value, levels: int) -> tuple[int, ...]:
    """One number a level from a field that holds one number or a list."""
    values = value if isinstance(value, (list, tuple)) else [value] * levels
    if len(values) != levels or not all(
        type(number) is int and number > 0 for number in values
    ):
        fields.refuse(name, value)
    return tuple(values)


def same(fields: Fields, name: str, value):
    """The one value of a field that may be a list of equal ones."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or any(item != values[0] for item in values):
        fields.refuse(name, value)
    return values[0]
