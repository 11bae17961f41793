"""Files of adapters for tiny models, with random numbers in them."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import save_file

from kerasdiffusion.adapters.namespaces import namespace
from tests.tiny import TINY

#: What kohya calls the parts.
KOHYA = {"diffusion_model": "lora_unet", "text_encoder": "lora_te"}
KOHYA_XL = {**KOHYA, "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}


def targets(config=TINY, layers=("attn", "ff", "proj", "conv1", "mlp", "op")):
    """Modules with kernels whose names have one of these words, by part."""
    for part, modules in namespace(config).modules.items():
        for name, module in modules.items():
            dense = len(module.shapes["weight"]) > 1 and "embeddings" not in name
            if dense and any(layer in name for layer in layers):
                yield part, name, module.shapes["weight"]


def lora(random, shape, rank=4, scale=0.3):
    """Up and down of a weight of this shape."""
    outs, ins, *sides = shape
    up = random.normal(size=(outs, rank, *(1 for _ in sides)))
    down = random.normal(size=(rank, ins, *sides)) / np.sqrt(ins)
    return (scale * up).astype("float32"), down.astype("float32")


def kohya(config=TINY, seed=0, rank=4, alpha=2.0, dtype="float32", **options):
    """The tensors of a kohya LoRA."""
    random, tensors = np.random.default_rng(seed), {}
    for part, name, shape in targets(config, **options):
        names = KOHYA if config.text_encoder_2 is None else KOHYA_XL
        stem = f"{names[part]}_{name.replace('.', '_')}"
        up, down = lora(random, shape, rank)
        tensors[f"{stem}.lora_up.weight"] = up.astype(dtype)
        tensors[f"{stem}.lora_down.weight"] = down.astype(dtype)
        tensors[f"{stem}.alpha"] = np.array(alpha, dtype)
    return tensors


def save(folder, name, tensors, metadata=None):
    """Writes a file and returns its path."""
    path = folder / f"{name}.safetensors"
    save_file(tensors, path, metadata)
    return path
