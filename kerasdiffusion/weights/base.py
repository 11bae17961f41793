"""What every tensor file has in common, and the error that all of them raise."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

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

    A context manager. What `read` returns is read-only and stays valid after `close`.

    Args:
        path: The file, for messages.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.metadata: dict[str, str] = {}

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

    def release(self, name: str) -> None:
        """Let the memory go that holds a mapped tensor; a read brings it back."""

    def close(self) -> None:
        """Let go of the file."""

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class MappedFile(TensorFile):
    """A file mapped into memory whose tensors are views of it."""

    def __init__(self, path: Path):
        super().__init__(path)
        with open(path, "rb") as file:
            file.seek(0, 2)
            self.size = file.tell()
            if self.size == 0:
                raise WeightsError(f"A weights file cannot be empty. Received: {path}")
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
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
        return np.ndarray(span.shape, span.dtype, self.map, span.start, span.strides)

    def release(self, name: str) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            start, length = self.spans[name][2:4]
            end = start + length
            start = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            if end > start:
                self.map.madvise(mmap.MADV_DONTNEED, start, end - start)

    def check(self, names: Iterable[str]) -> None:
        # By read() and not through the map, where a failing disk would end the
        # process instead of raising.
        spans = sorted({self.spans[name][2:4] for name in names})
        block = bytearray(BLOCK)
        try:
            with open(self.path, "rb", buffering=0) as file:
                for start, length in spans:
                    file.seek(start)
                    while length > 0:
                        count = file.readinto(memoryview(block)[: min(length, BLOCK)])
                        if not count:
                            raise WeightsError(
                                f"The weights file ends before its last tensor: it "
                                f"changed while it was read. Received: {self.path}"
                            )
                        length -= count
        except OSError as error:
            raise WeightsError(
                f"The weights file could not be read: {error}. Received: {self.path}"
            ) from error


def read_json(path: str | Path) -> dict:
    """The JSON object in a file, with a clear error if it is none."""
    path = Path(path)
    try:
        size = path.stat().st_size
        text = path.read_bytes() if size <= MAX_JSON else b""
    except OSError as error:
        raise WeightsError(
            f"The file could not be read: {error.strerror}. Received: {path}"
        ) from error
    if size > MAX_JSON:
        raise WeightsError(
            f"A JSON file has at most {MAX_JSON} bytes. Received: {size} in {path}"
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"The file is not JSON ({error}). Received: {path}"
        ) from error
    if not isinstance(value, dict):
        raise WeightsError(f"The file must hold a JSON object. Received: {path}")
    return value
