"""The tensor files that are no pickles: safetensors and HDF5."""

from __future__ import annotations

import math
from pathlib import Path

import ml_dtypes
import numpy as np

from kerasdiffusion.storage.bounds import check_bound, shown
from kerasdiffusion.storage.reading import parse_json
from kerasdiffusion.weights.base import (
    MAX_JSON,
    Bytes,
    Span,
    SpannedFile,
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


#: How many bytes of an array one stored byte may stand for, compressed; and what an
#: array may state that stores nothing.
HDF5_RATIO, HDF5_SMALL = 1100, 2**20

# What lies there instead of a file that was not fetched as it should be.
NOT_THE_FILE = {
    b"version https://git-lfs": "a pointer of Git LFS (`git lfs pull` fetches it)",
    b"<!doctype": "a web page",
    b"<html": "a web page",
}


class SafetensorsFile(SpannedFile):
    """A `.safetensors` file.

    Read here and not by the safetensors library, which maps it (see `base.Bytes`); the
    checks are the library's.

    Reference:
        https://github.com/huggingface/safetensors, "Format" in README.md.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        if self.size < 8:
            self._refuse(f"is truncated: it has {self.size} bytes")
        for start, what in NOT_THE_FILE.items():
            if self.bytes[: len(start)].lower() == start:
                self._refuse(f"is {what}, not the file itself")
        length = int.from_bytes(self.bytes[:8], "little")
        if length > MAX_JSON:
            self._refuse(f"states a header of {length} bytes, over {MAX_JSON}")
        if 8 + length > self.size:
            self._refuse(
                f"is truncated: its header is {length} bytes long and the whole file "
                f"{self.size}"
            )
        try:
            text = self.bytes[8 : 8 + length].decode("utf-8")
            header = parse_json(text, str(path))
        except ValueError as error:
            why = str(error).partition(" Received: ")[0]
            self._refuse(f"has a header that is not JSON ({why})")
        if not isinstance(header, dict):
            self._refuse("has a header that is not a JSON object")
        metadata = header.pop("__metadata__", None) or {}
        if not isinstance(metadata, dict) or not all(
            isinstance(value, str) for value in metadata.values()
        ):
            self._refuse("has metadata that is not a JSON object of texts")
        self.metadata = metadata
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
                self._refuse(f"has a hole or an overlap before tensor {shown(name)}")
            self.spans[name] = span
            end += span.length
        if end != self.size:
            self._refuse(
                f"{'is truncated' if end > self.size else 'has bytes left over'}: its "
                f"tensors end at byte {end} and the file at {self.size}"
            )

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
        name = shown(name)
        if not whole:
            self._refuse(f"has a broken header entry for tensor {name}")
        if not isinstance(code, str) or code not in SAFETENSORS_DTYPES:
            self._refuse(f"has tensor {name} in the unknown dtype {shown(code)}")
        dtype = SAFETENSORS_DTYPES[code]
        if len(shape) > 32 or math.prod(shape) * dtype.itemsize != stop - start:
            self._refuse(
                f"has tensor {name} of shape {shown(shape)} and dtype {code} in "
                f"{shown(stop - start)} bytes"
            )
        return Span(dtype, shape, base + start, stop - start)

    def _refuse(self, what: str):
        raise WeightsError(f"The safetensors file {what}. Received: {self.path}")


class HDF5File(TensorFile):
    """An `.h5` file: every numeric array in it, named by its path.

    Links to other files and arrays that are kept in other files are refused, and so are
    arrays of more values than the file has bytes for.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        import h5py

        Bytes(path).close()  # a regular file
        try:
            self.file = h5py.File(path, "r")
        except OSError as error:
            raise WeightsError(
                f"The file is not HDF5, or it is truncated ({error}). Received: {path}"
            ) from error
        self.arrays, seen = {}, 0
        groups = [("", self.file, 0)]
        try:
            while groups:
                root, group, depth = groups.pop()
                check_bound("hdf5_depth", depth, path)
                for name in group:
                    seen += 1
                    check_bound("hdf5_items", seen, path)
                    link = group.get(name, getlink=True)
                    if not isinstance(link, h5py.HardLink):
                        continue
                    item = group[name]
                    if isinstance(item, h5py.Group):
                        groups.append((f"{root}{name}/", item, depth + 1))
                    elif isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
                        self._check_array(f"{root}{name}", item)
                        self.arrays[f"{root}{name}"] = item
            in_order = sorted(self.arrays, key=lambda name: name.split("/"))
            self.arrays = {name: self.arrays[name] for name in in_order}
        except WeightsError:
            self.close()
            raise
        except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
            self.close()
            raise WeightsError(
                f"The HDF5 file is damaged ({shown(str(error))}). Received: {path}"
            ) from error

    def _check_array(self, name: str, item) -> None:
        """Asked ahead of reading: what a shape states need not be there."""
        if item.external or item.is_virtual:
            raise WeightsError(
                f"An HDF5 weights file must hold its arrays itself: {shown(name)} "
                f"points to another file. Received: {self.path}"
            )
        most = max(HDF5_RATIO * item.id.get_storage_size(), HDF5_SMALL)
        if item.nbytes > most:
            raise WeightsError(
                f"An HDF5 array must be stored: {shown(name)} states "
                f"{item.nbytes} bytes and has {item.id.get_storage_size()}. "
                f"Received: {self.path}"
            )

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
