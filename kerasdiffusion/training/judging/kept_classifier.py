"""The judge's classifier, kept as weights alone: nothing in its file is ever run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion.compute import backend
from kerasdiffusion.datasets import SceneConfig
from kerasdiffusion.storage.places import make_private, user_caches
from kerasdiffusion.storage.whole import write_whole
from kerasdiffusion.training.judging.judge import build_classifier, class_names
from kerasdiffusion.weights.base import WeightsError
from kerasdiffusion.weights.files import open_tensors

ENDING = ".safetensors"


def usual_place(scenes: SceneConfig, image_size: int) -> Path | None:
    """Where the classifier of some scenes is kept: in the user's cache.

    Args:
        scenes: What it tells apart.
        image_size: Pixels on a side of what it judges.

    Returns:
        The file, whose folder is made; `None` where the user has no cache of their own.
    """
    caches = user_caches()
    if caches is None:
        return None
    known = json.dumps([dataclasses.asdict(scenes), image_size], sort_keys=True)
    name = hashlib.sha256(known.encode()).hexdigest()[:16] + ENDING
    folder = caches / "kerasdiffusion" / "classifiers"
    return folder / name if make_private(folder) else None


def check_place(path: Path) -> Path:
    """Refuses a file of another ending, which would hold more than weights.

    Args:
        path: Where a classifier is, or shall be.

    Raises:
        ValueError: If it does not end in `.safetensors`.
    """
    if path.suffix.lower() != ENDING:
        raise ValueError(
            f"A classifier is kept as weights alone, in a file that ends in {ENDING}; "
            f"of a .keras file of an earlier version it is trained anew. "
            f"Received: {path}"
        )
    return path


def save_classifier(classifier: keras.Model, path: Path) -> None:
    """Writes the weights, in place of those that are there.

    Args:
        classifier: From `judge.train_classifier`.
        path: A `.safetensors` file, whose folder exists.
    """
    from safetensors.numpy import save

    tensors = {
        f"{place:03d}": np.ascontiguousarray(backend.to_numpy(variable))
        for place, variable in enumerate(classifier.weights)
    }
    write_whole(check_place(path), save(tensors), overwrite=True)


def read_classifier(path: Path, scenes: SceneConfig) -> keras.Model:
    """A classifier with the weights of a file.

    Args:
        path: A file that `save_classifier` wrote.
        scenes: What it tells apart.

    Raises:
        WeightsError: If its weights are not those of such a classifier.
    """
    classes = len(class_names(scenes))
    with open_tensors(check_place(path)) as file:
        names = sorted(file.keys())
        # Its width is that of the first layer's channels.
        widths = [file.shape(name)[-1] for name in names[:1] if file.shape(name)]
        width = widths[0] if widths else 0
        if not 0 < width <= 1024:
            raise _another(path, classes)
        classifier = build_classifier(classes, width)
        shapes = [tuple(variable.shape) for variable in classifier.weights]
        if shapes != [file.shape(name) for name in names]:
            raise _another(path, classes)
        values = [np.asarray(file.read(name), "float32") for name in names]
        if not all(np.isfinite(value).all() for value in values):
            raise _another(path, classes)
        for variable, value in zip(classifier.weights, values, strict=True):
            variable.assign(value)
    return classifier


def _another(path: Path, classes: int) -> WeightsError:
    return WeightsError(
        f"A kept classifier must have finite weights for the {classes} objects of "
        f"these scenes; without the file it is trained anew. Received: {path}"
    )
