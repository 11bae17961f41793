"""LoRA and LoCon, with a core in the middle (Tucker) or without; DyLoRA's files too.

Reference:
    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1;
    LyCORIS `modules/locon.py`.
"""

from __future__ import annotations

from kerasdiffusion.adapters.algorithms.base import (
    Change,
    Given,
    columns,
    narrow_product,
    need,
    need_rank,
    operations,
)
from kerasdiffusion.adapters.algorithms.full import Added


class LowRank(Change):
    """The product of two narrow matrices.

    Args:
        up: `(outputs, rank)`.
        down: `(rank, inputs times the kernel's pixels)`; with a core, `(rank, inputs)`.
        scale: What the product is multiplied by.
        shape: The weight's.
        mid: The core of a convolution, `(rank, rank, height, width)`.
    """

    kind = "LoRA"

    def __init__(self, up, down, scale, shape, mid=None):
        self.up, self.down, self.mid, self.shape = up, down, mid, shape
        self.rank, self.scale = down.shape[0], scale
        if mid is not None:
            self.kind = "LoCon with a core"
        elif len(shape) == 4 and shape[2:] != (1, 1):
            self.kind = "LoCon"

    def difference(self, base, strength=1.0):
        """As `Change.difference`; Keras's order in memory, so that it is added soon."""
        xp, scale = operations(self.up), float(self.scale * strength)
        if self.mid is not None:
            core = xp.einsum("mn...,im->in...", self.mid, self.up * scale)
            return xp.einsum("in...,nj->ij...", core, self.down)
        up = xp.transpose(self.up)
        if len(self.shape) == 2:
            return xp.transpose(narrow_product(xp.transpose(self.down) * scale, up))
        _, ins, *sides = self.shape
        kernel = xp.reshape(self.down, (self.rank, ins, *sides))
        kernel = xp.reshape(xp.transpose(kernel, (2, 3, 1, 0)), (-1, self.rank))
        kernel = xp.reshape(narrow_product(kernel * scale, up), (*sides, ins, -1))
        return xp.transpose(kernel, (3, 2, 0, 1))


def sizes(shapes):
    """Rows and columns of the weight that tensors of these shapes change."""
    up, down, mid = shapes["up"], shapes["down"], shapes.get("mid")
    need(len(up) >= 2 and len(down) >= 2, "up and down must be matrices")
    need_rank(down[0])
    need(columns(up) == down[0], f"the ranks of up {up} and down {down} differ")
    if mid is not None:
        need(
            len(mid) > 2 and mid[:2] == (down[0], down[0]),
            f"the core {mid} must be (rank, rank, height, width)",
        )
        return up[0], columns(down) * columns(mid) // mid[1]
    return up[0], columns(down)


def make(given: Given):
    """The changes of a LoRA group."""
    down, mid = given.flat("down"), given.tensors.get("mid")
    scale = given.scale(down.shape[0])
    yield LowRank(given.flat("up"), down, scale, given.shape, mid)
    if "up_bias" in given.tensors:
        yield Added(given.tensors["up_bias"].ravel() * scale, "bias")
