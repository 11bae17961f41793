"""Where memory ends: one error for what backends raise, and none of their crashes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import numpy as np

#: Words of backends' errors where memory ends: TensorFlow's and XLA's, PyTorch's on
#: GPUs and on CPUs, the system's.
_SHORTAGE = re.compile(
    r"RESOURCE_EXHAUSTED|ResourceExhausted|\bOOM\b|[Oo]ut of ?memory|OutOfMemory"
    r"|(can't|[Cc]annot|[Uu]nable to) allocate"
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: Bytes from which room is asked for first.
_LARGE = 2**20


@contextlib.contextmanager
def shortage_told() -> Iterator[None]:
    """Within it, whatever is raised where memory ends is a `MemoryError` that says so.

    Example:

    >>> try:
    ...     with shortage_told():
    ...         raise RuntimeError("RESOURCE_EXHAUSTED: 9 GiB")
    ... except MemoryError as error:
    ...     print(str(error)[-35:])
    Received: RESOURCE_EXHAUSTED: 9 GiB
    """
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        is_one = isinstance(error, MemoryError) or _SHORTAGE.search(text[:4000])
        if not is_one or "Received: " in text:
            raise
        what = _COLOURS.sub("", " ".join(str(error).split()))[:300] or "no more"
        raise MemoryError(
            "There must be enough memory for what is asked: ask for fewer or smaller "
            'pictures, or use low_memory=True, or "smallest". '
            f"Received: {what}"
        ) from error


def to_tensor(values):
    """The backend's tensor of an array; a tensor stays as it is.

    TensorFlow copies an array into what its allocator gives, also where that is
    nothing, which ends the process; twice for a moment. So room is asked for first.

    Args:
        values: An array, a tensor or a number.

    Raises:
        MemoryError: If there is no room for it.

    Example:

    >>> to_tensor(np.zeros((2, 3), "float32")).shape == (2, 3)
    True
    """
    from keras import ops

    if isinstance(values, np.ndarray) and values.nbytes >= _LARGE:
        np.empty(2 * values.nbytes + _LARGE, np.uint8)
    return ops.convert_to_tensor(values)
