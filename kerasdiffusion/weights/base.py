"""What every tensor file has in common, and the error that all of them raise."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasdiffusion.compute.memory import ALIGNED
from kerasdiffusion.storage import reading
from kerasdiffusion.storage.reading import open_regular

MAX_JSON = 16 * 2**20  # room for 100,000 tensors, parsed in a second
BLOCK = 8 * 2**20


class WeightsError(ValueError):
    """Weights that cannot be read, or do not fit the model."""


class Span(NamedTuple):
    """Where one tensor lies in a file: a strided view of some of its bytes."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    length: int
    strides: tuple[int, ...] | None = None  # in bytes; None if contiguous


class TensorFile:
    """Tensors by name, each read when it is asked for.

    A context manager. What `read` returns is the caller's own.

    Args:
        path: The file, for messages.

    Attributes:
        strangers: Classes and functions that a pickle names and that make no tensors.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.metadata: dict[str, str] = {}
        self.strangers: list[str] = []

    def keys(self) -> list[str]:
        """Names of all tensors."""
        raise NotImplementedError

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, without reading it."""
        raise NotImplementedError

    def dtype(self, name: str) -> np.dtype:
        """Dtype of one tensor, without reading it."""
        raise NotImplementedError

    def read(self, name: str) -> np.ndarray:
        """The values of one tensor."""
        raise NotImplementedError

    def check(self, names: Iterable[str]) -> None:
        """Read the bytes of these tensors once, so that a bad disk shows now.

        Raises:
            WeightsError: If any cannot be read.
        """
        for name in names:
            self.read(name)

    def close(self) -> None:
        """Let go of the file."""

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class Bytes:
    """The bytes of a regular file, by place.

    They are read and not mapped: where a mapped file is cut short meanwhile (by a
    client that syncs it, on a network's disk), the process ends.

    Args:
        path: The file.

    Raises:
        WeightsError: If it is none that can be read.
    """

    def __init__(self, path: Path):
        try:
            self.file = open_regular(path)
        except (OSError, ValueError) as error:
            raise WeightsError(str(error)) from error
        self.path, self.size = path, os.fstat(self.file.fileno()).st_size
        self._lock = threading.Lock()

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(self.size)
        buffer = bytearray(max(stop - start, 0))
        self.read_into(start, buffer)
        return bytes(buffer)

    def read_into(self, start: int, buffer) -> None:
        """Fills a buffer with the bytes from a place on.

        Raises:
            WeightsError: If there are not as many, or they cannot be read.
        """
        rest = memoryview(buffer).cast("B")
        while len(rest):
            try:
                if hasattr(os, "preadv"):
                    count = os.preadv(self.file.fileno(), [rest[:BLOCK]], start)
                else:
                    with self._lock:
                        self.file.seek(start)
                        count = self.file.readinto(rest[:BLOCK])
            except OSError as error:
                raise WeightsError(
                    f"The weights file could not be read: {error}. Received: "
                    f"{self.path}"
                ) from error
            if not count:
                raise WeightsError(
                    f"The weights file ends before its last tensor: it changed while "
                    f"it was read. Received: {self.path}"
                )
            start, rest = start + count, rest[count:]

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


class SpannedFile(TensorFile):
    """A file in which each tensor is a view of a span of bytes."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.bytes = Bytes(path)
        self.size = self.bytes.size
        if self.size == 0:
            self.close()
            raise WeightsError(f"A weights file cannot be empty. Received: {path}")
        self.spans: dict[str, Span] = {}

    def keys(self) -> list[str]:
        return list(self.spans)

    def __contains__(self, name: str) -> bool:
        return name in self.spans

    def shape(self, name: str) -> tuple[int, ...]:
        return self.spans[name].shape

    def dtype(self, name: str) -> np.dtype:
        return self.spans[name].dtype

    def read(self, name: str) -> np.ndarray:
        span = self.spans[name]
        if 0 in span.shape:
            return np.empty(span.shape, span.dtype)
        room = np.empty(span.length + ALIGNED, np.uint8)
        begin = -room.ctypes.data % ALIGNED  # where a tensor could: none is copied
        buffer = room[begin : begin + span.length]
        self.bytes.read_into(span.start, buffer)
        return np.ndarray(span.shape, span.dtype, buffer, 0, span.strides)

    def check(self, names: Iterable[str]) -> None:
        block = bytearray(BLOCK)
        for start, length in sorted({self.spans[name][2:4] for name in names}):
            for begin in range(start, start + length, BLOCK):
                count = min(BLOCK, start + length - begin)
                self.bytes.read_into(begin, memoryview(block)[:count])

    def close(self) -> None:
        self.bytes.close()


def read_json(path: str | Path) -> dict:
    """The JSON object in a file, with a clear error if it is none."""
    try:
        value = reading.read_json(path)
    except (OSError, ValueError) as error:
        raise WeightsError(str(error)) from error
    if not isinstance(value, dict):
        raise WeightsError(f"The file must hold a JSON object. Received: {path}")
    return value
