"""Weights in a file that the next process maps, in place of reading them anew.

They lie as variables have them and, once more, as OpenVINO wants them, so that nothing
is cast, turned or written where the same weights are asked for again. A name says all
that they depend on. The map is the process's own: what is written to it would go
nowhere, and nothing is, for each value that a variable has of it is held here, so that
TensorFlow writes new ones to other memory.

For TensorFlow on Linux alone, which is imported where it is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import shutil
import sys
import threading
import weakref
from collections import UserDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasdiffusion.compute import compile_cache, heap, memory, weights_on_disk
from kerasdiffusion.compute.fingerprints import loaded_code
from kerasdiffusion.compute.openvino_models import laid_out, turns
from kerasdiffusion.storage.whole import clear_leftovers, part_beside, sync

ENDING = ".weights"
#: Bytes of the files of a folder, of which those that were not used for longest give
#: way: two models of SD 1.5's size, or one of SDXL's.
MOST = 24 * 2**30
#: How many of such a file the disk must have room for.
ROOM = 4
#: Where the code is that makes variables' values of a file's.
ROOMS = (
    *("compute.memory", "compute.openvino_models", "compute.weights_kept"),
    *("networks.kept_weights", "weights"),
)

#: The values of variables, by their identities: see above. (No dict: `loaded_code`
#: would take what is in it for a constant.)
_held: UserDict[int, object] = UserDict()


class _Place(NamedTuple):
    """Where a variable's value lies, and its other form."""

    start: int
    other: int
    is_mapped: bool


def place(facts: str, variables: Sequence) -> Path | None:
    """The file of weights; `None` where none is kept.

    Args:
        facts: What the values depend on, as text: the file that they come from.
        variables: Keras variables, which need not have values.
    """
    if not sys.platform.startswith("linux") or _plan(variables) is None:
        return None
    folder = compile_cache.keep_programs("tensorflow")
    if folder is None or weights_on_disk.is_memory(folder):
        return None
    own = [(v.path.partition("/")[2], tuple(v.shape), str(v.dtype)) for v in variables]
    known = repr((facts, own, list(loaded_code(ROOMS))))
    return folder / (hashlib.sha256(known.encode()).hexdigest()[:32] + ENDING)


def take(path: Path, variables: Sequence) -> bool:
    """Gives variables the values of a file, if it is there.

    Args:
        path: What `place` gave.
        variables: The same.
    """
    places, size = _plan(variables)
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            _give(weights_on_disk.mapped(file.fileno(), size, True), variables, places)
        os.utime(path)
    except OSError:
        return False
    return True


def keep(path: Path, variables: Sequence, form: Callable | None = None) -> bool:
    """Writes the values of variables to a file, and has them take them from it.

    It takes its name when the disk has it, in a thread.

    Args:
        path: What `place` gave.
        variables: The same, with values.
        form: Gives the other form of a variable's value, good until it is asked for
            the next, or `None`; by default it is made of the value.

    Returns:
        Whether that was done: there must be room for some such files on the disk.
    """
    places, size = _plan(variables)
    part = part_beside(path)
    try:
        clear_leftovers(path.parent)
        if shutil.disk_usage(path.parent).free < ROOM * size:
            return False
        with open(part, "x+b") as file:
            number = file.fileno()
            os.posix_fallocate(number, 0, size)
            for variable, each in zip(variables, places, strict=True):
                value = np.asarray(variable.value.read_value())
                weights_on_disk.write(number, each.start, value)
                if each.other != each.start:
                    other = form and form(variable)
                    other = laid_out(variable) if other is None else other
                    weights_on_disk.write(number, each.other, other)
                del value
            _give(weights_on_disk.mapped(number, size, True), variables, places)
    except OSError:
        part.unlink(missing_ok=True)
        return False
    heap.trim()
    threading.Thread(target=_name, args=(part, path), name="weights").start()
    return True


def _name(part: Path, path: Path) -> None:
    """A part that is whole takes its name; the oldest of others give way."""
    with contextlib.suppress(OSError):
        sync(part)
        os.replace(part, path)
        kept = sorted(path.parent.glob(f"*{ENDING}"), key=lambda each: each != path)
        kept[1:] = sorted(kept[1:], key=lambda each: -each.stat().st_mtime)
        sizes = itertools.accumulate([each.stat().st_size for each in kept])
        for old, size in zip(kept[1:], [*sizes][1:], strict=True):
            if size > MOST:
                old.unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _plan(variables: Sequence) -> tuple[list[_Place], int] | None:
    """Where each lies, and how long the file is; `None` where there is nothing to gain.

    That is where they are few, or narrower than what OpenVINO is given.
    """
    places, at, large = [], 0, 0
    for variable in variables:
        if variable.dtype != "float32" or not memory.takes(variable):
            return None
        size = -(-math.prod(variable.shape) * 4 // memory.ALIGNED) * memory.ALIGNED
        is_mapped = size >= weights_on_disk.LEAST_OF_ONE
        large += size if is_mapped else 0
        other = at + size if is_mapped and turns(variable) else at
        places.append(_Place(at, other, is_mapped))
        at = other + size
    return (places, at) if large >= weights_on_disk.LEAST else None


def _give(file, variables: Sequence, places: Sequence[_Place]) -> None:
    """Has variables take their values from a file."""
    for variable, each in zip(variables, places, strict=True):
        shape = tuple(variable.shape)
        mine = file.array(each.start, shape)
        if not each.is_mapped:
            variable.assign(mine.copy())
            continue
        memory.put("tensorflow", variable, mine)
        value = variable.value.read_value()
        if np.asarray(value).ctypes.data != mine.ctypes.data:  # TensorFlow copied it
            continue
        if id(variable) not in _held:
            end = weakref.finalize(variable, _held.pop, id(variable), None)
            end.atexit = False
        _held[id(variable)] = value
        if each.other != each.start:
            shape = tuple(shape[axis] for axis in (3, 2, 0, 1))
        file.others[mine.ctypes.data] = each.other, shape
