"""What is beyond float16: seen in what a part gives, and computed again in float32.

A value over 65504 becomes infinite, the norm behind it makes that NaN everywhere, and
the picture is black. What is looked at is on the host already, and where all is well
nothing else is done.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import UserDict
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops

from kerasdiffusion.adapters.loaded import changes_of
from kerasdiffusion.compute import memory
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.networks.merging import Merging
from kerasdiffusion.networks.parts import make_networks
from kerasdiffusion.weights import load
from kerasdiffusion.weights.names import canonical_name

#: Rows and columns of a picture of which one is looked at first.
STRIDE = 16


class Wider:
    """What a `LatentDiffusion` does where the dtype of a part is too narrow."""

    def _own_twins(self) -> None:
        self._twins = UserDict()  # Keras does not count their weights as the model's

    def _in_float32(self, part: str, compute: Callable, found):
        """What a part gives in float32, where what it gave looks lost.

        Args:
            part: Its name.
            compute: Takes a twin of the part, and computes the same by it.
            found: What the part gave, nested arrays.

        Returns:
            As `found`, which it is where the part does not compute in float16.
        """
        with self._turn():
            network, _ = self._ready_to_run(part)  # others' adapters are taken off
            if network.compute_dtype != "float16":
                self._warn_of_lost(part)
                return found
            with self._twin(part, network) as twin:
                again = compute(twin)
        pairs = zip(keras.tree.flatten(found), keras.tree.flatten(again), strict=True)
        if all(map(_same, *zip(*pairs, strict=True))):  # it is what it looks like
            return found
        if all(np.isfinite(each).all() for each in keras.tree.flatten(again)):
            warnings.warn(
                f"The {part}'s values do not fit float16: it computed once more, in "
                "float32. `precision='bfloat16'` or `'float32'` has that at once.",
                stacklevel=2,
            )
        else:
            self._warn_of_lost(part)
        return again

    @contextlib.contextmanager
    def _twin(self, part: str, network) -> Iterator:
        """A part that computes in float32, with the weights that it has now."""
        name, source = keras.backend.backend(), self._sources[part]
        twin = self._twins.get(part)
        if twin is None:
            with self._place():
                made = make_networks(self.config, [part], "float32", {part: True})
            twin = self._twins[part] = made[part]
        elif self.low_memory:
            memory.take_back(name, twin.variables)
        if source is not None and first_lost(network) is not None:
            load.load_weights({part: twin}, source)  # what they were ahead of the cast
            Merging(twin, self.low_memory).merge(changes_of(part, self._wanted()))
        else:
            for variable, own in zip(twin.weights, network.weights, strict=True):
                variable.assign(ops.cast(own.value, "float32"))
        try:
            yield twin
        finally:
            if self.low_memory:
                memory.give_up(name, twin.variables)

    def _warn_of_lost(self, part: str) -> None:
        """Says why what a part gives is not finite, where that can be seen."""
        network = self._parts.get(part)
        if network is None and self._guests is not None:
            network = self._guests.present(part)
        tensor = None if network is None else first_lost(network)
        if tensor is not None:
            why = f"its weights are not, {tensor!r} for one"
        elif part != "diffusion_model":
            return  # it is what it looks like
        elif policy(self.precision).compute_dtype == "float16":
            why = (
                "its values do not fit float16, as it seems: "
                "`precision='bfloat16'` or `'float32'` holds them"
            )
        else:
            why = "its weights or what it was given may not be"
        warnings.warn(
            f"What the {part} gave is not finite, and pictures of it are black: {why}.",
            stacklevel=2,
        )


def looks_lost(pictures: np.ndarray) -> np.ndarray:
    """Whether pictures have nothing but black and white, as what is not finite has.

    Args:
        pictures: uint8 of shape `(pictures, height, width, channels)`.

    Returns:
        A bool for each.
    """

    def is_extreme(values):
        return bool(((values == 0) | (values == 255)).all())

    return np.array(
        [is_extreme(each[::STRIDE, ::STRIDE]) and is_extreme(each) for each in pictures]
    )


def first_lost(network) -> str | None:
    """The published name of a weight that is not finite; `None` if all are."""
    for variable in network.weights:
        if not bool(ops.all(ops.isfinite(ops.cast(variable.value, "float32")))):
            return canonical_name(variable.path, network.name)
    return None


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other))
