"""Whole differences, of weights, biases and norms.

Reference:
    LyCORIS `modules/full.py`, `modules/norms.py`.
"""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.adapters.algorithms.base import Change, Given, need


class Added(Change):
    """A tensor that is added as it is.

    Args:
        values: It, of the leaf's shape.
        leaf: As in `Change`.
        kind: As in `Change`.
    """

    def __init__(self, values, leaf="weight", kind="full difference"):
        self.values, self.leaf, self.kind = values, leaf, kind

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        return self.values * np.float32(strength)


def sizes(shapes):
    """Rows and columns of the weight that a difference of this shape changes."""
    shape = shapes.get("diff", shapes.get("norm"))
    need(len(shape) > 0 and 0 not in shape, f"a difference of shape {shape} is none")
    return shape[0], math.prod(shape[1:])


def bias_sizes(shapes):
    """The same of a bias: its rows alone."""
    return math.prod(shapes.get("diff_bias", shapes.get("norm_bias"))), None


def make(given: Given):
    """The change of a weight."""
    for slot, kind in (("diff", "full difference"), ("norm", "norm")):
        if slot in given.tensors:
            yield Added(given.tensors[slot].reshape(given.shape), "weight", kind)


def make_bias(given: Given):
    """The change of a bias."""
    need("bias" in given.shapes, "the module has no bias")
    for slot, kind in (("diff_bias", "full difference"), ("norm_bias", "norm")):
        if slot in given.tensors:
            values = given.tensors[slot].reshape(given.shapes["bias"])
            yield Added(values, "bias", kind)
