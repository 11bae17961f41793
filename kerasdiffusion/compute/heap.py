"""The allocator's memory: whose heap it is, what of it is kept, what is given back.

Of glibc's alone, which is most Linux; elsewhere nothing is done.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import platform
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

#: Where Linux says how many pages a process has.
STATM = Path("/proc/self/statm")

#: Of glibc's `malloc.h`, and what they are set to: blocks below the one go to and come
#: from the heap, which keeps up to the other of free memory at its end.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: 2**28}
#: The same where memory is short. Less costs time: all activations would be new pages.
_GIVEN_BACK = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}
#: How many heaps there may be.
_ONE = {_ARENA_MAX: 1}


@functools.cache
def share_one_heap() -> bool:
    """Has threads that begin from now on share one heap, once in a process.

    glibc gives each thread a heap of its own, in pieces of 64 MiB. What is larger than
    such a piece has new pages each time: at 512x512 a decoder faulted in five gigabytes
    of activations, for a sixth of its time.

    Returns:
        As `keep_freed_pages`.
    """
    return _set(_ONE)


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
    freed anywhere. What is given back is faulted in anew for the next of them.

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
