"""Weights that the next process maps: the same values, and a file that stays whole."""

import gc
import shutil
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import compile_cache, openvino_models, weights_kept
from kerasdiffusion.compute import weights_on_disk as on_disk

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow" or not Path("/proc/self/smaps").is_file(),
    reason="TensorFlow's on Linux",
)
X = np.random.default_rng(0).random((1, 8, 8, 32), "float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "LEAST", 0)
    monkeypatch.setattr(on_disk, "_files", weakref.WeakSet())
    monkeypatch.setattr(on_disk, "is_memory", lambda _: False)
    monkeypatch.setattr(compile_cache, "keep_programs", lambda _: tmp_path)
    return tmp_path


class Network(keras.layers.Layer):
    def __init__(self, units=512):
        super().__init__(name="network")
        self.conv = keras.layers.Conv2D(64, 3, padding="same", name="conv")
        self.dense = keras.layers.Dense(units, name="dense")

    def call(self, x):
        return self.dense(self.conv(x))


def network(seed=0, **options):
    """As another process would make it: nothing is shared but the numbers."""
    made = Network(**options)
    made(X)
    random = np.random.default_rng(seed)
    for variable in made.variables:
        variable.assign(random.standard_normal(variable.shape))
    return made


def kept(made, facts="a file"):
    """Keeps the weights, and returns when they have their name."""
    path = weights_kept.place(facts, made.variables)
    assert weights_kept.keep(path, made.variables)
    for thread in threading.enumerate():
        if thread.name == "weights":
            thread.join()
    return path


def values(made):
    return [ops.convert_to_numpy(each).copy() for each in made.variables]


def forms(made):
    how = openvino_models.turns, openvino_models.laid_out
    return on_disk.moved(made.variables, *how)


def same(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_next_process_maps_them_in_both_forms(folder):
    first, second = network(0), network(1)
    expected = values(first)
    path = kept(first)
    assert list(folder.iterdir()) == [path]
    assert weights_kept.place("a file", second.variables) == path
    assert weights_kept.take(path, second.variables)
    for made in (first, second):
        same(values(made), expected)
        files = len(on_disk._files)
        kernel, bias, *_ = forms(made)
        assert len(on_disk._files) == files and bias is None  # nothing is written
        np.testing.assert_array_equal(kernel, expected[0].transpose(3, 2, 0, 1))


def test_a_form_that_is_known_is_not_made(folder):
    made, path = network(), "a file"
    path = weights_kept.place(path, made.variables)
    own = np.ones((64, 32, 3, 3), "float32")
    weights_kept.keep(
        path, made.variables, lambda each: own if each.ndim == 4 else None
    )
    np.testing.assert_array_equal(forms(made)[0], own)


@pytest.mark.parametrize("change", ["assign", "assign_add", "fit"])
def test_what_is_changed_stays_changed_and_the_file_as_it_is(folder, change):
    path = kept(network(0))
    whole, made = path.read_bytes(), network(1)
    assert weights_kept.take(path, made.variables)
    if change == "fit":
        model = keras.Sequential([keras.Input(X.shape[1:]), made])
        model.compile("sgd", "mse", jit_compile=False)
        model.fit(X, np.zeros((1, 8, 8, 512)), verbose=0)
    else:
        for variable in made.variables:
            getattr(variable.value, change)(0.5 * ops.ones(variable.shape))
    expected = values(made)
    assert (expected[0] != values(network(0))[0]).any()
    with on_disk.given_back():
        pass
    same(values(made), expected)
    assert path.read_bytes() == whole


def test_of_other_files_and_networks_there_are_others(folder):
    names = {
        weights_kept.place(facts, network(units=units).variables)
        for facts, units in (("a", 512), ("b", 512), ("a", 513))
    }
    assert len(names) == 3


def test_what_is_not_whole_is_not_taken(folder):
    path = kept(network(0))
    made = network(1)
    path.write_bytes(path.read_bytes()[:-1])
    assert not weights_kept.take(path, made.variables)
    same(values(made), values(network(1)))
    path.unlink()
    assert not weights_kept.take(path, made.variables)


def test_those_that_were_not_used_for_longest_give_way(folder, monkeypatch):
    size = kept(network(), "a").stat().st_size
    monkeypatch.setattr(weights_kept, "MOST", 2.5 * size)
    for facts in ("a", "b", "c"):
        kept(network(), facts)
    left = {weights_kept.place(each, network().variables) for each in ("b", "c")}
    assert set(folder.iterdir()) == left


def test_without_much_room_they_stay_where_they_are(folder, monkeypatch):
    made, path = network(), "a file"
    path = weights_kept.place(path, made.variables)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**18))
    assert not weights_kept.keep(path, made.variables)
    same(values(made), values(network()))
    assert not list(folder.iterdir()) and not on_disk._files


def test_few_weights_are_not_kept_and_none_where_that_is_off(folder, monkeypatch):
    monkeypatch.setattr(on_disk, "LEAST", 2**28)
    assert weights_kept.place("a file", network().variables) is None
    monkeypatch.setattr(on_disk, "LEAST", 0)
    monkeypatch.setattr(compile_cache, "keep_programs", lambda _: None)
    assert weights_kept.place("a file", network().variables) is None


def test_nothing_is_held_of_a_network_that_is_gone(folder):
    gc.collect()
    before = len(weights_kept._held)
    made = network()
    kept(made)
    assert len(weights_kept._held) == before + 2
    del made
    gc.collect()
    assert len(weights_kept._held) == before and not on_disk._files
