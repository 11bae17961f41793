"""Variables that give up their memory and get it back: backend by backend.

A network stays what it is, and its programs stay compiled, while its values are away.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def give_up(backend: str, variables: Iterable) -> None:
    """Frees the values of Keras variables, which must not be read until `take_back`.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.
        variables: Keras variables.
    """
    empty = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend]
    for variable in variables:
        empty(variable, (0,))


def take_back(backend: str, variables: Iterable) -> None:
    """Makes room for values again, which are to be assigned next.

    TensorFlow and PyTorch assign into what is there; JAX brings the memory along.
    """
    if backend != "jax":
        fill = {"tensorflow": _tensorflow, "torch": _torch}[backend]
        for variable in variables:
            fill(variable, tuple(variable.shape))


def _tensorflow(variable, shape) -> None:
    import tensorflow as tf

    # The variable's own `assign` would ask for its shape.
    value = tf.zeros(shape, variable.value.dtype)
    tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=value)


def _jax(variable, shape) -> None:
    import jax

    variable._value = jax.numpy.asarray(np.zeros(shape, np.dtype(variable.dtype)))


def _torch(variable, shape) -> None:
    import torch

    value = variable.value.data
    variable.value.data = torch.empty(shape, dtype=value.dtype, device=value.device)
