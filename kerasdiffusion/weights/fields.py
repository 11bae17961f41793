"""The fields of one JSON file, read so that none is silently ignored."""

from __future__ import annotations

from collections.abc import Mapping

from kerasdiffusion.storage.bounds import check_bound, shown
from kerasdiffusion.weights.base import WeightsError

DIFFUSERS_VERSION = "0.30.0"  # whose fields we write

#: What diffusers' `EMAModel` writes into the configuration of what it averaged.
EMA = frozenset(
    "decay foreach inv_gamma min_decay optimization_step power update_after_step "
    "use_ema_warmup".split()
)


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

    def whole(self, name: str, default: int, bound: str, least: int = 1) -> int:
        """A count: an integer of no more than a row of `storage.bounds` says."""
        value = self.take(name, default)
        if type(value) is not int or value < least:
            self.refuse(name, value)
        self.check(bound, value)
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A finite number over `low` and under `high`."""
        value = self.take(name, default)
        if type(value) not in (int, float) or not low < value < high:
            self.refuse(name, value)
        return float(value)

    def listed(self, name: str, default, bound: str = "levels") -> tuple:
        """A list that is no longer than a row of `storage.bounds` says."""
        values = self.take(name, default)
        if not isinstance(values, (list, tuple)):
            self.refuse(name, values)
        self.check(bound, len(values))
        return tuple(values)

    def check(self, bound: str, value: int) -> None:
        """Refuses what is over a row of `storage.bounds`."""
        try:
            check_bound(bound, value, self.where)
        except ValueError as error:
            raise WeightsError(str(error)) from None

    def widths(self, name: str, default) -> tuple[int, ...]:
        """Channels of each level."""
        values = self.listed(name, default)
        if not values or any(type(n) is not int or n < 1 for n in values):
            self.refuse(name, values)
        self.check("channels", max(values))
        return values

    def refuse(self, name: str, value):
        raise WeightsError(
            f"The field {name!r} has a value that is not supported. Received: "
            f"{shown(value)} in {self.where}"
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
    fields.check("layers" if "layers" in name else "channels", max(values, default=0))
    return tuple(values)


def same(fields: Fields, name: str, value):
    """The one value of a field that may be a list of equal ones."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or any(item != values[0] for item in values):
        fields.refuse(name, value)
    return values[0]
