"""What is taught: layers of variables to begin with, an adapter or files in the end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.adapters.adapter import Adapter
from kerasdiffusion.adapters.embeddings import write_embeddings
from kerasdiffusion.adapters.families import family_of
from kerasdiffusion.adapters.namespaces import CONTROL, UNET
from kerasdiffusion.adapters.write import write_adapter
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.storage.whole import write_whole
from kerasdiffusion.training.finetuning.base import Base
from kerasdiffusion.training.finetuning.factors import Factors
from kerasdiffusion.training.finetuning.words import Words

#: Where a folder of a model says how it was taught.
METADATA = "training.json"


def words_of(part: str) -> str:
    """What the new words of a text encoder are called among what is taught."""
    return f"{part}_words"


def begin(base: Base, adapter, words, text_encoders, seed: int) -> dict:
    """The layers whose variables are taught.

    Args:
        base: The model.
        adapter: As of `Finetuner`.
        words: A tuple of `NewWords`.
        text_encoders: As of `Finetuner`.
        seed: Of what they begin with.

    Returns:
        By the name of the network: its `Factors`, or itself; and by `words_of` of a
        text encoder its `Words`. A ControlNet is a network of its own.

    Raises:
        ValueError: If weights are too coarse to be taught, or cannot be.
    """
    if isinstance(adapter, ControlNet):
        if words:
            raise ValueError(
                "A ControlNet is taught alone, beside a model that stays as it is. "
                f"Received: words={words}"
            )
        return {CONTROL: adapter}
    found = {}
    if adapter is not None:
        found |= base.factors(adapter, seed)
    for part, own in base.words(words, seed).items() if words else ():
        found[words_of(part)] = own
    if found:
        return found
    for part, network in base.networks.items():
        if part == UNET or text_encoders:
            _check_weights(network)
            found[part] = network
    return found


def _check_weights(network) -> None:
    """A network's own weights can be taught."""
    variables = network.trainable_variables
    if not variables:
        raise ValueError(
            "Without an adapter and words a network's own weights are taught, and they "
            f"must be trainable. Received: {network.name!r} with trainable=False"
        )
    coarse = {v.dtype for v in variables} & {"float16", "bfloat16"}
    if coarse:
        raise ValueError(
            "Weights of 16 bits are too coarse for steps as small as a learning rate: "
            "teach an adapter, or a model of precision='mixed_bfloat16', "
            f"'mixed_float16' or 'float32'. Received: {network.name!r} in "
            f"{', '.join(coarse)}"
        )


def adapter_of(taught: Mapping, config: ModelConfig) -> Adapter:
    """What is taught as it is now.

    Args:
        taught: What `begin` gave.
        config: The model's.
    """
    entries, words = [], {}
    for layer in taught.values():
        if isinstance(layer, Factors):
            entries += layer.entries()
        elif isinstance(layer, Words):
            words[layer.part] = layer.values()
    return Adapter(tuple(entries), None, family_of(config), words)


def save(adapter: Adapter, path, config, metadata, overwrite, format) -> Path:
    """Writes an adapter, words, or both as a bundle."""
    two = config.text_encoder_2 is not None
    how = {"two_encoders": two, "metadata": metadata, "overwrite": overwrite}
    if not adapter.entries:
        return write_embeddings(path, adapter.embeddings, **how)
    changes = {(e.part, e.module, e.change.leaf): e.change for e in adapter.entries}
    return write_adapter(path, changes, format, embeddings=adapter.embeddings, **how)


def save_model(model, path: str | os.PathLike, metadata, overwrite: bool) -> Path:
    """Writes a model whose own weights were taught."""
    path, is_file = Path(path), Path(path).suffix == ".safetensors"
    model.save_preset(path, overwrite=overwrite, metadata=metadata if is_file else None)
    if metadata and not is_file:
        text = json.dumps(dict(metadata), indent=1) + "\n"
        write_whole(path / METADATA, text, overwrite=True)
    return path
