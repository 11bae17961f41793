"""An adapter as a value: which tensors of which modules change, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasdiffusion.adapters.algorithms import Change


class Entry(NamedTuple):
    """One change of one tensor: part and canonical module, as in diffusers."""

    part: str
    module: str
    change: Change

    @property
    def tensor(self) -> str:
        """The canonical name of the tensor."""
        return f"{self.module}.{self.change.leaf}"


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a file of LoRA or of its kin says.

    Args:
        entries: The changes.
        path: Where it was read; `None` of one that was made here.
        family: What models it is for, in words.
        embeddings: Words with their vectors, by the text encoders' parts: those of a
            bundle.
        unused: Keys that were not used, and what each may mean instead, or `None`.
        keys: How many the file has.
        metadata: What the file says of itself.
    """

    entries: tuple[Entry, ...]
    path: Path | None
    family: str = ""
    embeddings: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    unused: Mapping[str, str | None] = field(default_factory=dict)
    keys: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The algorithms, the most frequent first."""
        counts: dict[str, int] = {}
        for entry in self.entries:
            counts[entry.change.kind] = counts.get(entry.change.kind, 0) + 1
        return tuple(sorted(counts, key=lambda kind: -counts[kind]))

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that there are, in order."""
        found = {entry.change.rank for entry in self.entries}
        return tuple(sorted(rank for rank in found if rank is not None))

    @property
    def alphas(self) -> tuple[float, ...]:
        """What is multiplied by the rank, in order."""
        found = {
            round(entry.change.scale * entry.change.rank, 6)
            for entry in self.entries
            if entry.change.rank is not None
        }
        return tuple(sorted(found))

    @property
    def modules(self) -> dict[str, int]:
        """How many modules are changed of each part."""
        found = {(entry.part, entry.module) for entry in self.entries}
        parts = [part for part, _ in found]
        return {part: parts.count(part) for part in sorted(set(parts))}

    def describe(self) -> str:
        """One line: family, algorithm, rank, alpha, modules, and what was not used."""
        parts = ", ".join(f"{count} of {part}" for part, count in self.modules.items())
        line = f"{' + '.join(self.kinds)} for {self.family}"
        if self.ranks:
            line += f", rank {_span(self.ranks)}, alpha {_span(self.alphas)}"
        line += f", modules: {parts}"
        words = sorted({word for table in self.embeddings.values() for word in table})
        if words:
            line += f", words: {', '.join(words)}"
        return f"{line}; applied {self.keys - len(self.unused)} of {self.keys} tensors"


def _span(values) -> str:
    low, high = (f"{value:g}" for value in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"
