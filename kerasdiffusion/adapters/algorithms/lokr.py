"""LoKr: a Kronecker product.

Reference:
    Edalati et al. 2022, "KronA"; LyCORIS `modules/lokr.py`, whose forward pass scales
    once and whose `merge_to` scales twice.
"""

from __future__ import annotations

from kerasdiffusion.adapters.algorithms.base import (
    Change,
    Given,
    columns,
    matrix,
    need,
    operations,
)
from kerasdiffusion.adapters.algorithms.loha import product, product_sizes

#: What a file has of the two matrices.
SLOTS = (*(f"lokr_w{i}{end}" for i in (1, 2) for end in ("", "_a", "_b")), "lokr_t2")


class Kronecker(Change):
    """The Kronecker product of two matrices, each whole or in factors.

    Args:
        first: A matrix.
        second: A matrix: what is behind its first axis in one.
        scale: What the product is multiplied by.
        shape: The weight's.
        rank: The factors' width.
        parts: The two as a file has them, by slot, where one is in factors.
    """

    kind = "LoKr"

    def __init__(self, first, second, scale, shape, rank, parts=None):
        self.parts = parts
        self.first, self.second, self.scale = first, second, scale
        self.shape, self.rank = shape, rank

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        xp, first = operations(self.first), self.first * float(self.scale * strength)
        product = first[:, None, :, None] * self.second[None, :, None, :]
        return xp.reshape(product, self.shape)


def sizes(shapes):
    """Rows and columns of the weight that tensors of these shapes change."""
    sizes = []
    for i in (1, 2):
        whole = shapes.get(f"lokr_w{i}")
        if whole is not None:
            need(len(whole) >= 2, f"lokr_w{i} must be a matrix")
            sizes.append((whole[0], columns(whole)))
            continue
        a, b = shapes.get(f"lokr_w{i}_a"), shapes.get(f"lokr_w{i}_b")
        need(
            a is not None and b is not None,
            f"LoKr's factor {i} must be whole (lokr_w{i}) or a pair (lokr_w{i}_a, "
            f"lokr_w{i}_b)",
        )
        core = shapes.get("lokr_t2") if i == 2 else None
        sizes.append(product_sizes(a, b, core, f"LoKr's factor {i}"))
    (rows, columns_1), (more_rows, columns_2) = sizes
    return rows * more_rows, columns_1 * columns_2


def make(given: Given):
    """The change of a LoKr group: two whole factors have no rank, and a scale of 1."""
    factors, rank = [], None
    for i in (1, 2):
        whole = given.tensors.get(f"lokr_w{i}")
        if whole is None:
            a, b = given.tensors[f"lokr_w{i}_a"], given.tensors[f"lokr_w{i}_b"]
            core = given.tensors.get("lokr_t2") if i == 2 else None
            rank, whole = b.shape[0], product(a, b, core)
        factors.append(matrix(whole))
    stated = rank or given.rank
    scale = given.scale(stated) if stated else 1.0
    parts = {slot: given.tensors[slot] for slot in SLOTS if slot in given.tensors}
    parts = parts if rank is not None else None
    yield Kronecker(*factors, scale, given.shape, rank, parts)
