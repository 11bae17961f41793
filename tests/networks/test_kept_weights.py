"""Weights by way of OpenVINO, which the next process need not read."""

import gc
import os
import threading

import keras
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.compute import compile_cache, weights_on_disk
from kerasdiffusion.networks import kept_weights
from kerasdiffusion.weights import load
from tests.tiny import tiny_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's"
)
HOW = {"num_steps": 1, "seed": 3, "progress_bar": False}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model's, beside which weights are kept."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    monkeypatch.setattr(weights_on_disk, "LEAST", 0)
    monkeypatch.setattr(weights_on_disk, "LEAST_OF_ONE", 1024)
    monkeypatch.setattr(weights_on_disk, "is_memory", lambda _: False)
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(compile_cache, "keep_programs", lambda _: kept)
    tiny_model(seed=3).save_preset(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def read(monkeypatch):
    """The parts that are read from a model's files."""
    found, whole = [], load.load_weights

    def seen(parts, *args, **keywords):
        found.extend(parts)
        return whole(parts, *args, **keywords)

    monkeypatch.setattr(load, "load_weights", seen)
    return found


def painted(folder, **options):
    gc.collect()  # nothing is left of another model
    options = {"jit_compile": "openvino", "precision": "float32", **options}
    model = StableDiffusion.from_preset(str(folder), **options)
    picture = model.text_to_image("two cats", **HOW)
    model.build()
    for thread in threading.enumerate():
        if thread.name == "weights":
            thread.join()
    return picture, [each.tobytes() for each in model.get_weights()]


@pytest.mark.heavy
def test_a_second_model_takes_them_and_paints_the_same(folder, read):
    first, weights = painted(folder)
    assert len(set(read)) == 4
    read.clear()
    second, again = painted(folder)
    assert not read and weights == again
    assert (first == second).all()
    unet = next((folder / "unet").glob("*.safetensors"))
    os.utime(unet, (1, 1))  # it may be another one
    third, again = painted(folder)
    assert read == ["diffusion_model"] and weights == again
    assert (first == third).all()


@pytest.mark.heavy
def test_other_paths_keep_none(folder, read):
    for options in ({"jit_compile": False}, {"precision": "bfloat16"}):
        painted(folder, **options)
        assert set(read) >= {"diffusion_model"}
        assert not list((folder.parent / "kept").glob("*.weights"))


def test_what_left_tensors_out_is_read_again(folder):
    """For its warning would be missing."""
    network = tiny_model().decoder
    assert kept_weights.places({"decoder": network}, str(folder))
    assert not kept_weights.places({"decoder": network}, load.Lenient(str(folder)))
