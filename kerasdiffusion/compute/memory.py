"""How variables get values, give up their memory and get it back: backend by backend.

A network stays what it is, and its programs stay compiled, while its values are away.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kerasdiffusion.compute import heap


@contextlib.contextmanager
def collector_paused(importing: bool = False):
    """Within it, Python does not look for garbage in cycles.

    Imports and traces make millions of objects that stay. Python would go through all
    of them again and again: in a cold process that paints, for a second and a half.

    Args:
        importing: Whether all that is there at the end counts as old, and so is not
            looked at until there is much more. For once in a process: what is old and
            becomes garbage stays that long.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if importing and not gc.get_freeze_count():  # else a user has frozen some
                gc.freeze()
                gc.unfreeze()  # to where the oldest are
            gc.enable()


@contextlib.contextmanager
def collector_sees_new() -> Iterator[None]:
    """Within it, Python looks for garbage among what is made within it alone.

    Keras collects it whenever a layer loses a variable: a third of a second, if all
    objects of a process are gone through.
    """
    is_mine = not gc.get_freeze_count()  # else a user has frozen some
    if is_mine:
        gc.freeze()
    try:
        yield
    finally:
        if is_mine:
            gc.unfreeze()


#: Where TensorFlow's tensors begin.
ALIGNED = 64
#: What TensorFlow casts as numpy does, and sooner.
_CAST = ("float16", "bfloat16", "float32", "float64")
#: Numbers below which numpy is the sooner one all the same: a call costs half of these.
_FEW = 2**14


def laid_out(
    backend: str, values: np.ndarray, axes: Sequence[int] | None, dtype: np.dtype
):
    """An array with its axes reordered and cast, where a backend is quicker at it.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.
        values: Floats, of a file that may be mapped.
        axes: As `np.transpose` takes them; `None` leaves the order.
        dtype: Of the result.

    Returns:
        TensorFlow's tensor, which a variable takes over without a copy. `None` on the
        other backends, and for what TensorFlow does not know or need not change.
    """
    as_it_is = axes is None and values.dtype == dtype
    if backend != "tensorflow" or as_it_is or values.dtype.name not in _CAST:
        return None
    if values.size < _FEW:
        return None
    import tensorflow as tf

    values = _tensor(values)
    if axes is None:
        return tf.cast(values, dtype.name)
    # Reordered in the narrower dtype: half the bytes, half the time.
    if values.dtype.size < dtype.itemsize:
        return tf.cast(tf.transpose(values, axes), dtype.name)
    return tf.transpose(tf.cast(values, dtype.name), axes)


def _tensor(values: np.ndarray):
    """An array as TensorFlow's tensor, of the same memory where that can be."""
    from tensorflow import convert_to_tensor
    from tensorflow.experimental import dlpack

    # The protocol knows no bfloat16, which is no "f".
    if values.dtype.kind == "f" and _could_begin(values):
        return dlpack.from_dlpack(values.__dlpack__())
    return convert_to_tensor(values)


def give_up(backend: str, variables: Iterable) -> None:
    """Frees the values of Keras variables, which must not be read until `take_back`.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.
        variables: Keras variables.
    """
    empty = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend]
    for variable in variables:
        empty(variable, (0,))
    heap.trim()


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

    # The variable's own `assign` would ask for its shape. Room that nobody writes to is
    # no memory yet: it is there as it is filled.
    value = tf.raw_ops.Empty(shape=shape, dtype=variable.value.dtype)
    tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=value)


def _jax(variable, shape) -> None:
    import jax

    variable._value = jax.numpy.asarray(np.zeros(shape, np.dtype(variable.dtype)))


def _torch(variable, shape) -> None:
    import torch

    value = variable.value.data
    variable.value.data = torch.empty(shape, dtype=value.dtype, device=value.device)


def keep(backend: str, variable) -> object:
    """The values of a Keras variable as they are now, without a copy.

    Assigning to the variable by `put`, or by its own `assign` on TensorFlow and JAX,
    does not change what was kept; to train it does, on PyTorch.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.
        variable: A Keras variable.

    Returns:
        The backend's tensor, for `put`.
    """
    value = variable._value
    if backend == "tensorflow":
        return value.read_value()
    return value.data if backend == "torch" else value


def view(backend: str, value) -> np.ndarray:
    """A value that `keep` kept as an array, of the same memory where that can be.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.
        value: A tensor of `keep`'s.

    Returns:
        An array that must not be written to; bfloat16 of PyTorch's as float32.
    """
    if backend != "torch":
        return np.asarray(value)
    import torch

    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()


def room_size(shape: Sequence[int]) -> int:
    """Bytes of the array that has such a `room` within."""
    return math.prod(shape) * 4 + ALIGNED


def room(
    backend: str, shape: Sequence[int], within: np.ndarray | None = None
) -> np.ndarray | None:
    """An array of float32 that `put` gives a variable without a copy.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.
        shape: Its own.
        within: Array of uint8 and `room_size(shape)` whose memory it takes; a new one
            where there is none.

    Returns:
        An array with any values, whose `base` is `within`; `None` where any array will
        do.
    """
    if backend != "tensorflow":
        return None
    raw = np.empty(room_size(shape), "uint8") if within is None else within
    start = -raw.ctypes.data % ALIGNED
    return raw[start : start + raw.size - ALIGNED].view("float32").reshape(shape)


def put(backend: str, variable, value) -> None:
    """Gives a Keras variable a value that `keep` kept, to the bit, or an array.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.
        variable: A Keras variable.
        value: A tensor of `keep`'s, or an array of the variable's shape and dtype,
            which is the variable's from now on.
    """
    if backend == "tensorflow" and takes(variable) and _can_be_taken(value):
        from tensorflow.experimental import dlpack

        value = dlpack.from_dlpack(value.__dlpack__())
    if backend != "torch":
        variable.assign(value)
        return
    import torch

    if not isinstance(value, torch.Tensor):
        own = variable._value
        is_half = value.dtype.name == "bfloat16"  # which PyTorch takes as bits alone
        value = torch.from_numpy(value.view("int16") if is_half else value)
        value = value.view(torch.bfloat16) if is_half else value.to(own.dtype)
        value = value.to(own.device)
    variable._value.data = value


def takes(variable) -> bool:
    """Whether `put` may give a variable of TensorFlow's an array's own memory."""
    return str(getattr(variable.value, "device", "")).endswith("CPU:0")


def _can_be_taken(value) -> bool:
    """Whether a tensor may have an array's memory: where one could begin."""
    is_array = isinstance(value, np.ndarray) and value.dtype == "float32"
    return is_array and _could_begin(value)


def _could_begin(values: np.ndarray) -> bool:
    flags = values.flags
    is_plain = flags.c_contiguous and flags.writeable  # the protocol knows no other
    return is_plain and values.ctypes.data % ALIGNED == 0
