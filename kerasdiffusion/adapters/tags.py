"""Adapters as prompts ask for them: `<lora:name:0.8>`, and what is written of them."""

from __future__ import annotations

import hashlib
import os

from kerasdiffusion.adapters.sources import by_name, find_adapter, folder
from kerasdiffusion.prompts.tags import Tag, split_tags
from kerasdiffusion.weights.base import BLOCK, WeightsError

KINDS = ("lora", "lyco")
#: Letters of a hash that the web UI writes.
_LETTERS = 12


def tag_weights(tag: Tag) -> tuple[float, float]:
    """The weights that a tag asks for: of text encoders, and of the U-Net.

    `<lora:name:0.8>` is 0.8 of both; of two numbers the first is the text encoders'.
    Both may be named: `<lora:name:te=0:unet=1>`.

    Args:
        tag: Of kind `"lora"` or `"lyco"`.

    Raises:
        ValueError: If an argument is no number, or is one that is not read.

    Example:

    >>> tag_weights(Tag("lora", "detail", ("0.5", "1")))
    (0.5, 1.0)

    Reference:
        AUTOMATIC1111/stable-diffusion-webui 1.10, `extensions-builtin/Lora/
        extra_networks_lora.py`.
    """
    plain = [each for each in tag.arguments if "=" not in each]
    named = dict(each.split("=", 1) for each in tag.arguments if "=" in each)
    if len(plain) > 2 or set(named) - {"te", "unet"}:
        raise ValueError(
            "A tag of an adapter must have at most two weights, of text encoders and "
            f"U-Net, or te= and unet=. Received: {tag}"
        )
    try:
        text = float(named.get("te", plain[0] if plain else 1.0))
        unet = float(named.get("unet", plain[1] if len(plain) > 1 else text))
    except ValueError:
        raise ValueError(
            f"The weights of a tag must be numbers. Received: {tag}"
        ) from None
    return text, unet


def lora_hashes(prompt: str, adapters=None) -> str:
    """What the web UI writes as `Lora hashes`: each adapter's name and short hash.

    Args:
        prompt: The prompt, with its tags.
        adapters: A request's, tuples of a file and weights.

    Returns:
        `"detail: 1a2b3c4d5e6f, style: ..."`; empty where there are none.
    """
    paths = {}
    if folder() is not None:
        for tag in split_tags(prompt)[1]:
            if tag.kind in KINDS:
                paths.setdefault(tag.name, lambda name=tag.name: by_name(name))
    for source, *_ in adapters or ():
        name = os.path.splitext(os.path.basename(source))[0]
        paths.setdefault(name, lambda source=source: find_adapter(source))
    found = []
    for name, find in paths.items():
        try:
            found.append(f"{name}: {short_hash(find())}")
        except (WeightsError, OSError):
            continue
    return ", ".join(found)


def short_hash(path: str | os.PathLike) -> str:
    """The first letters of the SHA-256 of a file's tensors: its header may change.

    Args:
        path: A `.safetensors` file; of others all is hashed.

    Reference:
        kohya-ss/sd-webui-additional-networks, `scripts/hashing.py`,
        `addnet_hash_safetensors`.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if os.fspath(path).endswith(".safetensors"):
            file.seek(8 + int.from_bytes(file.read(8), "little"))
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()[:_LETTERS]
