"""An adapter that a model has, and how much of it is used where."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

from kerasdiffusion.adapters.adapter import Adapter, Entry
from kerasdiffusion.adapters.algorithms import Change
from kerasdiffusion.adapters.namespaces import PARTS, UNET, namespace
from kerasdiffusion.presets.config import ModelConfig

#: Weights beyond this paint noise, and overflow half precision.
MOST_WEIGHT = 1000.0


@dataclass(frozen=True, eq=False)
class Loaded:
    """An adapter of a model, and how much of it.

    Args:
        name: What the model calls it.
        adapter: What its file says.
        weight: Of the U-Net's changes.
        text_encoder_weight: Of the text encoders'.
        weights: In place of these, for modules whose names begin so.
    """

    name: str
    adapter: Adapter
    weight: float = 1.0
    text_encoder_weight: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def strength(self, entry: Entry) -> float:
        """How much of a change is used."""
        best, found = -1, None
        for start, weight in self.weights.items():
            if len(start) > best and _begins(entry, start):
                best, found = len(start), weight
        if found is not None:
            return found
        return self.weight if entry.part == UNET else self.text_encoder_weight

    def __str__(self) -> str:
        line = f"adapter {self.name}: {self.adapter.describe()}; weight {self.weight:g}"
        if self.text_encoder_weight != self.weight:
            line += f", text encoders {self.text_encoder_weight:g}"
        return line


def changes_of(
    part: str, adapters: Sequence[Loaded]
) -> dict[str, list[tuple[Change, float]]]:
    """What adapters change of one network, as `networks.merging.Merging` takes it.

    Args:
        part: The network's name.
        adapters: Those that are used.

    Returns:
        The changes of each tensor and how much of each, by its canonical name.
    """
    found: dict[str, list[tuple[Change, float]]] = {}
    for loaded in adapters:
        for entry in loaded.adapter.entries:
            strength = loaded.strength(entry) if entry.part == part else 0.0
            if strength:
                found.setdefault(entry.tensor, []).append((entry.change, strength))
    return found


def told_unused(loaded: Loaded) -> str | None:
    """A sentence about the tensors of an adapter that were not used, if there are."""
    unused = loaded.adapter.unused
    if not unused:
        return None
    told = [
        key if near is None else f"{key} (nearest: {near})"
        for key, near in list(unused.items())[:3]
    ]
    more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
    return (
        f"{len(unused)} of {loaded.adapter.keys} tensors of the adapter "
        f"{loaded.name} were not used: {', '.join(told)}{more}"
    )


def _begins(entry: Entry, start: str) -> bool:
    """Whether a module is the one of a name, or in it; a part's name is all of it."""
    name = f"{entry.module}."
    return name.startswith(f"{start}.") or f"{entry.part}.{name}".startswith(
        f"{start}."
    )


def _beginnings(modules: Mapping[str, Mapping]) -> list[str]:
    """What the names of modules begin with, up to each dot, and the parts."""
    found = dict.fromkeys(PARTS)
    for own in modules.values():
        for name in own:
            words = name.split(".")
            found |= dict.fromkeys(".".join(words[:i]) for i in range(1, len(words)))
    return list(found)


def check_weights(config: ModelConfig, weight, text_encoder_weight, weights):
    """The three kinds of weights, as floats.

    Args:
        config: The model's.
        weight: A number.
        text_encoder_weight: A number, or `None` for the same.
        weights: Numbers by beginnings of modules' names, or `None`.

    Raises:
        TypeError: If one is no number.
        ValueError: If one is not finite or out of range, or a name begins no module's.
    """
    if text_encoder_weight is None:
        text_encoder_weight = weight
    weights = dict(weights or {})
    everything = {"weight": weight, "text_encoder_weight": text_encoder_weight}
    for name, value in {**everything, **weights}.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(
                f"An adapter's weight must be a number. Received: {name}={value!r}"
            )
        if not math.isfinite(value) or abs(value) > MOST_WEIGHT:
            raise ValueError(
                f"An adapter's weight must be from {-MOST_WEIGHT:g} to "
                f"{MOST_WEIGHT:g}. Received: {name}={value!r}"
            )
    known = namespace(config).modules
    for start in weights:
        if not any(
            _begins(Entry(part, module, None), start)
            for part in known
            for module in known[part]
        ):
            near = difflib.get_close_matches(start, _beginnings(known), 3, 0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(
                "`weights` must have beginnings of modules' names, such as "
                f"down_blocks.1.{hint} Received: {start!r}"
            )
    return (
        float(weight),
        float(text_encoder_weight),
        {start: float(value) for start, value in weights.items()},
    )
