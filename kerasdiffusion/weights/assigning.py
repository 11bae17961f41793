"""Tensors of files into variables, a few of them ahead of the others."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from kerasdiffusion.weights.arrays import EightBit, arrange, arrange_small
from kerasdiffusion.weights.base import TensorFile

WORKERS = min(4, os.cpu_count() or 1)


class Step(NamedTuple):
    """One tensor on its way: from a key of a file to a variable."""

    variable: object
    file: TensorFile
    key: str
    is_keras: bool  # whether the file has Keras's order of dimensions


def assign(steps: list[Step]) -> None:
    """Transposes in threads a few tensors ahead, and assigns in order.

    Args:
        steps: Of one network, planned and checked.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        ahead: deque = deque()
        for step in steps:
            ahead.append((step.variable, pool.submit(_prepare, step)))
            if len(ahead) > WORKERS:
                _give(*ahead.popleft())
        for variable, values in ahead:
            _give(variable, values)


def _give(variable, values: Future) -> None:
    """What was prepared, to a variable, or to a kernel of 8 bits and its scales."""
    if isinstance(variable, EightBit):
        kernel, scale = values.result()
        variable.kernel.assign(kernel)
        variable.scale.assign(scale)
    else:
        variable.assign(values.result())


def _prepare(step: Step) -> object:
    """The values of a variable, owned, in its shape and dtype."""
    variable, file, key, is_keras = step
    shape, dtype = tuple(variable.shape), np.dtype(variable.dtype)
    if isinstance(variable, EightBit):
        return arrange_small(file.read(key), shape, is_keras)
    values = arrange(file.read(key), variable.path, shape, dtype, is_keras)
    return values
