"""Adapters' changes in a network's weights, put in and taken off exactly.

Each tensor is its original plus the changes of all adapters, each of the original at
its own weight: in whatever order they come, and however often, none is rounded twice,
and what is taken off leaves the original to the bit.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from kerasdiffusion.adapters.algorithms import Change
from kerasdiffusion.adapters.algorithms.base import narrow_product
from kerasdiffusion.adapters.algorithms.lora import LowRank
from kerasdiffusion.compute import heap, memory
from kerasdiffusion.compute.backend import has_accelerator
from kerasdiffusion.compute.eight_bit import in_eight_bits
from kerasdiffusion.compute.recycled import Recycled
from kerasdiffusion.weights.arrays import EightBit, stored_variables
from kerasdiffusion.weights.names import canonical_name

WORKERS = min(4, os.cpu_count() or 1)

#: The changes of one tensor and how much of each.
Wanted = Sequence[tuple[Change, float]]


class Merging:
    """What of adapters is in one network's weights.

    Args:
        network: A built network with its weights.
        low_memory: Whether what is freed goes back to the system.
    """

    def __init__(self, network, low_memory: bool = False):
        self.network = network
        if not (low_memory or has_accelerator()):
            heap.keep_freed_pages()  # each tensor has one as large as it on its way
        self._variables = {
            canonical_name(variable.path, network.name): variable
            for variable in stored_variables(network)
        }
        self._kept: dict[str, tuple] = {}
        self._merged: dict[str, tuple] = {}
        self._recycled = Recycled(keras.backend.backend())
        #: What whoever merges says that is in the weights.
        self.worn: tuple = ()

    @property
    def is_plain(self) -> bool:
        """Whether the weights are the originals."""
        return not self._merged

    def merge(self, wanted: Mapping[str, Wanted]) -> None:
        """Has exactly these changes in the weights: all, or as it was before.

        Args:
            wanted: The changes of each tensor, by its canonical name.

        Raises:
            ValueError: If some cannot be applied, or the result does not fit the dtype
                of the weights.
        """
        wanted = {name: tuple(each) for name, each in wanted.items() if each}
        before, self.worn = dict(self._merged), ()
        try:
            self._apply(wanted)
        except BaseException:
            self._apply(before)
            raise
        finally:
            self.network.has_adapters = bool(self._merged)

    def _apply(self, wanted: Mapping[str, tuple]) -> None:
        for name in [name for name in self._merged if name not in wanted]:
            self._put_back(name)
        stale = [name for name in wanted if wanted[name] != self._merged.get(name)]
        with self._recycled.at_hand(), ThreadPoolExecutor(WORKERS) as pool:
            ahead: deque = deque()
            for name in stale:
                modules = self._module(name)
                ahead.append((name, pool.submit(self._values, name, modules, wanted)))
                if len(ahead) > WORKERS:
                    self._assign(*ahead.popleft(), wanted)
            while ahead:
                self._assign(*ahead.popleft(), wanted)

    def _module(self, name: str) -> dict[str, tuple]:
        """The originals of a module's tensors, kept from now on, by leaf."""
        module = name.rpartition(".")[0]
        found = {}
        for leaf in ("weight", "bias"):
            tensor = f"{module}.{leaf}"
            if tensor in self._kept:
                found[leaf] = self._kept[tensor]
            elif tensor in self._variables:
                found[leaf] = _keep(self._variables[tensor])
        self._kept[name] = found[name.rpartition(".")[2]]
        return found

    def _values(self, name: str, module: Mapping[str, tuple], wanted):
        """The values of a tensor with its changes, in Keras's order."""
        leaf, variable = name.rpartition(".")[2], self._variables[name]
        if not isinstance(variable, EightBit) and all(map(_is_low_rank, wanted[name])):
            room = self._recycled.room
            return (_with_low_rank(variable, module[leaf], wanted[name], name, room),)
        originals = {
            each: _array(self._variables[f"{name.rpartition('.')[0]}.{each}"], kept)
            for each, kept in module.items()
        }
        stored = {
            each: values.transpose(_stored_axes(values, each, variable))
            for each, values in originals.items()
        }
        total = None
        for change, strength in wanted[name]:
            part = change.difference(stored, strength)
            part = part.transpose(np.argsort(_stored_axes(part, leaf, variable)))
            if total is None:
                total = np.require(part, "float32", "CW")
            else:
                total += part
        into = None
        if not isinstance(variable, EightBit) and variable.dtype == "float32":
            into = self._recycled.room(total.shape)
        into = total if into is None else into
        return _as_stored(np.add(total, originals[leaf], out=into), variable, name)

    def _assign(self, name: str, future, wanted) -> None:
        values = future.result()
        backend = keras.backend.backend()
        for variable, each in zip(_parts(self._variables[name]), values, strict=True):
            memory.put(backend, variable, each)
        self._merged[name] = wanted[name]

    def _put_back(self, name: str) -> None:
        backend = keras.backend.backend()
        for variable, value in zip(
            _parts(self._variables[name]), self._kept.pop(name), strict=True
        ):
            memory.put(backend, variable, value)
        del self._merged[name]


def _parts(variable) -> tuple:
    """The variables of a tensor: one, or a kernel of 8 bits and its scales."""
    if isinstance(variable, EightBit):
        return variable.kernel, variable.scale
    return (variable,)


def _keep(variable) -> tuple:
    backend = keras.backend.backend()
    return tuple(memory.keep(backend, each) for each in _parts(variable))


def _array(variable, kept: tuple) -> np.ndarray:
    """The kept values as float32, in Keras's order."""
    backend = keras.backend.backend()
    values, *scale = (memory.view(backend, each) for each in kept)
    values = np.asarray(values, "float32")
    return values / np.asarray(scale[0], "float32") if scale else values


#: Numbers of a kernel that are changed at a time: they stay in a core's cache.
_BLOCK = 2**16


def _is_low_rank(wanted: tuple[Change, float]) -> bool:
    return isinstance(wanted[0], LowRank) and wanted[0].mid is None


def _with_low_rank(variable, kept, wanted: Wanted, name: str, room) -> np.ndarray:
    """A kernel with the products of LoRA, block by block: each is in memory once."""
    pairs = [change.narrow(strength) for change, strength in wanted]
    left = np.concatenate([left for left, _ in pairs], axis=1)
    right = np.concatenate([right for _, right in pairs])
    backend, shape = keras.backend.backend(), tuple(variable.shape)
    dtype = np.dtype(variable.dtype)
    values = room(shape) if dtype == np.float32 else None
    values = np.empty(shape, dtype) if values is None else values
    originals = memory.view(backend, kept[0]).reshape(-1, shape[-1])
    result, rows = values.reshape(originals.shape), max(128, _BLOCK // shape[-1])
    for start in range(0, len(result), rows):
        place = slice(start, start + rows)
        is_whole = dtype == np.float32
        block = narrow_product(left[place], right, result[place] if is_whole else None)
        block += np.asarray(originals[place], "float32")
        if not is_whole:
            with np.errstate(over="ignore"):
                result[place] = block
        _check_finite(result[place], name)
    return values


def _stored_axes(values: np.ndarray, leaf: str, variable) -> tuple[int, ...]:
    """From Keras's order of dimensions to PyTorch's."""
    if leaf != "weight" or values.ndim == 1 or not variable.path.endswith("/kernel"):
        return tuple(range(values.ndim))
    return (1, 0) if values.ndim == 2 else (3, 2, 0, 1)


def _as_stored(values: np.ndarray, variable, name: str) -> tuple[np.ndarray, ...]:
    """Values as the variables of a tensor take them, rounded once."""
    if isinstance(variable, EightBit):
        kernel, scale = in_eight_bits(np.moveaxis(values, -1, 0))
        kernel = np.ascontiguousarray(np.moveaxis(kernel, 0, -1))
        return kernel, scale.astype(np.dtype(variable.scale.dtype))
    dtype = np.dtype(variable.dtype)
    with np.errstate(over="ignore"):
        values = values.astype(dtype, copy=False)
    _check_finite(values, name)
    return (values,)


def _check_finite(values: np.ndarray, name: str) -> None:
    if not _is_finite(values):
        raise ValueError(
            f"Weights with adapters must fit {values.dtype.name}: use a smaller "
            f"weight. Received: a change of {name} that does not"
        )


#: The bits of an exponent, which are all set in what is not finite.
_EXPONENT = {"float16": np.uint16(0x7C00), "bfloat16": np.uint16(0x7F80)}


def _is_finite(values: np.ndarray) -> bool:
    """Whether all numbers are finite, without a second array where that can be."""
    exponent = _EXPONENT.get(values.dtype.name)
    if exponent is not None:
        return not ((values.view("uint16") & exponent) == exponent).any()
    flat = values.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        # One that is not finite makes the sum so; a large sum alone proves nothing.
        return bool(np.isfinite(flat @ flat) or np.isfinite(flat).all())
