"""Adapters made of others: joined, cut to a rank, or of two models' difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kerasdiffusion.adapters.adapter import Adapter, Entry
from kerasdiffusion.adapters.algorithms import Change, Decomposed
from kerasdiffusion.adapters.algorithms.full import Added
from kerasdiffusion.adapters.algorithms.loha import Hadamard
from kerasdiffusion.adapters.algorithms.lokr import Kronecker
from kerasdiffusion.adapters.algorithms.lora import LowRank
from kerasdiffusion.adapters.namespaces import PARTS, namespace
from kerasdiffusion.adapters.partial import INDEPENDENT, Of
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.weights.base import WeightsError

#: Singular values below this share of the largest are rounding.
NOTHING = 1e-6


def joined(
    adapters: Sequence[tuple[Adapter, Callable[[Entry], float]]],
) -> dict[tuple[str, str, str], Change]:
    """The sum of adapters as one: exact, with the ranks added up.

    Args:
        adapters: Each with a function that gives the weight of an entry.

    Returns:
        A change by part, module and leaf.

    Raises:
        WeightsError: If what is to be summed depends on the weights of the model.
    """
    groups: dict[tuple[str, str, str], list] = {}
    for adapter, strength in adapters:
        for entry in adapter.entries:
            own = strength(entry)
            if own:
                key = entry.part, entry.module, entry.change.leaf
                groups.setdefault(key, []).append((entry.change, own))
    return {key: _sum(key, each) for key, each in groups.items()}


def _sum(key, changes) -> Change:
    if len(changes) == 1 and changes[0][1] == 1.0:
        return changes[0][0]
    if all(isinstance(change, LowRank) for change, _ in changes):
        pairs = [factors(change, strength) for change, strength in changes]
        up = np.concatenate([up for up, _ in pairs], axis=1)
        down = np.concatenate([down for _, down in pairs])
        return LowRank(up, down, 1.0, changes[0][0].shape)
    for change, _ in changes:
        _need_independent(change, key)
    total = sum(change.difference({}, strength) for change, strength in changes)
    return Added(np.ascontiguousarray(total), key[2])


def factors(change: LowRank, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Up and down whose product is the change: scale, weight and core are in them."""
    up, down = change.up, change.down
    if change.mid is not None:
        down = np.einsum("mn...,nj->mj...", change.mid, down).reshape(up.shape[1], -1)
    return up * np.float32(change.scale * strength), down


def _need_independent(change: Change, key) -> None:
    if not isinstance(change, (*INDEPENDENT, Of)):
        raise WeightsError(
            f"{change.kind} depends on the weights of the model, so it is no sum: "
            "`kerasdiffusion adapter bake` puts it into a model. Received: "
            f"{'.'.join(key[:2])}"
        )


def resized(
    changes: Mapping[tuple, Change], rank: int, share: float | None = None
) -> dict[tuple, Change]:
    """Each weight's change as the nearest LoRA of at most a rank.

    Args:
        changes: As `joined` gives them.
        rank: At most so many directions, the largest.
        share: Fewer, where they have this share of the change's norm already.

    Raises:
        WeightsError: If a change depends on the weights of the model.

    Reference:
        Eckart and Young 1936, "The approximation of one matrix by another of lower
        rank".
    """
    found = {}
    for key, change in changes.items():
        if isinstance(change, LowRank):
            found[key] = _cut_factors(change, rank, share)
            continue
        _need_independent(change, key)
        values = change.difference({})
        if key[2] != "weight" or values.ndim < 2:
            found[key] = Added(np.ascontiguousarray(values), key[2])
            continue
        found[key] = low_rank(values, rank, share)
    return found


def _cut_factors(change: LowRank, rank: int, share) -> LowRank:
    """The same without making the product."""
    up, down = (each.astype("float64") for each in factors(change))
    left, small_up = np.linalg.qr(up)
    right, small_down = np.linalg.qr(down.T)
    inner, values, outer = np.linalg.svd(small_up @ small_down.T, full_matrices=False)
    return _kept(left @ inner, values, outer @ right.T, rank, share, change.shape)


def low_rank(values: np.ndarray, rank: int, share: float | None = None) -> LowRank:
    """The nearest LoRA of at most a rank to a whole difference.

    Args:
        values: The difference of a weight, output channels first.
        rank: As in `resized`.
        share: As in `resized`.
    """
    matrix = values.reshape(len(values), -1).astype("float64")
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    return _kept(left, sizes, right, rank, share, values.shape)


def _kept(left, values, right, rank, share, shape) -> LowRank:
    count = max(1, int((values > NOTHING * values[0]).sum()) if values[0] > 0 else 1)
    if share is not None:
        parts = np.cumsum(values**2) / max(np.sum(values**2), 1e-300)
        count = min(count, int(np.searchsorted(parts, share**2)) + 1)
    count = min(count, rank)
    root = np.sqrt(values[:count])
    up = (left[:, :count] * root).astype("float32")
    down = (root[:, None] * right[:count]).astype("float32")
    return LowRank(up, down, 1.0, tuple(shape))


def extracted(
    read_base: Callable,
    read_other: Callable,
    config: ModelConfig,
    rank: int,
    parts=PARTS,
) -> dict[tuple, Change]:
    """The difference of two models of one configuration as a LoRA.

    Args:
        read_base: Gives a tensor of the first, by part and canonical name, or `None`.
        read_other: The same of the second.
        config: What both are made of.
        rank: At most this for each weight.
        parts: Which networks.

    Returns:
        A change for each weight that differs; norms and biases as whole differences.
    """
    found = {}
    for part, modules in namespace(config).modules.items():
        if part not in parts:
            continue
        for name, module in modules.items():
            if "embeddings." in name:
                continue
            for leaf, shape in module.shapes.items():
                base = read_base(part, f"{name}.{leaf}")
                other = read_other(part, f"{name}.{leaf}")
                if base is None or other is None:
                    continue
                values = (other - base).reshape(shape)
                if not values.any():
                    continue
                is_matrix = leaf == "weight" and len(shape) > 1
                found[part, name, leaf] = (
                    low_rank(values, rank) if is_matrix else Added(values, leaf)
                )
    return found


def adapter_of(changes: Mapping[tuple, Change], path: Path, family: str) -> Adapter:
    """Changes as a value."""
    entries = tuple(
        Entry(part, module, change) for (part, module, _), change in changes.items()
    )
    return Adapter(entries, path, family)


def tensors_of(change: Change) -> dict[str, np.ndarray]:
    """A change as a file has it, by slot, with an alpha that says the scale.

    Raises:
        WeightsError: If no file has it: it was made here of another.
    """
    if isinstance(change, Decomposed):
        return {**tensors_of(change.change), "dora": change.magnitude}
    if isinstance(change, LowRank):
        sides = change.shape[2:]
        up = change.up.reshape(*change.up.shape, *(1 for _ in sides))
        alpha = np.float32(change.scale * change.rank)
        if change.mid is not None:
            down = change.down.reshape(*change.down.shape, *(1 for _ in sides))
            return {"up": up, "down": down, "mid": change.mid, "alpha": alpha}
        down = change.down.reshape(change.rank, -1, *sides)
        return {"up": up, "down": down, "alpha": alpha}
    if isinstance(change, Hadamard):
        found = {"alpha": np.float32(change.scale * change.rank)}
        for i, (a, b, core) in enumerate((change.first, change.second), 1):
            found |= {f"hada_w{i}_a": a, f"hada_w{i}_b": b}
            if core is not None:
                found[f"hada_t{i}"] = core
        return found
    if isinstance(change, Kronecker):
        if change.parts is not None:
            return {**change.parts, "alpha": np.float32(change.scale * change.rank)}
        first = change.first * np.float32(change.scale)
        rows = change.shape[0] // len(first), change.shape[1] // first.shape[1]
        second = change.second.reshape(*rows, *change.shape[2:])
        # LyCORIS reads no file without alpha, and heeds none of whole matrices.
        return {"lokr_w1": first, "lokr_w2": second, "alpha": np.float32(1.0)}
    if isinstance(change, Added):
        if change.leaf == "bias":
            slot = "norm_bias" if change.kind == "norm" else "diff_bias"
        else:
            slot = "norm" if change.kind == "norm" else "diff"
        return {slot: change.values}
    raise WeightsError(
        f"{change.kind} cannot be written: `kerasdiffusion adapter bake` puts it into "
        "a model. Received: such a change"
    )
