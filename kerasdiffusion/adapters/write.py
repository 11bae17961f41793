"""Adapters to files, in the dialects that others read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerasdiffusion.adapters.algorithms import Change, Decomposed
from kerasdiffusion.adapters.algorithms.lora import LowRank
from kerasdiffusion.adapters.combine import factors, tensors_of
from kerasdiffusion.adapters.embeddings import bundle
from kerasdiffusion.adapters.settings import CONFIG
from kerasdiffusion.storage.whole import whole_file, write_whole
from kerasdiffusion.weights.base import WeightsError

FORMATS = ("kohya", "diffusers", "peft")
DTYPES = ("float32", "float16", "bfloat16")
#: What kohya calls the parts, of models with one text encoder and with two.
KOHYA = {
    "diffusion_model": ("lora_unet", "lora_unet"),
    "text_encoder": ("lora_te", "lora_te1"),
    "text_encoder_2": ("lora_te2", "lora_te2"),
}
DIFFUSERS = {
    "diffusion_model": "unet",
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
}
_ENDINGS = {
    "up": "lora_up.weight",
    "down": "lora_down.weight",
    "mid": "lora_mid.weight",
    "dora": "dora_scale",
    "diff_bias": "diff_b",
    "norm": "w_norm",
    "norm_bias": "b_norm",
}


def write_adapter(
    path: str | os.PathLike,
    changes: Mapping[tuple[str, str, str], Change],
    format: str = "kohya",
    *,
    two_encoders: bool = False,
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    embeddings: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes an adapter.

    Args:
        path: A `.safetensors` file; a folder for PEFT.
        changes: By part, module and leaf.
        format: `"kohya"`, which has every kind; `"diffusers"` or `"peft"`, which have
            LoRA and DoRA, with the scale in the numbers, so that no reader loses it.
        two_encoders: Whether the model has two text encoders.
        dtype: One of `DTYPES`.
        metadata: For the header, in kohya's dialect and diffusers'.
        embeddings: Words that go with it, their vectors by text encoder and word: a
            bundle, which kohya's dialect has.
        overwrite: Whether what is there is replaced.

    Returns:
        The path of the file that was written (PEFT's, of the first part).

    Raises:
        ValueError: If the format or dtype is none of these.
        WeightsError: If the format does not have a kind that is to be written.
        FileExistsError: If there is something, and `overwrite` is off.
    """
    for name, value, known in (("format", format, FORMATS), ("dtype", dtype, DTYPES)):
        if value not in known:
            raise ValueError(
                f"`{name}` must be one of {', '.join(known)}. Received: {value!r}"
            )
    if not changes:
        raise WeightsError("An adapter must change something. Received: no changes")
    if embeddings and format != "kohya":
        raise WeightsError(
            'Words are in one file with an adapter as format="kohya" alone. Received: '
            f"format={format!r}"
        )
    path = Path(path)
    if format == "peft":
        return _write_peft(path, changes, dtype, overwrite)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"An adapter is written to a .safetensors file. Received: {path}"
        )
    tensors = {}
    for (part, module, _), change in changes.items():
        if format == "kohya":
            stem = f"{KOHYA[part][two_encoders]}_{module.replace('.', '_')}"
            for slot, values in tensors_of(change).items():
                tensors[f"{stem}.{_ENDINGS.get(slot, slot)}"] = values
        else:
            tensors |= _peft_tensors(f"{DIFFUSERS[part]}.{module}", change)
    _save(path, tensors | bundle(embeddings or {}), dtype, metadata, overwrite)
    return path


def _save(path: Path, tensors, dtype: str, metadata, overwrite: bool) -> None:
    from safetensors.numpy import save_file

    kind = np.dtype(dtype)
    stored = {
        key: np.ascontiguousarray(values, kind) for key, values in tensors.items()
    }
    for key, values in stored.items():
        if not np.isfinite(values.astype("float32")).all():
            raise WeightsError(
                f"An adapter's numbers must fit {dtype}. Received: {key}"
            )
    with whole_file(path, overwrite=overwrite) as part:
        save_file(stored, part, dict(metadata) if metadata else None)


def _peft_tensors(stem: str, change: Change) -> dict[str, np.ndarray]:
    """PEFT's names of a LoRA or DoRA, with the scale in them."""
    magnitude, inner = None, change
    if isinstance(change, Decomposed):
        magnitude, inner = change.magnitude, change.change
        if change.axis != 0:
            raise WeightsError(
                "PEFT's DoRA has a magnitude for each output: one of each input is "
                f'written as format="kohya". Received: {stem}'
            )
    if not isinstance(inner, LowRank):
        raise WeightsError(
            f'PEFT and diffusers have no {change.kind} of this name: format="kohya" '
            "has it, and `kerasdiffusion adapter resize` makes it a LoRA. "
            f"Received: {stem}"
        )
    up, down = factors(inner)
    sides = inner.shape[2:]
    found = {
        f"{stem}.lora_A.weight": down.reshape(len(down), -1, *sides),
        f"{stem}.lora_B.weight": up.reshape(*up.shape, *(1 for _ in sides)),
    }
    if magnitude is not None:
        shape = (1, -1, 1, 1) if sides else (-1,)
        found[f"{stem}.lora_magnitude_vector"] = magnitude.reshape(shape)
    return found


def _write_peft(folder: Path, changes, dtype: str, overwrite: bool) -> Path:
    """A folder for each part; one alone is the folder itself."""
    parts: dict[str, dict] = {}
    for (part, module, _), change in changes.items():
        parts.setdefault(part, {})[module] = change
    written = []
    for part, own in parts.items():
        root = folder if len(parts) == 1 else folder / DIFFUSERS[part]
        tensors, ranks = {}, {}
        for module, change in own.items():
            tensors |= _peft_tensors(f"base_model.model.{module}", change)
            ranks[module] = change.rank
        is_dora = {isinstance(change, Decomposed) for change in own.values()}
        if len(is_dora) > 1:
            raise WeightsError(
                "PEFT has DoRA in all layers or in none. Received: some with, and some "
                "without"
            )
        rank = max(ranks.values())
        settings = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": None,
            "inference_mode": True,
            "init_lora_weights": True,
            "bias": "none",
            "r": rank,
            "lora_alpha": rank,
            "rank_pattern": {m: r for m, r in ranks.items() if r != rank},
            "alpha_pattern": {m: r for m, r in ranks.items() if r != rank},
            "target_modules": sorted(own),
            "use_dora": True in is_dora,
        }
        root.mkdir(parents=True, exist_ok=True)
        path = root / "adapter_model.safetensors"
        _save(path, tensors, dtype, None, overwrite)
        write_whole(root / CONFIG, json.dumps(settings, indent=2) + "\n", overwrite)
        written.append(path)
    return written[0]
