"""Weights in a file of no name, read into memory where they are looked at.

OpenVINO's programs have the weights once more, in blocks as its kernels want them, and
look at what they were compiled from no more. In a file, that and the variables' own
values take no memory, and stay what they are.

For TensorFlow on Linux alone, which is imported where it is needed.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kerasdiffusion.compute import compile_cache, heap, memory

#: Bytes of weights below which they stay in memory: all of them, and each by itself.
LEAST, LEAST_OF_ONE = 2**27, 2**16
#: Bytes of the disk that stay free.
SPARE = 2**30
#: File systems that are memory.
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
MOUNTS = Path("/proc/self/mountinfo")
#: How often what was read meanwhile is given back, in seconds.
_OFTEN = 0.1

_lock, _among = threading.Lock(), threading.Lock()


class _File(mmap.mmap):
    """A mapped file, which lives as long as an array of it does.

    Attributes:
        others: Where the other form of a value is, by the value's address: an offset
            and a shape.
    """

    others: dict[int, tuple[int, tuple[int, ...]]]

    def array(self, start: int, shape: Sequence[int]) -> np.ndarray:
        """float32 at an offset."""
        count = math.prod(shape)
        return np.frombuffer(self, "float32", count, start).reshape(shape)


_files: weakref.WeakSet[_File] = weakref.WeakSet()


def mapped(number: int, size: int, apart: bool = False) -> _File:
    """An open file as a map whose pages are given back: see `given_back`.

    Args:
        number: Of the file.
        size: Its bytes.
        apart: Whether what is written to the map does not go to the file. It must not
            be written to then: it would be lost.
    """
    flags = mmap.MAP_PRIVATE if apart else mmap.MAP_SHARED
    file = _File(number, size, flags=flags)
    file.others = {}
    with _among:
        _files.add(file)
    return file


def _there() -> list[_File]:
    """The files that are mapped now: other threads may map some."""
    with _among:
        return list(_files)


def moved(
    variables: Sequence, turned: Callable, forms: Callable
) -> list[np.ndarray | None]:
    """Moves the values of variables into a file, each in two forms.

    The variables have the values as before, and can be read, assigned to and trained;
    what is read comes from the file, and goes again when memory is short.

    Args:
        variables: Keras variables on TensorFlow.
        turned: Whether the other form of a variable's value is not the value itself.
        forms: Gives the other form of a variable's value: an array.

    Returns:
        The other forms, of the file; `None` for a variable whose value stays in memory:
        the small ones, or all where they are few or no disk has room.
    """
    if not sys.platform.startswith("linux"):
        return [None] * len(variables)
    with _lock:
        found = [_known(variable) for variable in variables]
        new = [
            i
            for i, variable in enumerate(variables)
            if found[i] is None and _is_large(variable)
        ]
        sizes = [_bytes(variables[i]) * (1 + turned(variables[i])) for i in new]
        if sum(sizes) < LEAST:
            return found
        opened = _opened(sum(sizes))
        if opened is None:
            return found
        with opened:
            file = mapped(opened.fileno(), sum(sizes))
            at = 0
            for i, size in zip(new, sizes, strict=True):
                form = forms if turned(variables[i]) else None
                try:
                    found[i] = _move(file, opened.fileno(), at, variables[i], form)
                except OSError as error:  # the others stay where they are
                    _tell(sum(sizes) - at, str(error))
                    break
                at += size
        heap.trim()
        return found


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """Within it, and at its end, what was read of the files leaves memory again."""
    if not _there():
        yield
        return
    try:
        with heap.meanwhile(_give_back, _OFTEN):
            yield
    finally:
        _give_back()


def _give_back() -> None:
    for file in _there():
        file.madvise(mmap.MADV_DONTNEED)  # what is in the file stays there


def _bytes(variable) -> int:
    """Of a value, so that the next begins where a tensor may."""
    return -(-math.prod(variable.shape) * 4 // memory.ALIGNED) * memory.ALIGNED


def _is_large(variable) -> bool:
    return (
        variable.dtype == "float32"
        and _bytes(variable) >= LEAST_OF_ONE
        and memory.takes(variable)
    )


def _known(variable) -> np.ndarray | None:
    """The other form of a value that is in a file."""
    address = _address(variable)
    for file in _there():
        if address in file.others:
            return file.array(*file.others[address])
    return None


def _address(variable) -> int:
    return np.asarray(variable.value.read_value()).ctypes.data


def _move(file: _File, number: int, at: int, variable, form) -> np.ndarray | None:
    """Writes a value, gives it to its variable, and returns its other form."""
    value, shape = np.asarray(variable.value.read_value()), tuple(variable.shape)
    write(number, at, value)
    mine = file.array(at, shape)
    if form is not None:
        other = form(variable)
        at, shape = at + _bytes(variable), other.shape
        write(number, at, other)
    del value
    memory.put("tensorflow", variable, mine)
    if _address(variable) != mine.ctypes.data:  # TensorFlow has copied it
        return None
    file.others[mine.ctypes.data] = at, shape
    return file.array(at, shape)


def write(number: int, at: int, array: np.ndarray) -> None:
    """Writes to a file: not through its map, so that no process's memory has it.

    Args:
        number: Of the open file.
        at: The offset.
        array: What is written.

    Raises:
        OSError: If the disk is full, or broken.
    """
    rest = memoryview(np.ascontiguousarray(array)).cast("B")
    while rest:
        count = os.pwrite(number, rest, at)
        rest, at = rest[count:], at + count


def _opened(size: int) -> BinaryIO | None:
    """An empty file on the first disk that has room; nobody else can open it."""
    looked = []
    for folder in _folders():
        looked.append(str(folder))
        with contextlib.suppress(OSError):
            if shutil.disk_usage(folder).free < size + SPARE:
                continue
            file = tempfile.TemporaryFile(dir=folder)
            try:
                # On a disk that is full by then, writing would end half way.
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError:
                file.close()
                raise
            return file
    _tell(size, f"no disk has room. Looked in: {', '.join(looked) or 'no folder'}")
    return None


def _tell(size: int, why: str) -> None:
    print(
        f"OpenVINO's weights stay in memory, {size / 2**30:.1f} GiB more of it: {why}",
        file=sys.stderr,
    )


def _folders() -> Iterator[Path | str]:
    """Where a large file may lie for a while, that is no memory."""
    kept = compile_cache.keep_programs("tensorflow")
    for folder in (kept, tempfile.gettempdir(), "/var/tmp"):
        if folder is not None and not is_memory(Path(folder)):
            yield folder


def is_memory(folder: Path) -> bool:
    """Whether a folder is on a file system that takes memory."""
    try:
        device, lines = folder.stat().st_dev, MOUNTS.read_text("utf-8", "replace")
    except OSError:
        return True  # not one to write to
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines.splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2:3] == [wanted]:
            return kind.split()[:1] in [[each] for each in IN_MEMORY]
    return False
