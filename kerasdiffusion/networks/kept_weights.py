"""Weights as OpenVINO wants them, kept from process to process: see `weights_kept`."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasdiffusion.compute import weights_kept
from kerasdiffusion.compute.openvino_models import turns
from kerasdiffusion.weights import load, names
from kerasdiffusion.weights.base import TensorFile, WeightsError
from kerasdiffusion.weights.files import open_tensors
from kerasdiffusion.weights.formats import HDF5File

#: Bytes of a file that are looked at beside its size and its time.
_LOOKED_AT = 2**20


class Place(NamedTuple):
    """The file that a part's weights are read from, and the one that keeps them."""

    source: Path
    kept: Path


def places(parts: Mapping, source) -> dict[str, Place]:
    """Where the weights of parts are kept, or would be.

    Args:
        parts: Networks by name; they may have no weights yet.
        source: Where these are.

    Returns:
        By name. Parts of which none are kept are missing: those that are no file by
        themselves, or too small to be worth it.
    """
    found = {}
    if isinstance(source, load.Lenient):
        return found
    for part, network in parts.items():
        with contextlib.suppress(WeightsError, OSError):
            path = load.locate(source, [part])[part]
            if path.suffix == ".json":  # of several files
                continue
            kept = weights_kept.place(repr((part, _facts(path))), network.variables)
            if kept is not None:
                found[part] = Place(path, kept)
    return found


def take(network, place: Place) -> bool:
    """Gives a network the weights that were kept, if they were."""
    return weights_kept.take(place.kept, network.variables)


def keep(part: str, network, place: Place) -> None:
    """Keeps a part's weights, which were just read."""
    with contextlib.ExitStack() as stack, contextlib.suppress(WeightsError, OSError):
        file = stack.enter_context(open_tensors(place.source))
        form = _forms(part, network, file)
        weights_kept.keep(place.kept, network.variables, form)


def _facts(path: Path) -> tuple:
    """What tells a file from what was there before, without reading all of it."""
    path = path.resolve()
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        head = hashlib.sha256(file.read(_LOOKED_AT)).hexdigest()
    return str(path), found.st_size, found.st_mtime_ns, found.st_ino, head


def _forms(part: str, network, file: TensorFile) -> Callable | None:
    """Convolutions' kernels as the file has them: as OpenVINO wants them, but cast.

    To turn what was turned for Keras back would take five times as long. All have the
    same memory, one after the other: new pages take longer than what is written there.
    """
    if isinstance(file, HDF5File):
        return None
    keys = load.keys_of(part, network.config, file)
    sizes = [math.prod(each.shape) for each in network.variables if turns(each)]
    room = np.empty(max(sizes, default=0), "float32")

    def form(variable) -> np.ndarray | None:
        key = keys.get(names.canonical_name(variable.path, network.name))
        if key is None or not turns(variable):
            return None
        height, width, channels, filters = variable.shape
        values = room[: math.prod(variable.shape)]
        values = values.reshape(filters, channels, height, width)
        np.copyto(values, file.read(key).reshape(values.shape), "unsafe")
        return values

    return form
