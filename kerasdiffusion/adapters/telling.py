"""What is in a file of weights, in words: read from its header, without a framework."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kerasdiffusion.adapters import suffixes
from kerasdiffusion.adapters.embeddings import NAMELESS, refuse_others
from kerasdiffusion.adapters.families import FAMILIES, stranger
from kerasdiffusion.adapters.namespaces import namespace
from kerasdiffusion.adapters.outline import Outline, outline
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.reading import parse_json
from kerasdiffusion.weights.base import TensorFile, WeightsError
from kerasdiffusion.weights.files import open_tensors

#: Of a trainer's many notes, those that a user asks for.
NOTES = {
    "ss_base_model_version": "trained on",
    "ss_sd_model_name": "model",
    "ss_network_module": "trainer's module",
    "ss_network_dim": "network dim",
    "ss_network_alpha": "network alpha",
    "ss_learning_rate": "learning rate",
    "ss_optimizer": "optimizer",
    "ss_steps": "steps",
    "ss_num_train_images": "pictures an epoch",
    "ss_resolution": "resolution",
    "ss_clip_skip": "clip skip",
    "ss_training_comment": "comment",
}
MOST_TAGS = 20
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def describe_file(path: str | os.PathLike) -> dict[str, str]:
    """What a file of weights holds.

    Args:
        path: A `.safetensors`, `.pt`, `.bin` or `.ckpt` file.

    Returns:
        Lines by name, in their order: kind, family, rank, modules, words, notes.

    Raises:
        WeightsError: If the file cannot be read.

    Example:

    >>> describe_file("detail.safetensors")["kind"]
    'LoRA'
    """
    with open_tensors(path) as file:
        shapes = {key: file.shape(key) for key in file.keys()}
        told = _adapter(shapes) or _embedding(file) or _network(file)
        told["tensors"] = str(len(shapes))
        told["dtype"] = ", ".join(sorted({file.dtype(key).name for key in shapes}))
        return told | _notes(file.metadata)


def is_weights(path: str | os.PathLike) -> bool:
    """Whether a file's name says that it has weights, and no picture."""
    return os.fspath(path).lower().endswith(ENDINGS)


def guess(shapes: Mapping) -> tuple[str, ModelConfig, Outline] | None:
    """The family that an adapter is for: name, configuration and outline."""
    found = []
    for name, config in FAMILIES.items():
        own = outline(shapes, namespace(config))
        if own.groups and not own.misfits:
            found.append((len(own.groups), -len(found), name, config, own))
    return max(found)[2:] if found else None


def _adapter(shapes) -> dict[str, str] | None:
    slots = {(suffixes.split(key) or ("", "ia3"))[1] for key in shapes}
    why = next(filter(None, map(suffixes.refused, shapes)), None)
    if slots <= {"ia3"} and why is None:
        return None
    if why:
        return {"kind": f"an adapter that is not read: {why}"}
    found = guess(shapes)
    strange = stranger(shapes if found is None else found[2].unused)
    if found is None or strange:
        return {"kind": "adapter", "for": strange or "no known family"}
    name, _, own = found
    kinds: dict[str, int] = {}
    ranks = set()
    for group in own.groups:
        for row in group.rows:
            kind = row.kind
            if {"dora", "magnitude"} & set(group.keys) and row.leaf == "weight":
                kind = f"DoRA of {kind}"
            kinds[kind] = kinds.get(kind, 0) + 1
        for slot in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b", "a2"):
            if slot in group.keys:
                ranks.add(shapes[group.keys[slot]][0])
                break
    parts = [group.targets[0].part for group in own.groups]
    told = {
        "kind": " + ".join(sorted(kinds, key=lambda kind: -kinds[kind])),
        "for": name,
    }
    if ranks:
        low, high = min(ranks), max(ranks)
        told["rank"] = str(low) if low == high else f"{low} to {high}"
    told["modules"] = ", ".join(
        f"{parts.count(part)} of {part}" for part in sorted(set(parts))
    )
    if own.words:
        told["words"] = ", ".join(own.words)
    if own.broken:
        told["broken"] = "; ".join(own.broken[:3])
    if own.unused:
        told["not used"] = f"{len(own.unused)}: {', '.join(own.unused[:3])}"
    return told


def _embedding(file: TensorFile) -> dict[str, str] | None:
    try:
        refuse_others(file)
    except WeightsError:
        return None
    shapes = {key: file.shape(key) for key in file.keys()}
    if not shapes or any(len(shape) not in (1, 2) for shape in shapes.values()):
        return None
    words = [file.path.stem if key in NAMELESS else key for key in shapes]
    widths = sorted({shape[-1] for shape in shapes.values()})
    family = {
        (768,): "Stable Diffusion 1",
        (1024,): "Stable Diffusion 2",
        (768, 1280): "SDXL",
        (1280,): "SDXL's refiner, or one encoder of SDXL",
    }
    counts = [1 if len(shape) == 1 else shape[0] for shape in shapes.values()]
    return {
        "kind": "textual inversion",
        "for": family.get(tuple(widths), f"text encoders {widths} wide"),
        "words": ", ".join(dict.fromkeys(words)),
        "vectors": str(max(counts)),
    }


def _network(file: TensorFile) -> dict[str, str]:
    from kerasdiffusion.adapters.families import family_of
    from kerasdiffusion.weights import detect

    try:
        config = detect.detect(file)
    except WeightsError as error:
        return {"kind": "no model that is read here", "why": str(error)}
    return {
        "kind": "checkpoint",
        "for": family_of(config),
        "parts": ", ".join(config.parts),
        "predicts": config.schedule.prediction_type,
        "input channels": str(config.diffusion_model.in_channels),
    }


def _notes(metadata: Mapping[str, str]) -> dict[str, str]:
    """What the header says: the model specification's lines, a trainer's notes."""
    told = {}
    for key, value in metadata.items():
        if key.startswith("modelspec.") and value and "thumbnail" not in key:
            told[key.removeprefix("modelspec.").replace("_", " ")] = _short(value)
    for key, name in NOTES.items():
        if metadata.get(key) not in (None, "", "None"):
            told.setdefault(name, _short(metadata[key]))
    tags = _tags(metadata.get("ss_tag_frequency"))
    if tags:
        told["tags"] = ", ".join(f"{tag} ({count})" for tag, count in tags[:MOST_TAGS])
    return told


def _short(value: str) -> str:
    return shown(str(value))[1:-1]


def _tags(text: str | None) -> list[tuple[str, int]]:
    """Captions' tags of all folders, the most frequent first."""
    if not text:
        return []
    try:
        folders = parse_json(text, "ss_tag_frequency")
    except ValueError:
        return []
    counts: dict[str, int] = {}
    for folder in folders.values() if isinstance(folders, dict) else ():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if type(count) is int:
                tag = _short(tag.strip())
                counts[tag] = counts.get(tag, 0) + count
    return sorted(counts.items(), key=lambda item: -item[1])
