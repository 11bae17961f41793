"""Weights that lie in a file: what they are, where they are, and what memory has."""

import gc
import os
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import memory, openvino_models, openvino_programs
from kerasdiffusion.compute import weights_on_disk as on_disk
from tests.adapters import files
from tests.tiny import tiny_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow" or not Path("/proc/self/smaps").is_file(),
    reason="TensorFlow's on Linux",
)
KERNEL, X = (3, 3, 32, 64), np.random.default_rng(0).random((1, 8, 8, 32), "float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "LEAST", 0)
    monkeypatch.setattr(on_disk, "_files", weakref.WeakSet())
    monkeypatch.setattr(on_disk, "_folders", lambda: iter([tmp_path]))
    return tmp_path


class Network(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="network")
        self.conv = keras.layers.Conv2D(64, 3, padding="same", name="conv")
        self.dense = keras.layers.Dense(512, name="dense")

    def call(self, x):
        return self.dense(self.conv(x))


@pytest.fixture
def network():
    made = Network()
    made(X)
    random = np.random.default_rng(0)
    for variable in made.variables:
        variable.assign(random.standard_normal(variable.shape))
    return made


def moved(network):
    how = openvino_models.turns, openvino_models.laid_out
    return on_disk.moved(network.variables, *how)


def resident(folder):
    """Kilobytes of a folder's files that memory has."""
    maps, inside, found = Path("/proc/self/smaps").read_text().splitlines(), False, 0
    for line in maps:
        first, *rest = line.split()
        if "-" in first:  # a map's own line
            inside = str(folder) in line
        elif first == "Rss:" and inside:
            found += int(rest[0])
    return found


def test_large_values_lie_in_a_file_of_no_name_in_two_forms(network, folder):
    before = [ops.convert_to_numpy(each).copy() for each in network.variables]
    forms = moved(network)
    for form, variable, value in zip(forms, network.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
        if value.ndim == 1:
            assert form is None
        else:
            axes = (3, 2, 0, 1) if value.ndim == 4 else (0, 1)
            np.testing.assert_array_equal(form, np.transpose(value, axes))
    assert not list(folder.iterdir()) and len(on_disk._files) == 1
    with on_disk.given_back():
        pass
    assert resident(folder) == 0
    np.testing.assert_array_equal(ops.convert_to_numpy(network.conv.kernel), before[0])
    assert resident(folder) > 0
    del forms, form, variable
    for variable, value in zip(network.variables, before, strict=True):
        variable.assign(value)
    del variable
    gc.collect()
    assert len(on_disk._files) == 0  # and so the disk's room is free again


def test_what_is_there_already_is_not_written_again(network, folder):
    first = moved(network)
    kept = memory.keep("tensorflow", network.conv.kernel)
    whole = ops.convert_to_numpy(network.conv.kernel).copy()
    network.conv.kernel.assign(np.ones(KERNEL))  # as an adapter does, and undoes
    memory.put("tensorflow", network.conv.kernel, kept)
    second = moved(network)
    assert len(on_disk._files) == 1
    for old, new in zip(first, second, strict=True):
        assert (old is None) == (new is None)
        assert new is None or new.ctypes.data == old.ctypes.data
    np.testing.assert_array_equal(ops.convert_to_numpy(network.conv.kernel), whole)


def test_programs_do_not_look_at_them(network, folder):
    """OpenVINO has its own by then: what it was given stays on the disk."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    compiled = openvino_programs.Compiled(network, [network])
    x = ops.convert_to_tensor(X)
    for change in (None, "assign", "assign_add", "fit"):
        if change == "fit":
            network.trainable = True
            model = keras.Sequential([keras.Input(X.shape[1:]), network])
            model.compile("sgd", "mse", jit_compile=False)
            model.fit(X, np.zeros((1, 8, 8, 512)), verbose=0)
        elif change is not None:
            ones = ops.ones(KERNEL)
            getattr(network.conv.kernel.value, change)(0.1 * ones)
        before = compiled.compiled
        expected = ops.convert_to_numpy(network(x))
        for _ in range(2):
            found = ops.convert_to_numpy(compiled(x))
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-3)
            assert resident(folder) == 0
        assert compiled.compiled == before + 1


def test_they_are_saved_and_counted_as_before(network, folder, tmp_path):
    model = keras.Sequential([keras.Input(X.shape[1:]), network])
    expected = [value.copy() for value in model.get_weights()]
    moved(network)
    with on_disk.given_back():
        pass
    path = tmp_path / "kept.weights.h5"
    model.save_weights(path)
    for variable in network.variables:
        variable.assign(np.zeros(variable.shape))
    model.load_weights(path)
    for found, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, value)


def test_few_weights_stay_in_memory(network, folder, monkeypatch, capsys):
    monkeypatch.setattr(on_disk, "LEAST", 2**28)
    assert set(map(type, moved(network))) == {type(None)}
    assert not capsys.readouterr().err and not on_disk._files


@pytest.mark.parametrize("why", ["full", "refused", "no folder", "breaks off"])
def test_without_room_they_stay_in_memory_and_that_is_said(
    network, folder, monkeypatch, capsys, why
):
    def refuse(*_):
        raise OSError(28, os.strerror(28))

    if why == "full":
        free = SimpleNamespace(free=on_disk.SPARE + 1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    elif why == "refused":
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    elif why == "no folder":
        monkeypatch.setattr(on_disk, "_folders", lambda: iter([folder / "none"]))
    else:
        monkeypatch.setattr(os, "pwrite", refuse)
    before = [ops.convert_to_numpy(each).copy() for each in network.variables]
    assert set(map(type, moved(network))) == {type(None)}
    told = "No space left" if why == "breaks off" else f"Looked in: {folder}"
    assert told in capsys.readouterr().err
    assert not list(folder.iterdir()) and not on_disk._files
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_no_folder_that_is_memory_is_written_to(tmp_path, monkeypatch):
    mounts, device = tmp_path / "mountinfo", os.stat(tmp_path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    monkeypatch.setattr(on_disk, "MOUNTS", mounts)
    for kind, is_memory in (("ext4", False), ("tmpfs", True), ("overlay", False)):
        mounts.write_text(
            "22 1 0:999 / /run rw - tmpfs tmpfs rw\n"
            f"23 1 {number} / / rw,relatime shared:1 - {kind} /dev/x rw\n"
        )
        assert on_disk.is_memory(tmp_path) == is_memory
    assert on_disk.is_memory(tmp_path / "none")


@pytest.mark.heavy
def test_a_model_paints_the_same_and_adapters_come_off_to_the_bit(
    folder, monkeypatch, tmp_path_factory
):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    how = {"prompt": "two cats", "num_steps": 2, "seed": 3, "progress_bar": False}
    path = files.save(tmp_path_factory.mktemp("adapters"), "detail", files.kohya())
    seen = []
    for least in (2**28, 0):
        monkeypatch.setattr(on_disk, "LEAST", least)
        monkeypatch.setattr(on_disk, "LEAST_OF_ONE", 1024)
        model = tiny_model(jit_compile="openvino")
        weights = [each.tobytes() for each in model.diffusion_model.get_weights()]
        painted = [model.text_to_image(**how)]
        model.load_adapter(path)
        painted.append(model.text_to_image(**how))
        model.remove_adapter()
        painted.append(model.text_to_image(**how))
        again = [each.tobytes() for each in model.diffusion_model.get_weights()]
        assert again == weights
        assert bool(on_disk._files) == (least == 0)
        seen.append(painted)
    for before, after in zip(*seen, strict=True):
        np.testing.assert_array_equal(before, after)
    assert (seen[0][0] == seen[0][2]).all() and (seen[0][0] != seen[0][1]).any()
