"""How variables get values, give up their memory and get it back: backend by backend.

A network stays what it is, and its programs stay compiled, while its values are away.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

#: Where Linux says how many pages a process has.
STATM = Path("/proc/self/statm")


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


#: Of glibc's `malloc.h`, and what they are set to: blocks below the one go to and come
#: from the heap, which keeps up to the other of free memory at its end.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = {_MMAP_THRESHOLD: 2**28, _TRIM_THRESHOLD: 2**30}
#: The same where memory is short. Less costs time: all activations would be new pages.
_GIVEN_BACK = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}


@functools.cache
def keep_freed_pages() -> bool:
    """Has the allocator keep freed memory for the next of the kind, once in a process.

    Activations and maps of attention come and go a thousand times in a picture. glibc
    would hand each large one back to the system, and fault in its pages again.

    Returns:
        Whether it does: on Linux with glibc, where the environment sets nothing else.
    """
    return _set(_KEPT)


@functools.cache
def give_freed_pages_back() -> bool:
    """Has the allocator keep next to nothing that is freed, once in a process.

    Returns:
        As `keep_freed_pages`.
    """
    return _set(_GIVEN_BACK)


def tidy() -> None:
    """Frees what is in cycles, and gives it to the system."""
    gc.collect()
    trim()


def _set(limits: dict[int, int]) -> bool:
    own = ("GLIBC_TUNABLES", "LD_PRELOAD")
    if any(name in own or name.startswith("MALLOC_") for name in os.environ):
        return False
    library = _glibc()
    # All or none: a threshold that is set alone ends the adaption of the other.
    return library is not None and all(
        library.mallopt(name, value) for name, value in limits.items()
    )


def _glibc():
    """The C library, where it is glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    import ctypes

    return ctypes.CDLL(None)


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
    trim()


def trim() -> None:
    """Gives memory that was freed back to the system, where the allocator holds it."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


#: What freed memory may add to a process until it is given back, in bytes, and how
#: often that is looked at, in seconds.
_MORE, _OFTEN = 2**26, 0.02


@contextlib.contextmanager
def trimmed(is_wanted: bool = True) -> Iterator[None]:
    """Within it, memory that is freed goes back to the system before it is much.

    The allocator by itself gives back what is at a heap's end, and activations are
    freed anywhere. What is given back is faulted in anew for the next of them: for a
    U-Net at 512x512 a sixth of its time, for an eighth of the process's memory.

    Args:
        is_wanted: Whether to do so.
    """
    if not is_wanted or not STATM.is_file() or _glibc() is None:
        yield
        return
    least = resident()

    def watch():
        nonlocal least
        if resident() > least + _MORE:
            trim()
            least = resident()
        least = min(least, resident())

    with meanwhile(watch, _OFTEN):
        yield


@contextlib.contextmanager
def meanwhile(function: Callable[[], None], often: float) -> Iterator[None]:
    """Within it, a thread calls a function again and again.

    Args:
        function: What it calls.
        often: Seconds between two calls, and ahead of the first.
    """
    done = threading.Event()

    def run():
        while not done.wait(often):
            function()

    thread = threading.Thread(target=run, name="meanwhile", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def resident() -> int:
    """Bytes of this process that are in memory, as Linux tells them."""
    pages = STATM.read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


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
