"""Changes of a part of what a file's is of, and of a base that had lost a part."""

from __future__ import annotations

import numpy as np

from kerasdiffusion.adapters.algorithms.base import Change, Unfit
from kerasdiffusion.adapters.algorithms.full import Added
from kerasdiffusion.adapters.algorithms.loha import Hadamard
from kerasdiffusion.adapters.algorithms.lokr import Kronecker
from kerasdiffusion.adapters.algorithms.lora import LowRank

#: Changes that are the same whatever the weight is.
INDEPENDENT = (Added, Hadamard, Kronecker, LowRank)


class Of(Change):
    """A change that is made from another."""

    def __init__(self, change: Change):
        if not isinstance(change, INDEPENDENT):
            raise Unfit(
                f"{change.kind} depends on the whole weight, of which this model has "
                "another size"
            )
        self.change, self.kind, self.leaf = change, change.kind, change.leaf
        self.rank, self.scale = change.rank, change.scale


class Third(Of):
    """The query's, the key's or the value's rows of OpenCLIP's fused matrix.

    Args:
        change: That of the whole.
        third: Which, from 0 to 2.
    """

    def __init__(self, change: Change, third: int):
        super().__init__(change)
        self.third = third

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        values = self.change.difference({}, strength)
        rows = len(values) // 3
        return values[self.third * rows : (self.third + 1) * rows]


class Fitted(Of):
    """The first convolution's change, for a U-Net that sees more or fewer channels.

    The latents' channels come first in all of them; what is not there is not changed.

    Args:
        change: As the file has it.
        shape: The model's.
    """

    def __init__(self, change: Change, shape):
        super().__init__(change)
        self.shape = shape

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        values = self.change.difference({}, strength)
        result = np.zeros(self.shape, "float32")
        both = min(self.shape[1], values.shape[1])
        result[:, :both] = values[:, :both]
        return result


class WithoutInitial(Change):
    """A LoRA that began as a part of the weight, which was taken from it meanwhile.

    PEFT trains the part and leaves the rest. To a whole weight, the difference of the
    part from what it began as is added; that is found from the weight again.

    Args:
        change: What was trained, a `LowRank` of a dense layer.
        how: `"pissa"` or `"olora"`.

    Reference:
        Meng et al. 2024, "PiSSA", section 3; Büyükakyüz 2024, "OLoRA", section 3; PEFT
        `tuners/lora/layer.py`, `pissa_init` and `olora_init`.
    """

    def __init__(self, change: LowRank, how: str):
        if not isinstance(change, LowRank) or len(change.shape) != 2:
            raise Unfit(f"{how} is of dense layers alone")
        self.change, self.how = change, how
        self.rank, self.scale = change.rank, change.scale
        self.kind = {"pissa": "PiSSA", "olora": "OLoRA"}[how]

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        part = initial_part(base["weight"], self.how, self.rank, self.scale)
        return (self.change.difference(base) - part) * np.float32(strength)


def initial_part(weight: np.ndarray, how: str, rank: int, scale: float) -> np.ndarray:
    """What PEFT takes from a weight as it begins.

    Args:
        weight: `(outputs, inputs)`.
        how: `"pissa"`: its largest singular values; `"olora"`: what the first columns
            span.
        rank: Of the part.
        scale: Alpha over the rank.
    """
    if how == "pissa":
        left, values, right = np.linalg.svd(weight, full_matrices=False)
        return (left[:, :rank] * values[:rank]) @ right[:rank]
    basis, rest = np.linalg.qr(weight)
    return np.float32(scale) * (basis[:, :rank] @ rest[:rank])


def without_initial(change: Change, how: str | None) -> Change:
    """A change of the whole base, from one that began as a part of it."""
    if how is None or change.leaf != "weight":
        return change
    return WithoutInitial(change, how)
