"""PyTorch's checkpoints (`.ckpt`, `.bin`, `.pt`, `.pth`), read without PyTorch.

A checkpoint is a pickle that describes the tensors (see `pickles.py`), and their raw
values: in a zip archive, or behind each other in the format before PyTorch 1.6.

Reference:
    PyTorch's `torch/serialization.py`.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.weights.base import Span, SpannedFile, WeightsError
from kerasdiffusion.weights.pickles import MAX_PICKLE, Interpreter, Tensor

MAX_ENTRIES = 100_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


class TorchFile(SpannedFile):
    """A file that `torch.save` wrote: a zip archive, or the older stream.

    The tensors of the state dict, at the top or under `"state_dict"`, by name. All else
    in the file (epochs, optimizers, callbacks) is passed over.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        if self.bytes[:4] == b"PK\x03\x04":
            value, storages = self._read_zip()
        else:
            value, storages = self._read_stream()
        tensors = _state_dict(value)
        if not tensors:
            raise WeightsError(f"The checkpoint holds no tensors. Received: {path}")
        for name, tensor in tensors.items():
            self.spans[name] = self._span(name, tensor, storages)

    def _span(self, name: str, tensor: Tensor, storages: dict) -> Span:
        """Where a tensor's bytes lie, checked against its storage."""
        storage, size = tensor.storage, tensor.dtype.itemsize
        if storage.key not in storages:
            raise WeightsError(
                f"The checkpoint lacks the values of tensor {shown(name)}. "
                f"Received: {self.path}"
            )
        start, length = storages[storage.key]
        start += (storage.offset * storage.dtype.itemsize) + tensor.offset * size
        end = storages[storage.key][0] + length
        reach = sum(
            (n - 1) * stride
            for n, stride in zip(tensor.shape, tensor.strides, strict=True)
        )
        count = 1
        for n in tensor.shape:
            count *= n
        span = (reach + 1) * size if count else 0
        # A view that repeats its values could be of any size.
        if start + span > end or count * size > length:
            raise WeightsError(
                f"The checkpoint's tensor {shown(name)} of shape {shown(tensor.shape)} "
                f"reaches beyond its values. Received: {self.path}"
            )
        strides = tuple(stride * size for stride in tensor.strides)
        return Span(tensor.dtype, tensor.shape, start, span, strides)

    def _read_zip(self):
        """The value of the archive's pickle, and where each storage lies."""
        entries = self._zip_entries()
        pickles = [name for name in entries if name.split("/", 1)[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise WeightsError(
                f"A checkpoint's archive must hold one data.pkl. Received: "
                f"{len(pickles)} in {self.path}"
            )
        root = pickles[0][: -len("data.pkl")]
        if f"{root}byteorder" in entries:
            start, length = entries[f"{root}byteorder"]
            order = self.bytes[start : start + min(length, 16)]
            if order != b"little":
                raise WeightsError(
                    f"The checkpoint's byte order must be little. Received: "
                    f"{order!r} in {self.path}"
                )
        start, length = entries[pickles[0]]
        if length > MAX_PICKLE:
            raise WeightsError(
                f"The pickle of a checkpoint has at most {MAX_PICKLE} bytes. "
                f"Received: {length} in {self.path}"
            )
        stream = io.BytesIO(self.bytes[start : start + length])
        prefix = f"{root}data/"
        storages = {
            name[len(prefix) :]: span
            for name, span in entries.items()
            if name.startswith(prefix)
        }
        interpreter = Interpreter(stream, self.path)
        value, self.strangers = interpreter.run(), interpreter.strangers
        return value, storages

    def _zip_entries(self) -> dict[str, tuple[int, int]]:
        """Start and length of each entry; all must be stored as they are."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = archive.infolist()
        except (
            zipfile.BadZipFile,
            OSError,
            ValueError,
            struct.error,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise WeightsError(
                f"The checkpoint's archive is damaged or truncated ({error}). "
                f"Received: {self.path}"
            ) from error
        if len(infos) > MAX_ENTRIES:
            raise WeightsError(
                f"A checkpoint's archive has at most {MAX_ENTRIES} entries. "
                f"Received: {len(infos)} in {self.path}"
            )
        entries, total = {}, 0
        for info in infos:
            if (
                info.compress_type != zipfile.ZIP_STORED
                or info.file_size != info.compress_size
                or info.flag_bits & 1
            ):
                raise WeightsError(
                    f"A checkpoint's archive must store its entries uncompressed, and "
                    f"{info.filename!r} states {info.file_size} bytes in "
                    f"{info.compress_size}. Received: {self.path}"
                )
            header = self.bytes[info.header_offset : info.header_offset + 30]
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise WeightsError(
                    f"The checkpoint's archive is damaged at {info.filename!r}. "
                    f"Received: {self.path}"
                )
            start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
            total += info.file_size
            # Entries that overlap would add up to more than the file.
            if start + info.file_size > self.size or total > self.size:
                raise WeightsError(
                    f"The checkpoint's archive states more bytes than the file has. "
                    f"Received: {self.path}"
                )
            entries[info.filename] = (start, info.file_size)
        return entries

    def _read_stream(self):
        """The same from the format that `torch.save` wrote before version 1.6."""
        if self.bytes[:1] != b"\x80":
            raise WeightsError(
                f"The file is no PyTorch checkpoint: it is neither a zip archive nor "
                f"a pickle. Received: {self.path}"
            )
        stream = _Stream(self.bytes.file)
        magic = Interpreter(stream, self.path).run()
        if type(magic) is not int or magic != LEGACY_MAGIC:
            raise WeightsError(
                f"The file is a pickle, but no PyTorch checkpoint. "
                f"Received: {self.path}"
            )
        protocol = Interpreter(stream, self.path).run()
        system = Interpreter(stream, self.path).run()
        little = isinstance(system, dict) and system.get("little_endian", True) is True
        is_known = type(protocol) is int and protocol == LEGACY_PROTOCOL
        if not is_known or not little:
            raise WeightsError(
                f"The checkpoint must have protocol {LEGACY_PROTOCOL} and byte order "
                f"little. Received: protocol {shown(protocol)} in {self.path}"
            )
        interpreter = Interpreter(stream, self.path)
        value, self.strangers = interpreter.run(), interpreter.strangers
        keys = Interpreter(stream, self.path).run()
        known = interpreter.storages
        storages, position = {}, stream.tell()
        stream.leave()
        for key in keys if isinstance(keys, list) else []:
            # Each storage is its length as a 64-bit integer, then its values.
            header = self.bytes[position : position + 8]
            if len(header) < 8 or not isinstance(key, str) or key not in known:
                raise WeightsError(
                    "The checkpoint is truncated or damaged before storage "
                    f"{shown(key)}. Received: {self.path}"
                )
            length = int.from_bytes(header, "little") * known[key].dtype.itemsize
            position += 8
            if length > self.size - position:
                raise WeightsError(
                    f"The checkpoint is truncated in storage {shown(key)}. "
                    f"Received: {self.path}"
                )
            storages[key] = (position, length)
            position += length
        return value, storages


#: Under which names programs keep the tensors of a checkpoint, the outermost first:
#: Lightning, others, moving averages alone, textual inversions.
CONTAINERS = ("state_dict", "model", "model_state_dict", "module", "string_to_param")
AVERAGES = ("ema", "ema_state_dict", "state_dict_ema", "params_ema", "model_ema")


def _state_dict(value) -> dict[str, Tensor]:
    """The named tensors at the top of a checkpoint or where its kind keeps them."""
    for _ in range(2):  # {"model": {"state_dict": ...}}
        for key in (*CONTAINERS, *AVERAGES):
            if isinstance(value, dict) and isinstance(value.get(key), dict):
                inner = value[key]
                if any(isinstance(each, (Tensor, dict)) for each in inner.values()):
                    value = inner
                    break
    if not isinstance(value, dict):
        return {}
    return {
        name: item
        for name, item in value.items()
        if isinstance(name, str) and isinstance(item, Tensor)
    }


class _Stream:
    """A file from its start, that reads no more than a pickle may have at once."""

    def __init__(self, file):
        file.seek(0)
        self.file = io.BufferedReader(file)
        self.tell = self.file.tell

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, MAX_PICKLE))

    def readline(self) -> bytes:
        line = self.file.readline(MAX_PICKLE)
        return line if line.endswith(b"\n") else b""

    def leave(self) -> None:
        """The file stays open when this is gone."""
        self.file.detach()
