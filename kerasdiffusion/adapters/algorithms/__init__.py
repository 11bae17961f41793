"""How an adapter's tensors change a weight: a file an algorithm, a row in the table.

| row | |
| --- | --- |
| `needs` | Slots (see `adapters/suffixes.py`) that make a group one of this kind. |
| `may` | Slots that it may have beside them. |
| `leaf` | What of the module it changes. |
| `sizes` | Rows and columns of the weight, from the tensors' shapes alone. |
| `make` | The changes, from the tensors. |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kerasdiffusion.adapters.algorithms import full, glora, ia3, loha, lokr, lora, oft
from kerasdiffusion.adapters.algorithms.base import Change, Given, Unfit
from kerasdiffusion.adapters.algorithms.dora import Decomposed, decomposed

__all__ = [
    "ALGORITHMS",
    "Change",
    "Decomposed",
    "Given",
    "Unfit",
    "changes",
    "rows_for",
]


class Algorithm(NamedTuple):
    """A row of the table."""

    kind: str
    needs: tuple[str, ...]
    may: tuple[str, ...]
    sizes: Callable
    make: Callable
    leaf: str = "weight"


_HADA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_PATHS = tuple(f"{letter}{end}" for letter in "ABCDE" for end in "dux")

ALGORITHMS = (
    Algorithm("LoRA", ("down", "up"), ("mid", "up_bias"), lora.sizes, lora.make),
    Algorithm("LoHa", _HADA, ("hada_t1", "hada_t2"), loha.sizes, loha.make),
    *(
        Algorithm("LoKr", needs, lokr.SLOTS, lokr.sizes, lokr.make)
        for needs in (("lokr_w1",), ("lokr_w1_a",), ("lokr_w2",), ("lokr_w2_a",))
    ),
    Algorithm("full difference", ("diff",), (), full.sizes, full.make),
    Algorithm("norm", ("norm",), (), full.sizes, full.make),
    Algorithm("GLoRA", ("a1", "a2", "b1", "b2"), ("bm",), glora.sizes, glora.make),
    Algorithm("IA3", ("ia3", "on_input"), (), ia3.sizes, ia3.make),
    Algorithm("IA3", ("ia3_l",), (), ia3.sizes, ia3.make_peft),
    Algorithm("OFT", ("oft_blocks",), ("rescale",), oft.sizes, oft.make),
    Algorithm("OFT", ("oft_R",), ("scaled_oft",), oft.input_sizes, oft.make_input),
    Algorithm(
        "BOFT", ("boft_R",), ("boft_s",), oft.butterfly_sizes, oft.make_butterfly
    ),
    *(
        Algorithm("GLoRA", needs, _PATHS, glora.paths_sizes, glora.make_paths)
        for needs in (("Ad", "Au"), ("Ax",), ("Bd", "Bu"), ("Bx",))
    ),
)
BIASES = (
    Algorithm("bias", ("diff_bias",), (), full.bias_sizes, full.make_bias, "bias"),
    Algorithm("bias", ("norm_bias",), (), full.bias_sizes, full.make_bias, "bias"),
)
#: Slots that belong to any group.
BESIDE = ("alpha", "dora", "magnitude")


def rows_for(slots) -> tuple[list[Algorithm], list[str]]:
    """The rows that a group of slots is of, at most one for each leaf.

    Args:
        slots: The slots that a file has for a module.

    Returns:
        The rows, and the slots that none of them takes.

    Raises:
        Unfit: If there is half of what a kind needs.
    """
    slots = set(slots)
    found = []
    for table in (ALGORITHMS, BIASES):
        row = next((row for row in table if slots >= set(row.needs)), None)
        if row is not None:
            found.append(row)
    left = slots - set(BESIDE)
    for row in found:
        left -= {*row.needs, *row.may}
    if not found or found[0].leaf == "bias":
        for row in ALGORITHMS:
            some = left & set(row.needs)
            if some:
                missing = ", ".join(sorted(set(row.needs) - slots))
                raise Unfit(
                    f"{row.kind} has {', '.join(sorted(some))} without {missing}"
                )
    return found, sorted(left)


def changes(rows, given: Given) -> list[Change]:
    """What the tensors of a module make.

    Args:
        rows: As `rows_for` gives them.
        given: The tensors and the module.

    Raises:
        Unfit: If they make no change.
    """
    made: list[Change] = []
    for row in rows:
        own = list(row.make(given))
        for slot in ("dora", "magnitude"):
            if slot in given.tensors and row.leaf == "weight" and own:
                values = given.tensors[slot]
                own[0] = decomposed(own[0], given, values, slot == "magnitude")
        made += own
    return made


def group_sizes(row: Algorithm, shapes: Mapping) -> tuple[int | None, int | None]:
    """Rows and columns of the tensor that a group is for; `None` where any do.

    Raises:
        Unfit: If the tensors do not fit each other.
    """
    try:
        return row.sizes(shapes)
    except (IndexError, KeyError) as error:
        raise Unfit(f"{row.kind} has tensors of shapes {dict(shapes)}") from error
