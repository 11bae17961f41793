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

    def narrow(self, strength=1.0):
        """A tall matrix and a wide one: their product is the change in Keras's order.

        `(inputs times the kernel's pixels, rank)` and `(rank, outputs)`; none with a
        core.
        """
        xp, scale = operations(self.up), float(self.scale * strength)
        _, ins, *sides = self.shape
        down = xp.reshape(self.down, (self.rank, ins, *sides))
        down = xp.transpose(down, (2, 3, 1, 0) if sides else (1, 0))
        return xp.reshape(down, (-1, self.rank)) * scale, xp.transpose(self.up)

    def difference(self, base, strength=1.0):
        """As `Change.difference`; Keras's order in memory, so that it is added soon."""
        xp = operations(self.up)
        if self.mid is not None:
            scale = float(self.scale * strength)
            core = xp.einsum("mn...,im->in...", self.mid, self.up * scale)
            return xp.einsum("in...,nj->ij...", core, self.down)
        kernel = narrow_product(*self.narrow(strength))
        if len(self.shape) == 2:
            return xp.transpose(kernel)
        _, ins, *sides = self.shape
        return xp.transpose(xp.reshape(kernel, (*sides, ins, -1)), (3, 2, 0, 1))


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
