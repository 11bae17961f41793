"""A tiny model behind KerasCV's names, saved once."""

import keras
import pytest

from kerasdiffusion import keras_cv
from kerasdiffusion.keras_cv import sources
from tests.tiny import tiny_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny model's folder."""
    path = tmp_path_factory.mktemp("keras_cv") / "model"
    tiny_model().save_preset(path)
    return path


@pytest.fixture(autouse=True)
def behind(folder, monkeypatch):
    """The tiny model stands behind the names, for one test."""
    monkeypatch.setattr(sources, "_PRESETS", {1: folder, 2: folder})
    keras.mixed_precision.set_global_policy("float32")
    return keras_cv
