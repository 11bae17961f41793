"""OpenCLIP's fused weights, taken apart as a file is read and put together again.

Its attention has query, key and value in one matrix, its position table is no layer of
its own, and its projection is a plain matrix, inputs first.

Reference:
    OpenCLIP `src/open_clip/transformer.py`; PyTorch `torch.nn.MultiheadAttention`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kerasdiffusion.weights.base import TensorFile

FUSED = re.compile(r"(.*\.attn\.)in_proj_(weight|bias)")
SPLIT = re.compile(r"(.*\.attn\.)([qkv])_proj\.(weight|bias)")
PLAIN = re.compile(r"(.*\.|)(positional_embedding|text_projection)")
LETTERS = "qkv"


class View(NamedTuple):
    """A tensor as it is seen: a third of another, or one turned over."""

    key: str
    third: int | None = None
    turned: bool = False


def unfused(file: TensorFile) -> TensorFile:
    """The file itself, or a view of it if it has OpenCLIP's fused weights."""
    return Unfused(file) if any(map(FUSED.fullmatch, file.keys())) else file


class Unfused(TensorFile):
    """A file whose tensors have one layer each."""

    def __init__(self, file: TensorFile):
        super().__init__(file.path)
        self.file, self.metadata = file, file.metadata
        self.views: dict[str, View] = {}
        for key in file.keys():
            rank = len(file.shape(key))
            if (match := FUSED.fullmatch(key)) and rank and file.shape(key)[0] % 3 == 0:
                for third, letter in enumerate(LETTERS):
                    name = f"{match[1]}{letter}_proj.{match[2]}"
                    self.views[name] = View(key, third)
            elif (match := PLAIN.fullmatch(key)) and rank == 2:
                turned = match[2] == "text_projection"
                self.views[f"{key}.weight"] = View(key, turned=turned)
            else:
                self.views[key] = View(key)

    def keys(self) -> list[str]:
        return list(self.views)

    def __contains__(self, name: str) -> bool:
        return name in self.views

    def shape(self, name: str) -> tuple[int, ...]:
        key, third, turned = self.views[name]
        shape = self.file.shape(key)
        if third is not None:
            return (shape[0] // 3, *shape[1:])
        return shape[::-1] if turned else shape

    def dtype(self, name: str) -> np.dtype:
        return self.file.dtype(self.views[name].key)

    def read(self, name: str) -> np.ndarray:
        key, third, turned = self.views[name]
        values = self.file.read(key)
        if third is not None:
            rows = len(values) // 3
            return values[third * rows : (third + 1) * rows]
        return values.T if turned else values

    def check(self, names: Iterable[str]) -> None:
        self.file.check({self.views[name].key for name in names})

    def close(self) -> None:
        self.file.close()


def fused_name(name: str) -> tuple[str, bool]:
    """The name in a file of a tensor that `Unfused` shows, and whether it is turned.

    The three thirds of a fused tensor have one name; they stand in it in their order.
    """
    if match := SPLIT.fullmatch(name):
        return f"{match[1]}in_proj_{match[3]}", False
    stem = name.removesuffix(".weight")
    if match := PLAIN.fullmatch(stem):
        return stem, match[2] == "text_projection"
    return name, False
