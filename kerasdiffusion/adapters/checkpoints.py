"""Tensors of a whole model by their canonical names, from any of its layouts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from kerasdiffusion.adapters.namespaces import PARTS
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.weights import load
from kerasdiffusion.weights.base import WeightsError
from kerasdiffusion.weights.files import open_tensors
from kerasdiffusion.weights.formats import HDF5File


@contextlib.contextmanager
def reader(source: load.Source, config: ModelConfig) -> Iterator[Callable]:
    """A function that reads a model's tensors, in PyTorch's order of dimensions.

    Args:
        source: As in `load.load_weights`.
        config: What it is made of.

    Yields:
        A function of a part and a canonical name, which gives a float32 array, or
        `None` where the model has no such tensor.
    """
    parts = [part for part in PARTS if getattr(config, part) is not None]
    paths = load.locate(source, dict.fromkeys(parts))
    with contextlib.ExitStack() as stack:
        files, keys = {}, {}
        for part, path in paths.items():
            file = files[part] = stack.enter_context(open_tensors(path))
            if isinstance(file, HDF5File):
                raise WeightsError(
                    "A difference is taken of files in PyTorch's layouts, not "
                    f"KerasCV's: `save_preset` writes one. Received: {path}"
                )
            keys[part] = load.keys_of(part, getattr(config, part), file)

        def read(part: str, name: str) -> np.ndarray | None:
            key = keys.get(part, {}).get(name)
            if key is None:
                return None
            values = np.array(files[part].read(key), "float32")
            return values

        yield read
