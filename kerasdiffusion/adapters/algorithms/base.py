"""What every algorithm gives: a change of one tensor of one module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Shape = tuple[int, ...]

#: Above this, alpha over rank is no scale that anyone trained with.
MOST_SCALE = 1e6


class Unfit(ValueError):
    """Tensors that make no change, or one of another module's size."""


class Change:
    """How one tensor of a module is changed, in PyTorch's order of dimensions.

    Attributes:
        kind: The algorithm's name.
        leaf: Which tensor of the module, `"weight"` or `"bias"`.
        rank: The inner width, where there is one.
        scale: What alpha and the rank make of it.
    """

    kind = ""
    leaf = "weight"
    rank: int | None = None
    scale: float = 1.0

    def difference(
        self, base: Mapping[str, np.ndarray], strength: float = 1.0
    ) -> np.ndarray:
        """What is added to the tensor.

        LoRA, LoHa, LoKr and DoRA of these compute with numpy's arrays and with a
        backend's tensors alike: while they are learned, gradients go through.

        Args:
            base: The module's own tensors, float32, by leaf; kinds that add something
                of their own read none of them.
            strength: The weight at which the change is used; 0 is none of it.

        Returns:
            float32 array of the tensor's shape, which the caller may write to.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Given:
    """What a file has for one module, and what the module is like.

    Args:
        tensors: float32 arrays by slot, see `suffixes`.
        shapes: The module's own shapes by leaf.
        alpha: The file's, or its settings'; `None` where nothing is said.
        rank: The rank that the settings state, for kinds whose tensors do not.
        rank_stabilized: Whether the scale is alpha over the root of the rank.
        settings: Of PEFT's `adapter_config.json`.
        module: The module's canonical name.
        is_peft: Whether PEFT wrote it, where others use the same names.
    """

    tensors: Mapping[str, np.ndarray]
    shapes: Mapping[str, Shape]
    alpha: float | None = None
    rank: int | None = None
    rank_stabilized: bool = False
    settings: Mapping = field(default_factory=dict)
    module: str = ""
    is_peft: bool = False

    @property
    def shape(self) -> Shape:
        """The shape of the module's weight."""
        return self.shapes["weight"]

    def flat(self, slot: str) -> np.ndarray:
        """A tensor as a matrix: what is behind its first axis in one."""
        return matrix(self.tensors[slot])

    def scale(self, rank: int) -> float:
        """Alpha over the rank; 1 where there is no alpha."""
        if self.alpha is None:
            return 1.0
        scale = self.alpha / (math.sqrt(rank) if self.rank_stabilized else rank)
        if not math.isfinite(scale) or abs(scale) > MOST_SCALE:
            raise Unfit(
                f"alpha over rank must be a number of at most {MOST_SCALE:g}; it is "
                f"{self.alpha:g} over {rank}"
            )
        return scale


def matrix(values: np.ndarray) -> np.ndarray:
    """An array with all behind its first axis in one."""
    return operations(values).reshape(values, (values.shape[0], -1))


def operations(values):
    """What computes with values: numpy with its arrays, `keras.ops` with tensors."""
    if isinstance(values, (np.ndarray, np.generic)):
        return np
    from keras import ops

    return ops


#: Multiplications of a product that OpenBLAS makes in the thread that asks for it.
ALONE = 2**17


def narrow_product(left, right, out=None):
    """The product of a tall matrix and a wide one, of arrays in blocks.

    Adapters are changed in several threads. A BLAS that divides each narrow product
    among threads of its own has them wait for each other longer than it takes: 0.34 s
    of the processor for the U-Net of Stable Diffusion 1 at rank 32 become 2.75 s.

    Args:
        left: float32, `(rows, rank)`; an array, or a tensor of `keras.ops`.
        right: float32, `(rank, columns)`, the same.
        out: A contiguous array that the product of arrays is written into.

    Example:

    >>> narrow_product(np.ones((2, 1), "float32"), np.ones((1, 3), "float32")).shape
    (2, 3)
    """
    xp = operations(left)
    if xp is not np:
        return xp.matmul(left, right)
    (rows, rank), width = left.shape, right.shape[1]
    m, n = math.gcd(rows, 128), math.gcd(width, 128)
    while m * n * rank > ALONE and m * n > 1:
        m, n = (m // 2, n) if m >= n else (m, n // 2)
    if m * n < 256:  # sizes that no network here has
        return np.matmul(left, right, out=out)
    result = np.empty((rows, width), "float32") if out is None else out
    np.matmul(
        left.reshape(rows // m, 1, m, rank),
        right.reshape(rank, width // n, n).transpose(1, 0, 2),
        out=result.reshape(rows // m, m, width // n, n).transpose(0, 2, 1, 3),
    )
    return result


def columns(shape: Shape) -> int:
    """How many numbers are behind the first axis."""
    return math.prod(shape[1:])


def need(condition: bool, rule: str) -> None:
    """Raises `Unfit` with the rule where the condition does not hold."""
    if not condition:
        raise Unfit(rule)


def need_rank(rank: int) -> None:
    """A rank is 1 or more."""
    need(rank > 0, "a rank must be 1 or more; it is 0")
