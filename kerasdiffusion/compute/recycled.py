"""Memory that variables have just given up, for the values that they get next.

New memory comes from the system page by page, each filled with zeros first. To change a
network's weights that takes longer than to compute them.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence

import numpy as np

from kerasdiffusion.compute import memory


def _references(arrays: Sequence[np.ndarray], i: int) -> int:
    """How often something refers to an array of a list."""
    return sys.getrefcount(arrays[i])


#: Of an array that nothing but the list knows; Python versions count differently.
_ALONE = _references([np.empty(0)], 0)


class Recycled:
    """Arrays as `memory.room` makes them, some of them used before.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.

    Example:

    >>> recycled = Recycled("tensorflow")
    >>> with recycled.at_hand():
    ...     first = recycled.room((64, 64))
    ...     address = first.ctypes.data
    ...     del first
    ...     recycled.room((64, 64)).ctypes.data == address
    True
    """

    def __init__(self, backend: str):
        self._backend = backend
        self._lent: list[weakref.ref] = []
        self._held: dict[int, list[np.ndarray]] | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def at_hand(self) -> Iterator[None]:
        """Within it, memory that was lent and that nobody uses any more is kept."""
        self._held = {}
        for each in self._lent:
            self._hold(each())
        try:
            yield
        finally:
            held = [each for some in self._held.values() for each in some]
            self._lent, self._held = [weakref.ref(each) for each in held], None

    def room(self, shape: Sequence[int]) -> np.ndarray | None:
        """As `memory.room`, within `at_hand`; several threads may ask.

        Args:
            shape: Of an array of float32 that is written next.
        """
        with self._lock:
            size = memory.room_size(shape)
            held = self._held.get(size, ())
            for i in range(len(held)):
                if _references(held, i) == _ALONE:
                    return memory.room(self._backend, shape, held[i])
            found = memory.room(self._backend, shape)
            if found is not None:
                self._hold(found.base)
            return found

    def _hold(self, array: np.ndarray | None) -> None:
        if array is not None:
            self._held.setdefault(array.nbytes, []).append(array)
