"""Which adapter is to be learned, in values: its kind, its rank, of which modules."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kerasdiffusion.adapters.algorithms import Change, Given, changes, rows_for
from kerasdiffusion.adapters.algorithms.base import operations
from kerasdiffusion.adapters.namespaces import UNET

#: What `modules` may be beside patterns.
CHOICES = ("attention", "all")
#: The projections that diffusers' scripts teach, of U-Nets and of text encoders.
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class Learned:
    """What kinds of adapters have in common; `LoRA`, `LoHa` and `LoKr` are such.

    Args:
        rank: The factors' inner width, 1 or more.
        alpha: The change is multiplied by alpha over rank; the rank by default, so
            by 1.
        modules: `"attention"`: the query, key, value and output projections; `"all"`:
            every dense layer and convolution; or a list of patterns of modules' names
            as diffusers has them, such as `["attn2.to_k", "up_blocks.0.*"]`.
        text_encoders: Whether text encoders are taught too; a number is the factor of
            the learning rate that they learn with.
        dora: Whether to learn the magnitudes of weights beside, as DoRA does.
        rank_dropout: Share of the rank (of LoHa and LoKr, of the outputs) that is left
            out of each step.
        module_dropout: Share of the modules that are left out of each step.

    Raises:
        ValueError: If one is out of its range.
    """

    rank: int = 16
    alpha: float | None = None
    modules: str | Sequence[str] = "attention"
    text_encoders: bool | float = False
    dora: bool = False
    rank_dropout: float = 0.0
    module_dropout: float = 0.0

    def __post_init__(self):
        for name, fits, rule in (
            ("rank", type(self.rank) is int and self.rank > 0, "a whole number over 0"),
            ("alpha", self.alpha is None or 0 < self.alpha < math.inf, "over 0"),
            ("text_encoders", 0 <= self.text_encoders < math.inf, "0 or more"),
            ("rank_dropout", 0 <= self.rank_dropout < 1, "from 0 to under 1"),
            ("module_dropout", 0 <= self.module_dropout < 1, "from 0 to under 1"),
        ):
            if not fits:
                raise ValueError(
                    f"`{name}` must be {rule}. Received: {name}={getattr(self, name)}"
                )
        if isinstance(self.modules, str):
            if self.modules not in CHOICES:
                raise ValueError(
                    f"`modules` must be one of {', '.join(CHOICES)}, or a list of "
                    f"patterns. Received: {self.modules!r}"
                )
        else:
            object.__setattr__(self, "modules", tuple(self.modules))

    def begin(self, shape, random: np.random.Generator) -> dict[str, np.ndarray]:
        """The factors that a module begins with, which change nothing yet.

        Args:
            shape: The weight's, outputs first.
            random: Draws.

        Returns:
            float32 arrays by slot, see `adapters/suffixes.py`.
        """
        raise NotImplementedError

    def change(self, tensors: Mapping, shape) -> Change:
        """What factors make of a weight: numpy's arrays, or tensors.

        Args:
            tensors: By slot.
            shape: The weight's.
        """
        alpha = float(self.rank if self.alpha is None else self.alpha)
        rows, _ = rows_for(tensors)
        given = Given(tensors, {"weight": tuple(shape)}, alpha)
        return changes(rows, given)[0]

    def droppable(self, shape) -> int:
        """How many directions, of the rank or the outputs, a step may leave out."""
        return shape[0]

    def drop_factors(self, tensors: Mapping, kept) -> Mapping:
        """Factors in a step in which only the directions count that have a 1."""
        return tensors

    def drop_change(self, change, kept):
        """The change in such a step.

        Reference: LyCORIS `modules/loha.py`, `get_weight`.
        """
        return change * _beside(kept, change)


@dataclass(frozen=True)
class LoRA(Learned):
    """Low-rank factors beside weights; of convolutions too, LoCon.

    Args:
        rank: As in `Learned`; 4 to 128.
        alpha: As there.
        modules: As there.
        text_encoders: As there.
        dora: As there.
        rank_dropout: As there.
        module_dropout: As there.

    Example:

    >>> LoRA(rank=8, modules="all", text_encoders=0.5).rank
    8

    Reference:
        Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section
        4.1; Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation"; PEFT
        `tuners/lora/layer.py` for how they begin.
    """

    def begin(self, shape, random):
        """As `Learned.begin`."""
        outs, ins, *sides = shape
        up = np.zeros((outs, self.rank, *(1 for _ in sides)), "float32")
        return {"down": _uniform(random, (self.rank, ins, *sides)), "up": up}

    def droppable(self, shape):
        """As `Learned.droppable`."""
        return self.rank

    def drop_factors(self, tensors, kept):
        """As `Learned.drop_factors`; what is left counts the more for it.

        Reference: kohya-ss/sd-scripts `networks/lora.py`, `LoRAModule.forward`.
        """
        kept = _beside(kept, tensors["down"]) / (1.0 - self.rank_dropout)
        return {**tensors, "down": tensors["down"] * kept}

    def drop_change(self, change, kept):
        """As `Learned.drop_change`: the factors have it."""
        return change


@dataclass(frozen=True)
class LoHa(Learned):
    """The product, number by number, of two low-rank matrices.

    Args:
        rank: As in `Learned`.
        alpha: As there.
        modules: As there.
        text_encoders: As there.
        dora: As there.
        rank_dropout: As there.
        module_dropout: As there.

    Reference:
        Hyeon-Woo et al. 2022, "FedPara: Low-Rank Hadamard Product", proposition 1;
        LyCORIS `modules/loha.py` for how they begin.
    """

    rank: int = 8

    def begin(self, shape, random):
        """As `Learned.begin`."""
        outs, columns = shape[0], math.prod(shape[1:])

        def normal(deviation, *size):
            return (deviation * random.normal(size=size)).astype("float32")

        return {
            "hada_w1_a": normal(0.1, outs, self.rank),
            "hada_w1_b": normal(1.0, self.rank, columns),
            "hada_w2_a": np.zeros((outs, self.rank), "float32"),
            "hada_w2_b": normal(1.0, self.rank, columns),
        }


@dataclass(frozen=True)
class LoKr(Learned):
    """A Kronecker product of a small matrix and a larger one, which has low rank.

    Args:
        rank: As in `Learned`; a matrix of fewer than twice as many rows and columns
            is whole.
        alpha: As there.
        modules: As there.
        text_encoders: As there.
        dora: As there.
        rank_dropout: As there.
        module_dropout: As there.
        factor: Most rows and columns of the small matrix; -1 is as near as can be to
            the larger one's.
        decompose_both: Whether the small matrix has low rank too.

    Reference:
        Edalati et al. 2022, "KronA"; LyCORIS `modules/lokr.py` for how they begin.
    """

    rank: int = 8
    factor: int = -1
    decompose_both: bool = False

    def begin(self, shape, random):
        """As `Learned.begin`."""
        outs, ins, *sides = shape
        (rows, more_rows), (columns, more_columns) = (
            factorized(each, self.factor) for each in (outs, ins)
        )
        found, rank = {}, self.rank
        if self.decompose_both and rank < max(rows, columns) / 2:
            found["lokr_w1_a"] = _uniform(random, (rows, rank))
            found["lokr_w1_b"] = _uniform(random, (rank, columns))
        else:
            found["lokr_w1"] = _uniform(random, (rows, columns))
        if rank < max(more_rows, more_columns) / 2:
            size = rank, more_columns * math.prod(sides)
            found["lokr_w2_a"] = _uniform(random, (more_rows, rank))
            found["lokr_w2_b"] = np.zeros(size, "float32")
        else:
            size = more_rows, more_columns, *sides
            found["lokr_w2"] = np.zeros(size, "float32")
        return found


def factorized(number: int, factor: int = -1) -> tuple[int, int]:
    """Two factors of a number, the smaller first, as near each other as may be.

    Args:
        number: It.
        factor: The most that the smaller one may be, and what it is where that divides
            the number; -1 for any.

    Example:

    >>> factorized(360), factorized(360, 4), factorized(127)
    ((18, 20), (4, 90), (1, 127))

    Reference:
        LyCORIS `functional/general.py`, `factorization`.
    """
    if factor > 0 and number % factor == 0:
        return tuple(sorted((factor, number // factor)))
    most = math.isqrt(number) if factor < 0 else min(factor, math.isqrt(number))
    small = next(each for each in range(most, 0, -1) if number % each == 0)
    return small, number // small


def _beside(kept, values):
    """A number for each row, of as many dimensions as the values."""
    shape = (-1, *(1 for _ in values.shape[1:]))
    return operations(kept).reshape(kept, shape)


def _uniform(random, shape) -> np.ndarray:
    """Kaiming's with a slope of sqrt(5), PyTorch's of dense layers."""
    bound = 1.0 / math.sqrt(math.prod(shape[1:]))
    return random.uniform(-bound, bound, shape).astype("float32")


def chosen(part: str, names: Iterable[str], modules) -> list[str]:
    """The modules of a network that are to be taught.

    Args:
        part: Which network.
        names: The modules that have a kernel.
        modules: As of `Learned`.

    Raises:
        ValueError: If a pattern is no module's.
    """
    names = list(names)
    if modules == "all":
        return names
    if modules == "attention":
        ends = ATTENTION if part == UNET else TEXT_ATTENTION
        return [name for name in names if name.endswith(tuple(f".{e}" for e in ends))]
    return [name for name in names if any(matches(name, each) for each in modules)]


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern is a module's name, or what it ends in.

    Example:

    >>> matches("up_blocks.0.attentions.0.proj_in", "up_blocks.0.*")
    True
    >>> matches("mid_block.attentions.0.transformer_blocks.0.attn2.to_k", "attn2.to_k")
    True
    """
    return any(fnmatch.fnmatchcase(name, each) for each in (pattern, f"*.{pattern}"))


def check_patterns(modules, names: Iterable[str]) -> None:
    """Every pattern is some module's, of one of the networks that are taught.

    Args:
        modules: As of `Learned`.
        names: The modules of all of them.

    Raises:
        ValueError: If one is not.
    """
    if isinstance(modules, str):
        return
    names = list(names)
    for pattern in modules:
        if not any(matches(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, 2, 0.3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(
                "Every pattern of `modules` must be of a dense layer's or a "
                f"convolution's name.{hint} Received: {pattern!r}"
            )
    if not modules:
        raise ValueError("`modules` must be one pattern at least. Received: none")
