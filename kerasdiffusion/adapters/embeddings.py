"""Textual inversion: words with vectors of their own, from every kind of file.

| file | holds |
| --- | --- |
| A1111 `.pt` | `string_to_param` with one entry, `*` |
| A1111 `.safetensors` | `emb_params` |
| diffusers `.bin`, `.safetensors` | the word itself, `<cat-toy>` |
| SDXL's `.safetensors` | `clip_l` and `clip_g` |
| diffusers' SDXL trainer | `text_encoders_0` and `text_encoders_1` |

An embedding has vectors and nothing else: a file with tensors of layers is another
thing, and is refused with what it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerasdiffusion.adapters import suffixes
from kerasdiffusion.storage.whole import whole_file
from kerasdiffusion.weights.base import TensorFile, WeightsError
from kerasdiffusion.weights.files import open_tensors

#: Names of tensors that are not words, and the text encoder that they are for.
NAMELESS = {
    "emb_params": None,
    "*": None,
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
    "clip_h": "text_encoder",
    "text_encoders_0": "text_encoder",
    "text_encoders_1": "text_encoder_2",
}
#: What files call the text encoders.
CLIP = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
MAX_VECTORS = 1000
#: What a tensor of a layer is called, in adapters and networks.
_LAYER = re.compile(r".*[._](weight|bias|alpha|running_(mean|var)|num_batches_tracked)")


def read_embeddings(
    path: str | os.PathLike, width: int, name: str | None = None
) -> dict[str, np.ndarray]:
    """The words of a textual inversion.

    Args:
        path: The file.
        width: Channels of the text encoder that the words are for.
        name: The word; by default the file's own, else the file's name without its
            ending.

    Returns:
        From a word to its vectors, float32 of shape `(count, width)`.

    Raises:
        WeightsError: If the file is something else, holds no vectors of that width, or
            several words and `name` is given.
    """
    path = Path(path)
    found = {}
    with open_tensors(path) as file:
        refuse_others(file)
        for key in file.keys():
            if len(file.shape(key)) not in (1, 2) or file.shape(key)[-1] != width:
                continue
            vectors = np.atleast_2d(np.asarray(file.read(key), "float32"))
            found[path.stem if key in NAMELESS else key] = vectors
        shapes = {key: file.shape(key) for key in file.keys()}
    if not 0 < sum(map(len, found.values())) <= MAX_VECTORS:
        raise WeightsError(
            f"A textual inversion holds at most {MAX_VECTORS} vectors of the text "
            f"encoder's width, {width}. Received: {dict(list(shapes.items())[:5])} in "
            f"{path}"
        )
    if name is not None:
        if len(found) > 1:
            raise WeightsError(
                f"A file with several words names them itself. Received: name={name!r} "
                f"for {list(found)} in {path}"
            )
        found = {name: next(iter(found.values()))}
    for vectors in found.values():
        if not np.isfinite(vectors).all():
            raise WeightsError(f"The vectors must be finite. Received: {path}")
    return found


def refuse_others(file: TensorFile) -> None:
    """Raises an error about a file of layers, which says what to do with it.

    Args:
        file: It, opened.
    """
    keys = file.keys()
    for key in keys:
        slot = (suffixes.split(key) or ("", None))[1]
        if slot not in (None, "ia3") or suffixes.refused(key):
            raise WeightsError(
                "The file is an adapter (a LoRA or one of its kin), no textual "
                "inversion: `load_adapter`, --adapter, reads it. Received: "
                f"{file.path} (with {key})"
            )
    for key in keys:
        if _LAYER.fullmatch(key):
            raise WeightsError(
                "The file has the tensors of a network, and a textual inversion has "
                "vectors alone: `from_preset` reads models, and `vae`, `unet` and "
                f"`text_encoder` parts of them. Received: {file.path} (with {key})"
            )


def write_embeddings(
    path: str | os.PathLike,
    words: Mapping[str, Mapping[str, np.ndarray]],
    *,
    two_encoders: bool = False,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes words: as diffusers names them, of SDXL as A1111 and ComfyUI read them.

    Args:
        path: A `.safetensors` file. One word for two text encoders is called as the
            file is; several are a bundle, which `load_adapter` reads.
        words: The vectors of each word, by the text encoder's part.
        two_encoders: Whether the model has two text encoders.
        metadata: For the header.
        overwrite: Whether what is there is replaced.

    Returns:
        The path.

    Raises:
        ValueError: If the path is none of a `.safetensors` file.
        FileExistsError: If there is something, and `overwrite` is off.
    """
    from safetensors.numpy import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"Words are written to a .safetensors file. Received: {path}")
    names = list(dict.fromkeys(word for own in words.values() for word in own))
    if not two_encoders:
        tensors = dict(next(iter(words.values())))
    elif len(names) == 1:
        tensors = {CLIP[part]: own[names[0]] for part, own in words.items()}
    else:
        tensors = bundle(words)
    tensors = {key: np.ascontiguousarray(each) for key, each in tensors.items()}
    with whole_file(path, overwrite=overwrite) as part:
        save_file(tensors, part, dict(metadata) if metadata else None)
    return path


def bundle(words: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Words as they lie in the file of an adapter: `bundle_emb.WORD.ENCODER`.

    Args:
        words: As of `write_embeddings`.
    """
    return {
        f"bundle_emb.{word}.{CLIP[part]}": vectors
        for part, own in words.items()
        for word, vectors in own.items()
    }
