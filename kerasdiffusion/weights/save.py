"""Networks to files: diffusers' folder and the original single file.

A tensor is written at a time, under a hidden name beside the target, which it takes at
the end in one step: what stood there stays whole until the new model is.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.storage.folders import whole_folder
from kerasdiffusion.storage.whole import whole_file
from kerasdiffusion.weights import names
from kerasdiffusion.weights.arrays import (
    is_float,
    stored_shape,
    stored_variables,
    to_stored,
)
from kerasdiffusion.weights.detect import METADATA_KEY
from kerasdiffusion.weights.folders import text_folders, write_configs
from kerasdiffusion.weights.formats import SAFETENSORS_DTYPES
from kerasdiffusion.weights.layout import FIELDS, OWN, is_model_folder
from kerasdiffusion.weights.modules import EMBEDDER, PREFIXES
from kerasdiffusion.weights.open_clip import fused_name
from kerasdiffusion.weights.words import with_words

CODES = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}
TOKEN_TABLE = "text_model.embeddings.token_embedding.weight"
FILES = {
    "unet/diffusion_pytorch_model": ("diffusion_model",),
    "vae/diffusion_pytorch_model": ("image_encoder", "decoder"),
}


class Entry(NamedTuple):
    """One tensor to be written: a variable's, or several joined or turned over."""

    name: str
    variable: object
    shape: tuple[int, ...]
    dtype: np.dtype
    turned: bool = False

    @property
    def size(self) -> int:
        """Its bytes in the file."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


def save_folder(
    folder: str | os.PathLike,
    parts: Mapping[str, object],
    config: ModelConfig,
    tokenizer,
    *,
    tokenizer_2=None,
    learned: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    dtype: str | None = None,
    max_shard_size: int = 10 * 10**9,
    overwrite: bool = False,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder that this library and diffusers read.

    Args:
        folder: Where to; its parent must exist.
        parts: The built networks, by part.
        config: What the model is made of.
        tokenizer: The first text encoder's `Tokenizer`.
        tokenizer_2: The second one's; by default of the same vocabulary.
        learned: The vectors of learned words, by part and word. They become tokens.
        dtype: What the weights are stored in (`"float16"`, ...); by default each in
            its variable's own.
        max_shard_size: Bytes of a file above which a part is split into several.
        overwrite: Whether a model that is there may be replaced. Files beside it in
            the folder stay, and a folder that holds no model is never touched.
        texts: What other files say, by their names; they come with the model, whole or
            not at all.

    Raises:
        FileExistsError: If something is there, and `overwrite` is off or it is no
            model.
        ValueError: If parts are missing or do not fit the configuration, or a value
            does not fit the dtype.

    Example:

    >>> save_folder("my-model", parts, config, Tokenizer(), dtype="float16")
    """
    _check_parts(parts, config)
    tokenizers = {"text_encoder": tokenizer}
    if config.tokenizer_2 is not None:
        tokenizers["text_encoder_2"] = tokenizer_2 or type(tokenizer)(
            config.tokenizer_2, tokenizer.vocabulary
        )
    config, tokenizers, rows = with_words(config, tokenizers, learned or {})
    texts = texts or {}

    def is_replaced(name):
        return name in texts or bool(OWN.fullmatch(name))

    with whole_folder(folder, overwrite, is_model_folder, is_replaced) as temporary:
        write_configs(temporary, config, tokenizers)
        files = dict(FILES)
        for part, number in text_folders(config).items():
            tokenizers[part].save(temporary / f"tokenizer{number}")
            files[f"text_encoder{number}/model"] = (part,)
        for stem, members in files.items():
            entries = [
                Entry(
                    names.canonical_name(variable.path, parts[part].name),
                    variable,
                    stored_shape(variable),
                    dtype_of(variable, dtype),
                )
                for part in members
                for variable in stored_variables(parts[part])
            ]
            if members[0] in rows:
                size = getattr(config, members[0]).vocabulary_size
                entries = [_with_rows(each, rows[members[0]], size) for each in entries]
            _write_shards(temporary / stem, entries, max_shard_size)
        for name, text in texts.items():
            (temporary / name).write_text(text, "utf-8")


def _with_rows(entry: Entry, rows: np.ndarray, size: int) -> Entry:
    """The table of tokens with the vectors of learned words at its end."""
    if entry.name != TOKEN_TABLE:
        return entry
    # The table may have been longer than the vocabulary.
    table = to_stored(entry.variable)[: size - len(rows)]
    return entry._replace(variable=(table, rows), shape=(size, rows.shape[1]))


def save_file(
    path: str | os.PathLike,
    parts: Mapping[str, object],
    config: ModelConfig,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the original single file, which ComfyUI and AUTOMATIC1111's UI read.

    Args:
        path: Where to; ends in `.safetensors`.
        parts: The built networks, by part.
        config: What the model is made of; goes into the file's metadata.
        dtype: As in `save_folder`.
        overwrite: Whether a file that is there may be replaced.
        metadata: What else its header says.

    Raises:
        FileExistsError: If the file is there and `overwrite` is off.
        ValueError: As in `save_folder`, or if the name ends otherwise.

    Example:

    >>> save_file("my-model.safetensors", parts, config, dtype="float16")
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"A single file must end in .safetensors. Received: {os.fspath(path)!r}"
        )
    if path.exists() and not (overwrite and path.is_file()):
        way = "; pass overwrite=True to replace it" if path.is_file() else ""
        raise FileExistsError(f"There is something already{way}. Received: {path}")
    _check_parts(parts, config)
    entries = []
    for part in config.parts:
        table = names.tensors(part, getattr(config, FIELDS[part]))
        rows = {tensor.name: tensor for tensor in table}
        for variable in stored_variables(parts[part]):
            row = rows[names.canonical_name(variable.path, parts[part].name)]
            name, kind = row.original, dtype_of(variable, dtype)
            if part == "text_encoder" and config.diffusion_model.vector_width:
                name = name.replace(PREFIXES[part], EMBEDDER, 1)
            entries.append(Entry(name, variable, row.original_shape, kind))
    entries = _fuse(entries)
    for name, values in _marks(config).items():
        entries.append(Entry(name, values, values.shape, values.dtype))
    own = json.dumps(dataclasses.asdict(config))
    metadata = {**(metadata or {}), "format": "pt", METADATA_KEY: own}
    with whole_file(path, overwrite) as temporary:
        write_safetensors(temporary, entries, metadata)


def _marks(config: ModelConfig) -> dict[str, np.ndarray]:
    """Tensors that tell ComfyUI of the noise and the latents."""
    schedule, found = config.schedule, {}
    if config.diffusion_model.vector_width:
        if schedule.is_continuous and schedule.prediction_type == "v_prediction":
            found |= {
                f"edm_vpred.{name}": getattr(schedule, name)
                for name in ("sigma_min", "sigma_max")
            }
        elif schedule.prediction_type == "v_prediction":
            found["v_pred"] = ()
        if schedule.zero_terminal_snr:
            found["ztsnr"] = ()
    for name in ("mean", "std"):
        values = getattr(config.autoencoder, f"latents_{name}", ())
        if values:
            found[f"edm_{name}"] = np.reshape(values, (1, -1, 1, 1))
    return {name: np.array(values, np.float32) for name, values in found.items()}


def _fuse(entries: Sequence[Entry]) -> list[Entry]:
    """OpenCLIP's tensors as its files have them."""
    found: dict[str, Entry] = {}
    for entry in entries:
        name, turned = fused_name(entry.name)
        if name in found:
            first = found[name]
            rows = first.shape[0] + entry.shape[0]
            found[name] = first._replace(
                variable=(*first.variable, entry.variable),
                shape=(rows, *entry.shape[1:]),
            )
        elif name != entry.name and len(entry.shape) == 2 and turned:
            found[name] = entry._replace(
                name=name, shape=entry.shape[::-1], turned=True
            )
        elif name != entry.name:
            variables = (entry.variable,)
            found[name] = entry._replace(name=name, variable=variables)
        else:
            found[name] = entry
    return list(found.values())


def write_safetensors(
    path: Path, entries: Sequence[Entry], metadata: Mapping[str, str]
) -> None:
    """Write a `.safetensors` file, a tensor at a time.

    Args:
        path: Where to.
        entries: The tensors; sorted by name here.
        metadata: Strings for the header.

    Raises:
        ValueError: If a value overflows its dtype.
    """
    entries = sorted(entries, key=lambda entry: entry.name)
    header: dict = {"__metadata__": dict(metadata)}
    position = 0
    for name, _, shape, dtype, _ in entries:
        end = position + int(np.prod(shape)) * dtype.itemsize
        header[name] = {
            "dtype": CODES[dtype],
            "shape": list(shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, variable, _, dtype, turned in entries:
            variables = variable if isinstance(variable, tuple) else (variable,)
            with np.errstate(over="ignore"):
                values = [to_stored(each, dtype) for each in variables]
            values = values[0] if len(values) == 1 else np.concatenate(values)
            values = np.ascontiguousarray(values.T) if turned else values
            own = np.dtype(variables[0].dtype)
            if dtype != own and not np.isfinite(values.astype(np.float32)).all():
                raise ValueError(
                    f"The values of a tensor must fit the dtype that it is stored in. "
                    f"Received: {name!r} as {dtype}"
                )
            file.write(values.reshape(-1).view(np.uint8))
        file.flush()
        os.fsync(file.fileno())


def _write_shards(stem: Path, entries: Sequence[Entry], max_size: int) -> None:
    """One file, or several with an index."""
    shards: list[list[Entry]] = [[]]
    for entry in sorted(entries, key=lambda entry: entry.name):
        filled = sum(other.size for other in shards[-1])
        if shards[-1] and filled + entry.size > max_size:
            shards.append([])
        shards[-1].append(entry)
    metadata = {"format": "pt"}
    if len(shards) == 1:
        write_safetensors(stem.with_name(f"{stem.name}.safetensors"), entries, metadata)
        return
    weight_map = {}
    for i, shard in enumerate(shards, 1):
        name = f"{stem.name}-{i:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(stem.with_name(name), shard, metadata)
        weight_map |= {entry.name: name for entry in shard}
    total = sum(entry.size for entry in entries)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    path = stem.with_name(f"{stem.name}.safetensors.index.json")
    path.write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def dtype_of(variable, dtype: str | None) -> np.dtype:
    """What a variable is stored in; checked to be floating-point."""
    try:
        kind = np.dtype(variable.dtype if dtype is None else dtype)
    except TypeError:
        kind = None
    if kind not in CODES or not is_float(kind):
        raise ValueError(
            f"Weights are stored in a floating-point dtype such as 'float32', "
            f"'float16' or 'bfloat16'. Received: dtype={dtype!r}"
        )
    return kind


def _check_parts(parts: Mapping[str, object], config: ModelConfig) -> None:
    absent = [part for part in config.parts if part not in parts]
    if absent:
        raise ValueError(
            f"A model is saved with all its parts: {', '.join(config.parts)}. "
            f"Received: {list(parts)}, without {', '.join(absent)}"
        )
    for part in config.parts:
        attribute = FIELDS[part]
        if parts[part].config != getattr(config, attribute):
            raise ValueError(
                f"The configuration must be that of the networks. Received: "
                f"{getattr(config, attribute)} for a {part} of {parts[part].config}"
            )
