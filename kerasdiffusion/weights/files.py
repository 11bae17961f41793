"""Tensor files, opened lazily: one interface for every format.

`open_tensors(path)` gives a `TensorFile`: names, shapes and dtypes at once, values one
at a time. Nothing that a file holds is executed, and no size that it states is trusted
before it was compared with the file's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kerasdiffusion.storage.bounds import shown_path
from kerasdiffusion.weights.base import Bytes, TensorFile, WeightsError, read_json
from kerasdiffusion.weights.checkpoints import TorchFile
from kerasdiffusion.weights.formats import HDF5File, SafetensorsFile
from kerasdiffusion.weights.open_clip import unfused

# Files of other programs, by how their names end.
STRANGE_SUFFIXES = {
    ".gguf": "a GGUF file of quantised weights",
    ".onnx": "an ONNX model",
    ".onnx_data": "the weights of an ONNX model",
    ".tflite": "a TensorFlow Lite model",
    ".mlmodel": "a Core ML model",
    ".engine": "a TensorRT engine",
    ".msgpack": "a Flax checkpoint",
    ".ot": "a Rust checkpoint",
}


def open_tensors(path: str | Path) -> TensorFile:
    """Open a tensor file of any known format.

    Args:
        path: A `.safetensors`, `.ckpt`, `.bin`, `.pt`, `.pth` or `.h5` file, or the
            `.index.json` of a sharded one.

    Returns:
        A `TensorFile`, to be closed or used in `with`.

    Raises:
        WeightsError: If the file does not exist, is of no known format or is broken.

    Example:

    >>> with open_tensors("model.safetensors") as file:
    ...     shapes = {name: file.shape(name) for name in file.keys()}
    """
    path = Path(path)
    try:
        there = path.is_file()
    except OSError as error:  # a name that no file can have
        raise WeightsError(
            f"The weights file cannot be: {error.strerror}. "
            f"Received: {shown_path(path)}"
        ) from error
    if not there:
        what = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"The weights file {what}. Received: {path}")
    suffix = path.suffix.lower()
    start = Bytes(path)
    magic = start[:16]
    start.close()
    what = STRANGE_SUFFIXES.get(".gguf" if magic[:4] == b"GGUF" else suffix)
    if what:
        raise WeightsError(
            f"The file is {what}, which this library does not read; it reads "
            f".safetensors, .ckpt, .bin, .pt, .pth and .h5. Received: {path}"
        )
    if re.search(r"\.index(\.\w+)?\.json$", path.name):
        return ShardedFile(path)
    if suffix in (".safetensors", ".h5", ".hdf5", ".ckpt", ".bin", ".pt", ".pth"):
        return _READERS[_kind(magic, suffix)](path)
    raise WeightsError(
        f"A weights file ends in .safetensors, .ckpt, .bin, .pt, .pth, .h5 or "
        f".index.json. Received: {path}"
    )


def _kind(magic: bytes, suffix: str) -> str:
    """What a file is by its first bytes, whatever its name says."""
    if magic[:8] == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if magic[:4] == b"PK\x03\x04" or magic[:2] in (
        b"\x80\x02",
        b"\x80\x03",
        b"\x80\x04",
    ):
        # A header's length in eight bytes may begin alike, but no brace follows.
        if magic[8:9] != b"{":
            return "torch"
    if magic[8:9] == b"{" and magic[6:8] == b"\0\0":
        return "safetensors"
    kinds = {".safetensors": "safetensors", ".h5": "hdf5", ".hdf5": "hdf5"}
    return kinds.get(suffix, "torch")


_READERS = {
    "safetensors": lambda path: unfused(SafetensorsFile(path)),
    "hdf5": HDF5File,
    "torch": lambda path: unfused(TorchFile(path)),
}


class ShardedFile(TensorFile):
    """The files of one index (`*.index.json`) as one."""

    def __init__(self, path: Path):
        super().__init__(path)
        weight_map = read_json(path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise WeightsError(
                f"An index of shards must hold a `weight_map`. Received: {path}"
            )
        self.files: dict[str, TensorFile] = {}
        self.weight_map = weight_map
        for shard in sorted({str(shard) for shard in weight_map.values()}):
            if Path(shard).name != shard or "\\" in shard or shard in (".", ".."):
                raise WeightsError(
                    f"The shards of an index must lie beside it. Received: {shard!r} "
                    f"in {path}"
                )
            if shard.endswith(".json"):
                raise WeightsError(
                    f"A shard must be a weights file. Received: {shard!r} in {path}"
                )
            self.files[shard] = open_tensors(self.path.parent / shard)
        absent = [
            name for name, shard in weight_map.items() if name not in self.files[shard]
        ]
        if absent:
            raise WeightsError(
                f"The index names {len(absent)} tensors that its shards lack, such as "
                f"{absent[0]!r}. Received: {path}"
            )

    def keys(self) -> list[str]:
        return list(self.weight_map)

    def __contains__(self, name: str) -> bool:
        return name in self.weight_map

    def _file(self, name: str) -> TensorFile:
        return self.files[self.weight_map[name]]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file(name).shape(name)

    def dtype(self, name: str) -> np.dtype:
        return self._file(name).dtype(name)

    def read(self, name: str) -> np.ndarray:
        return self._file(name).read(name)

    def check(self, names: Iterable[str]) -> None:
        names = list(names)
        for shard, file in self.files.items():
            file.check(name for name in names if self.weight_map[name] == shard)

    def close(self) -> None:
        for file in self.files.values():
            file.close()
