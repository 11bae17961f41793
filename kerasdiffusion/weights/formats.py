"""The tensor files that are no pickles: safetensors and HDF5."""

from __future__ import annotations

import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np

from kerasdiffusion.weights.base import (
    MAX_JSON,
    MappedFile,
    Span,
    TensorFile,
    WeightsError,
)

SAFETENSORS_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


# What lies there instead of a file that was not fetched as it should be.
NOT_THE_FILE = {
    b"version https://git-lfs": "a pointer of Git LFS (`git lfs pull` fetches it)",
    b"<!doctype": "a web page",
    b"<html": "a web page",
}


class SafetensorsFile(MappedFile):
    """A `.safetensors` file.

    Read here and not by the safetensors library, because a view of the mapped file
    saves a copy of every tensor; the checks are the library's.

    Reference:
        https://github.com/huggingface/safetensors, "Format" in README.md.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        if self.size < 8:
            self._refuse(f"is truncated: it has {self.size} bytes")
        for start, what in NOT_THE_FILE.items():
            if self.map[: len(start)].lower() == start:
                self._refuse(f"is {what}, not the file itself")
        length = int.from_bytes(self.map[:8], "little")
        if length > MAX_JSON:
            self._refuse(f"states a header of {length} bytes, over {MAX_JSON}")
        if 8 + length > self.size:
            self._refuse(
                f"is truncated: its header is {length} bytes long and the whole file "
                f"{self.size}"
            )
        try:
            text = self.map[8 : 8 + length].decode("utf-8")
            header = json.loads(text, object_pairs_hook=self._unique)
        except WeightsError:
            raise
        except (ValueError, RecursionError) as error:
            self._refuse(f"has a header that is not JSON ({error})")
        if not isinstance(header, dict):
            self._refuse("has a header that is not a JSON object")
        metadata = header.pop("__metadata__", None) or {}
        if not isinstance(metadata, dict):
            self._refuse("has metadata that is not a JSON object")
        self.metadata = {str(key): str(value) for key, value in metadata.items()}
        end = 8 + length
        # The format allows neither holes nor overlaps, so sizes that fit end to end
        # prove every offset.
        for name, span in sorted(
            (
                (name, self._span(name, entry, 8 + length))
                for name, entry in header.items()
            ),
            key=lambda item: (item[1].start, item[1].length),
        ):
            if span.start != end:
                self._refuse(f"has a hole or an overlap before tensor {name!r}")
            self.spans[name] = span
            end += span.length
        if end != self.size:
            self._refuse(
                f"{'is truncated' if end > self.size else 'has bytes left over'}: its "
                f"tensors end at byte {end} and the file at {self.size}"
            )

    def _unique(self, pairs):
        entries = dict(pairs)
        if len(entries) < len(pairs):
            self._refuse("has a header that states a name twice")
        return entries

    def _span(self, name: str, entry, base: int) -> Span:
        """The checked header entry of one tensor."""
        try:
            code, shape, (start, stop) = (
                entry["dtype"],
                tuple(entry["shape"]),
                entry["data_offsets"],
            )
            whole = all(type(n) is int and n >= 0 for n in (*shape, start, stop))
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            self._refuse(f"has a broken header entry for tensor {name!r}")
        if code not in SAFETENSORS_DTYPES:
            self._refuse(f"has tensor {name!r} in the unknown dtype {code!r}")
        dtype = SAFETENSORS_DTYPES[code]
        if len(shape) > 32 or math.prod(shape) * dtype.itemsize != stop - start:
            self._refuse(
                f"has tensor {name!r} of shape {shape} and dtype {code} in "
                f"{stop - start} bytes"
            )
        return Span(dtype, shape, base + start, stop - start)

    def _refuse(self, what: str):
        raise WeightsError(f"The safetensors file {what}. Received: {self.path}")


class HDF5File(TensorFile):
    """An `.h5` file: every numeric array in it, named by its path.

    Links to other files and arrays that are kept in other files are refused.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        import h5py

        try:
            self.file = h5py.File(path, "r")
        except OSError as error:
            raise WeightsError(
                f"The file is not HDF5, or it is truncated ({error}). Received: {path}"
            ) from error
        self.arrays = {}

        def visit(name, item):
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
                if item.external or item.is_virtual:
                    raise WeightsError(
                        f"An HDF5 weights file must hold its arrays itself: "
                        f"{name!r} points to another file. Received: {path}"
                    )
                self.arrays[name] = item

        try:
            self.file.visititems(visit)
        except (RuntimeError, OSError) as error:
            raise WeightsError(
                f"The HDF5 file is damaged ({error}). Received: {path}"
            ) from error

    def keys(self) -> list[str]:
        return list(self.arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.arrays[name].shape or ())

    def dtype(self, name: str) -> np.dtype:
        return self.arrays[name].dtype

    def read(self, name: str) -> np.ndarray:
        try:
            return self.arrays[name][()]
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"The array {name!r} of the HDF5 file could not be read ({error}). "
                f"Received: {self.path}"
            ) from error

    def close(self) -> None:
        self.arrays = {}
        self.file.close()
