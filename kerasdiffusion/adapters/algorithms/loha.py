"""LoHa: the product, number by number, of two LoRAs.

Reference:
    Hyeon-Woo et al. 2022, "FedPara: Low-Rank Hadamard Product", proposition 1; LyCORIS
    `modules/loha.py`. Its forward pass scales once, its `merge_to` twice.
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


class Hadamard(Change):
    """Two low-rank matrices, multiplied number by number.

    Args:
        first: Its two factors, and the core where there is one.
        second: The same.
        scale: What the product is multiplied by.
        shape: The weight's.
    """

    kind = "LoHa"

    def __init__(self, first, second, scale, shape):
        self.first, self.second, self.scale, self.shape = first, second, scale, shape
        self.rank = first[1].shape[0]

    def difference(self, base, strength=1.0):
        """As `Change.difference`."""
        first, second = product(*self.first), product(*self.second)
        values = operations(first).reshape(first * second, self.shape)
        return values * float(self.scale * strength)


def product(a, b, core=None):
    """Two factors as a matrix; with a core, both are rank first."""
    xp = operations(a)
    if core is None:
        return narrow_product(a, b)
    rows = xp.tensordot(a, core, axes=((0,), (0,)))
    return xp.moveaxis(xp.tensordot(rows, b, axes=((1,), (0,))), -1, 1)


def product_sizes(a, b, core, what):
    """Rows and columns of `product` from shapes."""
    need(len(a) == len(b) == 2, f"the factors of {what} must be matrices")
    need_rank(b[0])
    if core is None:
        need(a[1] == b[0], f"the ranks of {what} differ: {a} and {b}")
        return a[0], b[1]
    need(
        len(core) > 2 and core[:2] == (a[0], b[0]),
        f"the core {core} of {what} must be (rank, rank, height, width)",
    )
    return a[1], b[1] * columns(core) // core[1]


def sizes(shapes):
    """Rows and columns of the weight that tensors of these shapes change."""
    need(
        ("hada_t1" in shapes) == ("hada_t2" in shapes),
        "LoHa has two cores or none (hada_t1, hada_t2)",
    )
    first, second = (
        product_sizes(
            shapes[f"hada_w{i}_a"],
            shapes[f"hada_w{i}_b"],
            shapes.get(f"hada_t{i}"),
            f"LoHa's factor {i}",
        )
        for i in (1, 2)
    )
    need(first == second, f"LoHa's factors differ in size: {first} and {second}")
    return first


def make(given: Given):
    """The change of a LoHa group."""
    first, second = (
        (
            given.tensors[f"hada_w{i}_a"],
            given.tensors[f"hada_w{i}_b"],
            given.tensors.get(f"hada_t{i}"),
        )
        for i in (1, 2)
    )
    yield Hadamard(first, second, given.scale(first[1].shape[0]), given.shape)
