"""Textual inversion: words with vectors of their own, from files of A1111's and diffusers'.

| file | holds |
| --- | --- |
| A1111 `.pt` | `string_to_param` with one entry, `*` |
| A1111 `.safetensors` | `emb_params` |
| diffusers `.bin`, `.safetensors` | the word itself, `<cat-toy>` |
| SDXL's `.safetensors` | `clip_l` and `clip_g` |
"""  # noqa: E501

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from kerasdiffusion.weights.base import WeightsError
from kerasdiffusion.weights.files import open_tensors

#: Names of tensors that are not words.
NAMELESS = ("emb_params", "*", "clip_l", "clip_g")
MAX_VECTORS = 1000


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
        WeightsError: If the file holds no vectors of that width, or several words and
            `name` is given.
    """
    path = Path(path)
    found = {}
    with open_tensors(path) as file:
        for key in file.keys():
            if len(file.shape(key)) not in (1, 2) or file.shape(key)[-1] != width:
                continue
            vectors = np.atleast_2d(np.asarray(file.read(key), "float32"))
            found[path.stem if key in NAMELESS else key] = vectors
        shapes = {key: file.shape(key) for key in file.keys()}
    if not found or sum(map(len, found.values())) > MAX_VECTORS:
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
