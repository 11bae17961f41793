"""DoRA: a change decomposed into direction and magnitude, on top of any other.

Reference:
    Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", equation 5; LyCORIS
    `functional/general.py`, `weight_decompose`; PEFT `tuners/lora/dora.py`.
"""

from __future__ import annotations

import numpy as np

from kerasdiffusion.adapters.algorithms.base import Change, Given, need, operations


class Decomposed(Change):
    """A weight that another change was added to, with new magnitudes.

    LyCORIS's files before April 2025 have a magnitude for each input, all others one
    for each output. The strength goes a straight line from the weight to the result.

    Args:
        change: What is added first.
        magnitude: Norms, shaped to broadcast over the weight.
        axis: The axis that they are of.
    """

    def __init__(self, change, magnitude, axis: int):
        self.change, self.magnitude, self.axis = change, magnitude, axis
        self.rank, self.scale = change.rank, change.scale
        self.kind = f"DoRA of {change.kind}"

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        weight = base["weight"]
        xp, changed = operations(weight), weight + self.change.difference(base)
        axes = tuple(i for i in range(len(weight.shape)) if i != self.axis)
        norm = xp.sqrt(xp.sum(xp.square(changed), axis=axes, keepdims=True))
        norm = constant(norm) + float(np.finfo("float32").eps)
        return (changed * (self.magnitude / norm) - weight) * float(strength)


def constant(norm):
    """A norm that gradients do not go through (section 4.3)."""
    xp = operations(norm)
    return norm if xp is np else xp.stop_gradient(norm)


def decomposed(change: Change, given: Given, magnitude, is_output: bool) -> Decomposed:
    """A change with magnitudes, whose axis their shape tells.

    Args:
        change: That of the weight.
        given: The module's.
        magnitude: As the file has it.
        is_output: Whether they are of outputs whatever the shape, as PEFT's are.
    """
    shape = given.shape
    axis = _axis(tuple(magnitude.shape), shape, is_output)
    need(
        axis is not None,
        f"DoRA's magnitudes {magnitude.shape} are those of neither the outputs nor the "
        f"inputs of {shape}",
    )
    to = [1] * len(shape)
    to[axis] = -1
    magnitude = operations(magnitude).reshape(magnitude, to)
    return Decomposed(change, magnitude, axis)


def _axis(found, shape, is_output) -> int | None:
    size = int(np.prod(found))
    of_input = len(found) > 1 and found[0] == 1 and size == shape[1] and size > 1
    if not is_output and of_input and all(n == 1 for n in found[2:]):
        return 1
    return 0 if size == shape[0] else None
