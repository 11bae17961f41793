"""GLoRA: a change that depends on the weight, and one that does not.

Reference:
    Chavan et al. 2023, "One-for-All: Generalized LoRA", equation 3; LyCORIS
    `modules/glora.py`; PEFT `tuners/glora/layer.py`, another parametrization.
"""

from __future__ import annotations

import numpy as np

from kerasdiffusion.adapters.algorithms.base import (
    Change,
    Given,
    columns,
    need,
    need_rank,
)
from kerasdiffusion.adapters.algorithms.lora import LowRank


class Generalized(Change):
    """`W a1 a2 + b1 b2`, on the input side.

    Args:
        a1: `(inputs, rank)`.
        a2: `(rank, inputs)`.
        added: What does not depend on the weight, a `LowRank`.
        scale: What the first is multiplied by.
    """

    kind = "GLoRA"

    def __init__(self, a1, a2, added, scale):
        self.a1, self.a2, self.added, self.scale = a1, a2, added, scale
        self.rank = len(a2)

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        first = np.float32(self.scale * strength) * self.a1
        own = np.einsum("oi...,ir->or...", base["weight"], first, optimize=True)
        own = np.einsum("or...,rj->oj...", own, self.a2, optimize=True)
        return own + self.added.difference(base, strength)


def _is_old(shapes) -> bool:
    """Whether the factors come in the other order, as in LyCORIS before version 2."""
    a1, a2, b1, b2 = (shapes[slot] for slot in ("a1", "a2", "b1", "b2"))
    return columns(a2) == a1[0] == b1[0] == columns(b2) and not (
        a2[0] == columns(a1) == b2[0] == columns(b1)
    )


def sizes(shapes):
    """Rows and columns of the weight that tensors of these shapes change."""
    b1, b2, core = shapes["b1"], shapes["b2"], shapes.get("bm")
    if _is_old(shapes):
        b1, b2 = b2, b1
    need_rank(b2[0])
    need(columns(b1) == b2[0], f"GLoRA's ranks differ: {b1} and {b2}")
    if core is not None:
        return b1[0], columns(b2) * columns(core) // core[1]
    return b1[0], columns(b2)


def make(given: Given):
    """The change of a GLoRA group of LyCORIS."""
    a1, a2, b1, b2 = (given.flat(slot) for slot in ("a1", "a2", "b1", "b2"))
    if _is_old({slot: given.tensors[slot].shape for slot in ("a1", "a2", "b1", "b2")}):
        a1, a2, b1, b2 = a2, a1, b2, b1
    ins = given.shape[1]
    need(a1.shape == a2.shape[::-1] and len(a1) == ins, "a1 and a2 must be inputs wide")
    scale = given.scale(len(a2))
    added = LowRank(b1, b2, scale, given.shape, given.tensors.get("bm"))
    yield Generalized(a1, a2, added, scale)


class Paths(Change):
    """PEFT's: `W * A + B` of a weight; `b * D + E + W C` of a bias, number by number.

    Args:
        times: What multiplies the tensor itself; a number, a column or a matrix.
        plus: What is added.
        leaf: As in `Change`.
        across: What multiplies the weight into the bias, or `None`.
        rank: As in `Change`.
    """

    kind = "GLoRA"

    def __init__(self, times, plus, leaf="weight", across=None, rank=None):
        self.times, self.plus, self.leaf = times, plus, leaf
        self.across, self.rank = across, rank

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        values = base[self.leaf] * self.times + self.plus
        if self.across is not None:
            values = values + (base["weight"] @ self.across).reshape(values.shape)
        return np.asarray(values, "float32") * np.float32(strength)


def paths_sizes(shapes):
    """Rows and columns; a path of single numbers fits any weight."""
    for letter in "AB":
        down, up = shapes.get(f"{letter}d"), shapes.get(f"{letter}u")
        if down is not None and up is not None:
            need(down[1] == up[0], f"GLoRA's ranks differ: {down} and {up}")
            return down[0], up[1]
    for letter in "AB":
        if f"{letter}x" in shapes and len(shapes[f"{letter}x"]) == 2:
            return shapes[f"{letter}x"][0], None
    return None, None


def make_paths(given: Given):
    """The changes of a GLoRA group of PEFT."""

    def path(letter):
        if f"{letter}d" in given.tensors:
            return given.tensors[f"{letter}d"] @ given.tensors[f"{letter}u"]
        return given.tensors.get(f"{letter}x", np.zeros(1, "float32"))

    rank = given.tensors["Ad"].shape[1] if "Ad" in given.tensors else None
    yield Paths(path("A"), path("B"), rank=rank)
    beside = [slot for slot in given.tensors if slot[0] in "CDE" and len(slot) == 2]
    if beside and "bias" in given.shapes:
        times, plus = (path(letter).reshape(-1) for letter in "DE")
        across = path("C") if {"Cd", "Cx"} & set(beside) else None
        if across is not None and across.size == 1:
            across = np.full((given.shape[1], 1), across.item(), "float32")
        yield Paths(times, plus, "bias", across, rank)
