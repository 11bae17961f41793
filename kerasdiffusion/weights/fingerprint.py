"""What is in files and networks, as hashes: equal ones are equal to the bit."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from pathlib import Path

import numpy as np

from kerasdiffusion.storage.reading import open_regular
from kerasdiffusion.weights import hub

_BLOCK = 2**20
#: The hub's cache names large files by their sums.
_SUM = re.compile(r"[0-9a-f]{64}")
_WEIGHTS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth", ".h5", ".json", ".txt")


def of_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file; asked again, it is read again only if it has changed.

    Args:
        path: A regular file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no regular file.

    Example:

    >>> len(of_file("model.safetensors"))
    64
    """
    path = os.path.realpath(path)
    name = os.path.basename(path)
    if _SUM.fullmatch(name) and os.path.basename(os.path.dirname(path)) == "blobs":
        return name
    found = os.stat(path)
    return _sum(path, found.st_size, found.st_mtime_ns, found.st_ino)


@functools.lru_cache(maxsize=256)
def _sum(path: str, *_) -> str:
    hashed = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def of_source(source: str | os.PathLike) -> str:
    """The hash of a model's or a network's files.

    Args:
        source: As `hub.resolve` takes it, or a preset's name.
    """
    from kerasdiffusion.presets.named import find_preset

    path = Path(hub.resolve(find_preset(source)[0]))
    if path.is_file():
        return of_file(path)
    hashed = hashlib.sha256()
    for each in sorted(path.rglob("*")):
        if each.suffix in _WEIGHTS and each.is_file():
            line = f"{each.relative_to(path).as_posix()} {of_file(each)}\n"
            hashed.update(line.encode())
    return hashed.hexdigest()


def of_variables(values) -> str:
    """The hash of arrays in their order: a sum over all bits, and a sample.

    Every change of one number changes it; it is no guard against malice. It takes about
    as long as reading the arrays from memory.

    Args:
        values: Arrays of any dtype.

    Example:

    >>> of_variables([np.zeros(3)]) == of_variables([np.zeros(3)])
    True
    """
    hashed = hashlib.sha256()
    for value in values:
        array = np.ascontiguousarray(value)
        hashed.update(f"{array.dtype} {array.shape} ".encode())
        data = array.reshape(-1).view(np.uint8)
        whole = len(data) // 8 * 8
        words, rest = data[:whole].view(np.uint64), data[whole:]
        hashed.update(rest.tobytes())
        hashed.update(int(words.sum(dtype=np.uint64)).to_bytes(8, "little"))
        hashed.update(words[:: max(1, len(words) // 1024)].tobytes())
    return hashed.hexdigest()
