"""IA3: rows or columns of a weight are multiplied.

Reference:
    Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper
    than In-Context Learning", section 3.3; LyCORIS `modules/ia3.py`; PEFT
    `tuners/ia3/layer.py`, which multiplies the bias too.
"""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.adapters.algorithms.base import Change, Given, need


class Scaled(Change):
    """A tensor with its rows or columns multiplied.

    Args:
        factors: One less than what they are multiplied by, to broadcast.
        leaf: As in `Change`.
    """

    kind = "IA3"

    def __init__(self, factors, leaf="weight"):
        self.factors, self.leaf = factors, leaf

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        return base[self.leaf] * (self.factors * np.float32(strength))


def sizes(shapes):
    """Any weight whose rows or columns are as many: `make` tells which."""
    return None, None


def _factors(given: Given, values, on_input: bool):
    axis = 1 if on_input else 0
    need(
        values.size == given.shape[axis],
        f"IA3 must have a number for each of {given.shape[axis]} channels; it has "
        f"{values.size}",
    )
    shape = [1] * len(given.shape)
    shape[axis] = -1
    return values.reshape(shape)


def make(given: Given):
    """The change of a group of LyCORIS."""
    on_input = bool(given.tensors["on_input"].ravel()[0])
    yield Scaled(_factors(given, given.tensors["ia3"], on_input))


def make_peft(given: Given):
    """The changes of a group of PEFT: of an output, the bias is one too."""
    values = given.tensors["ia3_l"]
    outs, ins = given.shape[:2]
    if values.ndim == 2:  # of a dense layer: a row or a column
        on_input = values.shape[0] == 1 and (ins != 1 or outs != 1)
    else:
        told = given.settings.get("feedforward_modules") or ()
        told = [told] if isinstance(told, str) else told
        named = any(f".{given.module}".endswith(f".{name}") for name in told)
        on_input = named or (values.size == ins and values.size != outs)
    yield Scaled(_factors(given, values - 1, on_input))
    if not on_input and "bias" in given.shapes:
        need(values.size == math.prod(given.shapes["bias"]), "IA3 of another size")
        yield Scaled(values.ravel() - 1, "bias")
