"""Orthogonal finetuning: a weight is turned, block by block.

Reference:
    Qiu et al. 2023, "Controlling Text-to-Image Diffusion by Orthogonal Finetuning",
    section 3; Liu et al. 2024, "Parameter-Efficient Orthogonal Finetuning via Butterfly
    Factorization", section 4; LyCORIS `modules/diag_oft.py`, `functional/boft.py`; PEFT
    `tuners/oft/layer.py`, `tuners/boft/layer.py`, which turn the input side.
"""

from __future__ import annotations

import math

import numpy as np

from kerasdiffusion.adapters.algorithms.base import Change, Given, columns, need

NEUMANN_TERMS = 5
#: How far PEFT's constrained OFT turns where nothing is said.
MOST_TURN = 6e-5


class Rotated(Change):
    """A weight whose output channels are turned in blocks, once or as a butterfly.

    Args:
        stages: Orthogonal blocks, `(stages, blocks, size, size)`.
        rescale: What rows are multiplied by after, or `None`.
        is_butterfly: Whether the stages mix ever further apart.
    """

    def __init__(self, stages, rescale=None, is_butterfly=False):
        self.stages, self.rescale = stages, rescale
        self.is_butterfly = is_butterfly
        self.kind = "BOFT" if is_butterfly else "diag-OFT"
        self.rank = stages.shape[1]

    def difference(self, base, strength=1.0):
        """As `Change.difference`; each stage goes that part of its way."""
        base = base["weight"]
        weight, strength = base.reshape(len(base), -1), np.float32(strength)
        size = self.stages.shape[-1]
        own = np.eye(size, dtype="float32") * (1 - strength)
        for i, blocks in enumerate(self.stages):
            blocks = blocks * strength + own
            if self.is_butterfly:
                weight = _butterfly(weight, blocks, 2**i * (size // 2))
            else:
                weight = weight.reshape(len(blocks), size, -1)
                weight = np.einsum("knm,knc->kmc", blocks, weight, optimize=True)
            weight = weight.reshape(len(base), -1)
        if self.rescale is not None:
            weight = weight * (1 + strength * (self.rescale.reshape(-1, 1) - 1))
        return weight.reshape(base.shape) - base


def _butterfly(weight, blocks, far: int):
    """One stage: rows that are `far` apart come into one block and go back."""
    size = blocks.shape[-1]
    weight = weight.reshape(-1, 2, far, weight.shape[-1]).transpose(0, 2, 1, 3)
    weight = weight.reshape(-1, size, weight.shape[-1])
    weight = np.einsum("bij,bjc->bic", blocks, weight, optimize=True)
    weight = weight.reshape(-1, far, 2, weight.shape[-1]).transpose(0, 2, 1, 3)
    return weight.reshape(-1, weight.shape[-1])


class InputRotated(Change):
    """A weight whose inputs are turned in blocks.

    Args:
        stages: Blocks `(stages, blocks, size, size)`; a weight's columns of a block
            become `columns @ block`.
        rescale: What rows, and the bias never, are multiplied by; or `None`.
        orders: For each stage, where a block's columns go; `None` leaves all in place.
        kind: As in `Change`.
    """

    def __init__(self, stages, rescale=None, orders=None, kind="OFT of PEFT"):
        self.stages, self.rescale, self.orders, self.kind = (
            stages,
            rescale,
            orders,
            kind,
        )
        self.rank = stages.shape[1]

    def difference(self, base, strength=1.0):
        """As `Change.difference`: that part of the way, in a straight line."""
        base = base["weight"]
        weight, rows = base.reshape(len(base), -1), len(base)
        for i, blocks in enumerate(self.stages):
            order = None if self.orders is None else self.orders[i]
            if order is not None:
                weight = weight[:, np.argsort(order)]
            weight = weight.reshape(rows, -1, blocks.shape[-1])
            blocks = np.broadcast_to(blocks, (weight.shape[1], *blocks.shape[1:]))
            weight = np.einsum("orc,rck->ork", weight, blocks, optimize=True)
            weight = weight.reshape(rows, -1)
            if order is not None:
                weight = weight[:, order]
        if self.rescale is not None:
            weight = weight * self.rescale.reshape(-1, 1)
        return (weight.reshape(base.shape) - base) * np.float32(strength)


def _cayley(skew):
    """`(I + Q) (I - Q)^-1` of skew matrices, orthogonal."""
    eye = np.eye(skew.shape[-1], dtype="float64")
    skew = skew.astype("float64")
    turned = (eye + skew) @ np.linalg.inv(eye - skew)
    return turned.astype("float32")


def sizes(shapes):
    """The rows are those of all blocks; the columns are any."""
    blocks = shapes["oft_blocks"]
    need(
        len(blocks) in (3, 4) and blocks[-1] == blocks[-2] and 0 not in blocks,
        f"OFT's blocks must be square; they are {blocks}",
    )
    need(len(blocks) == 3 or blocks[-1] % 2 == 0, "BOFT's blocks must be even")
    return blocks[-3] * blocks[-1], None


def make(given: Given):
    """The change of a group of LyCORIS or kohya; alpha limits how far it turns."""
    blocks = given.tensors["oft_blocks"]
    skew = blocks - np.swapaxes(blocks, -1, -2)
    most = (given.alpha or 0.0) * given.shape[0]
    norm = float(np.linalg.norm(skew)) + 1e-8
    if 0.0 < most < norm:
        skew = skew * np.float32(most / norm)
    stages = _cayley(skew)
    is_butterfly = blocks.ndim == 4
    if is_butterfly:
        need(
            blocks.shape[-1] // 2 * 2 ** len(blocks) <= given.shape[0],
            "BOFT has more stages than its width allows",
        )
    else:
        stages = stages[None]
    yield Rotated(stages, given.tensors.get("rescale"), is_butterfly)


def _size_of(numbers: int) -> int:
    """The side of a skew matrix from how many numbers are above its diagonal."""
    side = (1 + math.isqrt(1 + 8 * numbers)) // 2
    need(side * (side - 1) // 2 == numbers and side > 1, "OFT's blocks make no matrix")
    return side


def input_sizes(shapes):
    """The columns are those of all blocks, where these are not shared."""
    shape = shapes["oft_R"]
    need(len(shape) == 2 and shape[0] > 0, "oft_R must be a matrix")
    size = _size_of(shape[1])
    return None, (shape[0] * size if shape[0] > 1 else None)


def make_input(given: Given):
    """The change of a group of PEFT (`oft_R`), or of OneTrainer.

    Reference:
        PEFT `tuners/oft/layer.py`; OneTrainer `modules/module/oft_utils.py` and
        `LoRAModule.py`, which turns convolutions the other way.
    """
    values, told = given.tensors["oft_R"], given.settings
    size, is_convolution = _size_of(values.shape[1]), len(given.shape) > 2
    need(
        columns(given.shape) % size == 0,
        f"the inputs must be a multiple of OFT's blocks, {size}",
    )
    need(
        not given.is_peft or math.prod(given.shape[2:]) == 1,
        "PEFT's OFT of a convolution larger than 1x1 adds up pictures' overlapping "
        "patches, which no weight does",
    )
    rows, cols = np.triu_indices(size, 1)
    skew = np.zeros((len(values), size, size), "float32")
    skew[:, rows, cols] = values
    skew = skew - np.swapaxes(skew, 1, 2)
    if told.get("coft"):
        most = float(told.get("eps", MOST_TURN)) / math.sqrt(len(values))
        norm = np.sqrt(np.sum(np.square(skew), axis=(1, 2), keepdims=True))
        skew = skew * np.minimum(1.0, most / np.maximum(norm, 1e-30))
    if "scaled_oft" in given.tensors and given.tensors["scaled_oft"].any():
        skew = skew / np.float32(2.0 * math.sqrt(size - 1))
    if told.get("use_cayley_neumann", True):
        terms = int(told.get("num_cayley_neumann_terms", NEUMANN_TERMS))
        blocks = _neumann(skew, terms)
    else:
        blocks = _cayley(-skew)
    if given.is_peft or not is_convolution:  # it is the inputs that are turned
        blocks = np.swapaxes(blocks, 1, 2)
    name = "OFT of PEFT" if given.is_peft else "OFT of OneTrainer"
    yield InputRotated(blocks[None], kind=name)


def _neumann(skew, terms: int):
    """The Cayley transform cut off, as PEFT trains it."""
    eye = np.eye(skew.shape[-1], dtype="float32")
    result, power = np.broadcast_to(eye, skew.shape).copy(), eye
    last = max(terms - 1, 3) if terms > 2 else terms - 1
    for i in range(1, last + 1):
        power = power @ skew
        result += power * (1.0 if i == last > 1 else 2.0)
    return result


def butterfly_sizes(shapes):
    """Of PEFT's BOFT: the columns are those of all blocks."""
    blocks = shapes["boft_R"]
    need(len(blocks) == 4 and blocks[-1] == blocks[-2], "boft_R must be square blocks")
    return None, blocks[1] * blocks[-1]


def make_butterfly(given: Given):
    """The changes of a group of PEFT's BOFT."""
    blocks = given.tensors["boft_R"]
    count, number, size = blocks.shape[:3]
    skew = 0.5 * (blocks - np.swapaxes(blocks, -1, -2))
    stages = np.swapaxes(_cayley(-skew), -1, -2)
    orders = None
    if count > 1:
        width = number * size
        orders = [
            _butterfly_order(width, number // 2**i, size // 2) for i in range(count)
        ]
    yield InputRotated(stages, given.tensors.get("boft_s"), orders, "BOFT of PEFT")


def _butterfly_order(width: int, parts: int, half: int):
    """Columns of each part: the even groups of `half`, then the odd ones."""
    groups = np.arange(width).reshape(parts, -1, half)
    order = np.concatenate([groups[:, ::2], groups[:, 1::2]], axis=1)
    return order.reshape(-1)
