"""A classifier is read as weights, whatever lies in the working folder."""

import os

import keras
import numpy as np
import pytest

from kerasdiffusion.datasets import SceneConfig
from kerasdiffusion.training.judging.judge import build_classifier
from kerasdiffusion.training.judging.kept_classifier import (
    check_place,
    read_classifier,
    save_classifier,
    usual_place,
)
from kerasdiffusion.weights.base import WeightsError

SCENES = SceneConfig(objects=("red apple", "dog face"), shapes=("circle",))


def test_what_was_kept_says_the_same(tmp_path):
    path = tmp_path / "a.safetensors"
    classifier = build_classifier(3, width=8)
    save_classifier(classifier, path)
    again = read_classifier(path, SCENES)
    windows = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(
        again.predict(windows, verbose=0), classifier.predict(windows, verbose=0)
    )
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("damage", ["classes", "NaN", "cut", "scalar"])
def test_another_is_refused(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    classifier = build_classifier(4 if damage == "classes" else 3, width=8)
    if damage == "NaN":
        classifier.weights[0].assign(np.nan * np.array(classifier.weights[0]))
    save_classifier(classifier, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    if damage == "scalar":
        from safetensors.numpy import save_file

        save_file({"000": np.array(1.0, "float32")}, path)
    with pytest.raises(WeightsError, match="Received: .*a.safetensors"):
        read_classifier(path, SCENES)


def test_a_file_that_could_hold_code_is_not_opened(tmp_path):
    path = tmp_path / "classifier-emoji.keras"
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(ValueError, match="weights alone.*trained anew. Received"):
        read_classifier(path, SCENES)
    with pytest.raises(ValueError, match="weights alone"):
        check_place(path)


def test_it_is_kept_in_the_users_cache_by_its_scenes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = usual_place(SCENES, 64)
    assert place.is_relative_to(tmp_path) and place.parent.is_dir()
    assert usual_place(SCENES, 128) != place
    place.parent.chmod(0o777)
    assert usual_place(SCENES, 64) is None
