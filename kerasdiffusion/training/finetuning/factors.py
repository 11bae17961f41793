"""An adapter's factors for one network, as variables that `fit()` teaches."""

from __future__ import annotations

import types
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from kerasdiffusion.adapters.adapter import Entry
from kerasdiffusion.adapters.algorithms.lora import LowRank
from kerasdiffusion.compute import backend
from kerasdiffusion.training.finetuning.learned import Learned
from kerasdiffusion.weights.names import canonical_name


class Factors(keras.layers.Layer):
    """The variables of an adapter, in float32, and what they make of the kernels.

    Args:
        part: Which network.
        network: It, built.
        spec: What is learned.
        shapes: The shapes of the weights of the modules that are taught, outputs
            first, by canonical name.
        seed: Of what the factors begin with.
    """

    def __init__(self, part: str, network, spec: Learned, shapes: Mapping, seed):
        super().__init__(name=f"{part}_factors", dtype="float32", autocast=False)
        self.part, self.spec = part, spec
        # Keras must not take them for what this layer has to save.
        self._kernels = types.MappingProxyType(kernels(network))
        self._shapes = types.MappingProxyType(dict(shapes))
        random, table = np.random.default_rng(seed), {}
        for module, shape in shapes.items():
            begin = spec.begin(shape, random)
            if spec.dora:
                begin["magnitude"] = _magnitude(self._kernels[module], shape)
            table[module] = {
                slot: self.add_weight(
                    values.shape,
                    lambda shape, dtype, values=values: ops.convert_to_tensor(
                        values, dtype
                    ),
                    dtype="float32",
                    name=f"{module}-{slot}".replace(".", "-"),  # PyTorch's rule
                )
                for slot, values in begin.items()
            }
        self._table = types.MappingProxyType(table)
        self.built = True

    def changes(self, seed=None) -> list[tuple]:
        """The kernels, each with what makes its value and the tensors for that.

        Args:
            seed: A `keras.random.SeedGenerator` that draws what is left out of the
                step; `None` leaves out nothing.

        Returns:
            What `compute.changed.Changed` takes.
        """
        found = []
        modules, directions = self._drop(seed)
        for i, (module, variables) in enumerate(self._table.items()):
            shape = self._shapes[module]
            tensors = [ops.convert_to_tensor(v) for v in variables.values()]
            if directions is not None:
                count = self.spec.droppable(shape)
                tensors.append(directions[:count])
                directions = directions[count:]
            if modules is not None:
                tensors.append(modules[i])
            dropped = directions is not None, modules is not None
            function = _Made(self.spec, tuple(variables), shape, *dropped)
            found.append((self._kernels[module], function, tensors))
        return found

    def entries(self) -> list[Entry]:
        """The changes as they are now, of numpy's arrays."""
        return [
            Entry(
                self.part,
                module,
                self.spec.change(
                    {slot: backend.to_numpy(v) for slot, v in variables.items()},
                    self._shapes[module],
                ),
            )
            for module, variables in self._table.items()
        ]

    def _drop(self, seed):
        """1 or 0 for each module and for each direction: whether a step has it."""
        if seed is None:
            return None, None
        found = []
        for share, count in (
            (self.spec.module_dropout, len(self._shapes)),
            (
                self.spec.rank_dropout,
                sum(map(self.spec.droppable, self._shapes.values())),
            ),
        ):
            draw = None
            if share:
                draw = keras.random.uniform((count,), dtype="float32", seed=seed)
                draw = ops.cast(draw >= share, "float32")
            found.append(draw)
        return found


class _Made:
    """What makes a kernel's value of the one that it has and of its factors.

    Args:
        spec: What is learned.
        slots: What the factors are called.
        shape: The weight's.
        drops_directions: Whether what is kept of these comes behind the factors.
        drops_modules: Whether it comes last whether the module is kept.
    """

    def __init__(self, spec, slots, shape, drops_directions, drops_modules):
        self.spec, self.slots, self.shape = spec, slots, shape
        self.drops_directions, self.drops_modules = drops_directions, drops_modules

    def __call__(self, value, *tensors):
        tensors, kept, left = self._told(tensors)
        value = ops.cast(value, "float32")
        base = {}
        if self.spec.dora:
            base["weight"] = ops.transpose(value, to_stored(len(self.shape)))
        found = self.spec.change(tensors, self.shape).difference(base)
        if kept is not None:
            found = self.spec.drop_change(found, kept)
        found = ops.transpose(found, from_stored(len(self.shape)))
        return value + (found if left is None else found * left)

    def narrow(self, *tensors) -> tuple | None:
        """Two matrices whose product is added to a dense layer's, if that is all."""
        tensors, kept, left = self._told(tensors)
        found = self.spec.change(tensors, self.shape)
        if not isinstance(found, LowRank) or len(self.shape) != 2:
            return None
        down, up = found.narrow()
        return down, up if left is None else up * left

    def _told(self, tensors):
        """The factors that count in this step, and what else it leaves out."""
        *tensors, left = tensors if self.drops_modules else (*tensors, None)
        *tensors, kept = tensors if self.drops_directions else (*tensors, None)
        tensors = dict(zip(self.slots, tensors, strict=True))
        if kept is not None:
            tensors = self.spec.drop_factors(tensors, kept)
        return tensors, kept, left


def kernels(network) -> dict[str, object]:
    """The kernels of a network's dense layers and convolutions, by module."""
    return {
        canonical_name(v.path, network.name).removesuffix(".weight"): v
        for v in network.variables
        if v.path.endswith("/kernel")
    }


def to_stored(ndim: int) -> tuple[int, ...]:
    """From Keras's order of a kernel's dimensions to PyTorch's."""
    return (1, 0) if ndim == 2 else (3, 2, 0, 1)


def from_stored(ndim: int) -> tuple[int, ...]:
    """From PyTorch's order to Keras's."""
    return (1, 0) if ndim == 2 else (2, 3, 1, 0)


def _magnitude(kernel, shape) -> np.ndarray:
    """The norm of each output's weights, with which DoRA begins."""
    values = backend.to_numpy(kernel.value).astype("float32")
    norms = np.sqrt(np.square(values).sum(axis=tuple(range(values.ndim - 1))))
    return norms.reshape(-1, *(1 for _ in shape[1:]))
