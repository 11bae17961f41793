"""Variables with other values for a while, which are made as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import keras
from keras import ops
from keras.src.backend.common.stateless_scope import get_stateless_scope


class Apart(NamedTuple):
    """A frozen variable's own value, in its own dtype, and what changes it.

    Attributes:
        value: A tensor of which no gradient is taken.
        change: As of `Changed`; `None` for none.
        tensors: What that takes.
    """

    value: object
    change: Callable | None
    tensors: Sequence

    def narrow(self) -> tuple | None:
        """Two narrow matrices whose product is added, as float32 tensors.

        Where the change tells them, by a function `narrow` of the same tensors.
        """
        tell = getattr(self.change, "narrow", None)
        return tell and tell(*self.tensors)


class Changed(keras.StatelessScope):
    """A scope in which variables have changed values, and no other is watched.

    A changed value is made anew whenever it is read, from tensors that are small
    beside it, so that a checkpointed block need not keep it. All others are what they
    are around the scope.

    Args:
        layer: The layer whose variables are frozen here: no gradient goes to them.
        changes: Keras variables of it, each with a function and the tensors that this
            takes after the variable's own value. It must depend on these alone, and be
            the same for variables that are alike.

    Example:

    >>> dense = keras.layers.Dense(2)
    >>> dense.build((None, 3))
    >>> change = dense.kernel, lambda value, times: value * times, [3.0]
    >>> with Changed(dense, [change]):
    ...     y = dense(np.ones((1, 3), "float32"))
    """

    def __init__(
        self, layer, changes: Iterable[tuple[object, Callable, Sequence]], values=()
    ):
        super().__init__()
        # Not by Keras, which would cast them to what a layer computes with.
        self.state_mapping = {id(variable): value for variable, value in values}
        self.changes = {id(variable): each for variable, *each in changes}
        self._frozen = {id(variable) for variable in layer.variables}

    def get_current_value(self, variable):
        """What a variable is here; `None` for what it is without a scope."""
        value, change, tensors = self.taken_apart(variable)
        return value if change is None else change(value, *tensors)

    def taken_apart(self, variable) -> Apart:
        """What a variable is made of here."""
        key = id(variable)
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        if key not in self._frozen:
            return Apart(value, None, ())
        value = variable._value if value is None else value
        value = ops.stop_gradient(ops.convert_to_tensor(value))
        return Apart(value, *self.changes.get(key, (None, ())))

    def has(self, variable) -> bool:
        """Whether it is one of those that are frozen here."""
        return id(variable) in self._frozen


def taken_apart(variable) -> Apart | None:
    """What a variable is made of in a `Changed` scope; `None` where it is not frozen.

    Example:

    >>> dense = keras.layers.Dense(2)
    >>> dense.build((None, 3))
    >>> taken_apart(dense.kernel) is None
    True
    """
    scope = get_stateless_scope()
    if isinstance(scope, Changed) and scope.has(variable):
        return scope.taken_apart(variable)
    return None
