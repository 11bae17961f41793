"""The collector of garbage while much is made. The rest: `test_parts.py`."""

import gc
import os
import subprocess
import sys

import keras
import ml_dtypes
import numpy as np
import pytest

from kerasdiffusion.compute import backend, memory


@pytest.fixture
def collector():
    """As it was, afterwards; nothing is frozen in between."""
    was_on = gc.isenabled()
    gc.unfreeze()
    yield
    gc.unfreeze()
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_as_it_was_after_a_pause(collector, is_on):
    (gc.enable if is_on else gc.disable)()
    with pytest.raises(ZeroDivisionError), memory.collector_paused():
        assert not gc.isenabled()
        with memory.collector_paused():
            pass
        assert not gc.isenabled()
        _ = 1 / 0
    assert gc.isenabled() == is_on


def test_it_pauses_while_a_program_is_traced(collector):
    gc.enable()
    states = []

    def function(x):
        states.append(gc.isenabled())
        return x + 1.0

    program = backend.Program(function, [])
    assert backend.to_numpy(program(np.ones(1, "float32"))) == 2.0
    assert set(states) == {False} and gc.isenabled()


def test_what_was_imported_is_old_and_not_looked_at(collector):
    gc.enable()

    def young_after(**options):
        with memory.collector_paused(**options):
            made = {id(each): each for each in ([n] for n in range(10_000))}
        young = [each for age in (0, 1) for each in gc.get_objects(generation=age)]
        return sum(id(each) in made for each in young)

    assert young_after() == 10_000
    assert young_after(importing=True) == 0
    assert gc.get_freeze_count() == 0  # garbage among it is found some day


def test_what_somebody_froze_stays_frozen(collector):
    gc.enable()
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        with memory.collector_paused(importing=True):
            pass
        assert gc.get_freeze_count() == before > 0
    finally:
        gc.unfreeze()


@pytest.mark.every_backend
@pytest.mark.parametrize("shape", [(3, 5), (7,), (3, 3, 2, 4)])
def test_a_variable_takes_over_an_array_and_keeps_others(shape):
    """TensorFlow copies arrays, in four times the time of adding two of them."""
    name = keras.backend.backend()
    variable = keras.Variable(np.zeros(shape, "float32"))
    random = np.random.default_rng(0)
    before = memory.keep(name, variable)
    values = random.normal(size=shape).astype("float32")
    memory.put(name, variable, values)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), values)
    taken = memory.room(name, shape)
    if name == "tensorflow":
        taken[...] = values + 1
        memory.put(name, variable, taken)
        found = memory.view(name, memory.keep(name, variable))
        assert found.ctypes.data == taken.ctypes.data
        np.testing.assert_array_equal(found, values + 1)
        kept = memory.keep(name, variable)
        del taken, found
        gc.collect()
        variable.assign_add(np.ones(shape, "float32"))  # what is kept stays
        np.testing.assert_array_equal(memory.view(name, kept), values + 1)
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(variable), values + 1 + 1
        )
    else:
        assert taken is None
    memory.put(name, variable, before)
    assert not keras.ops.convert_to_numpy(variable).any()


@pytest.mark.parametrize(
    "name",
    ["StableDiffusion", pytest.param("DiffusionModel", marks=pytest.mark.heavy)],
)
def test_it_pauses_whatever_brings_keras(name):
    """In a process of its own: how often all objects are gone through meanwhile."""
    code = f"""
import gc
full = []
def told(when, facts):
    full.append((when, facts["generation"]))
gc.callbacks.append(told)
import kerasdiffusion
kerasdiffusion.{name}
assert gc.isenabled()
print("times:", full.count(("start", 2)))
"""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert "times: 0" in found.stdout, found.stdout + found.stderr


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("wanted", ["float16", "bfloat16", "float32"])
def test_values_are_cast_and_reordered_alike_whichever_comes_first(stored, wanted):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow does it by itself")
    values = np.random.default_rng(0).normal(size=(64, 64, 2, 2)).astype(_dtype(stored))
    axes = (2, 3, 1, 0)
    found = memory.laid_out("tensorflow", values, axes, _dtype(wanted))
    expected = values.transpose(axes).astype(_dtype(wanted))
    assert found is not None
    np.testing.assert_array_equal(
        np.asarray(found, "float32"), expected.astype("float32")
    )


@pytest.mark.parametrize("writeable", [True, False])
def test_values_are_laid_out_of_an_array_s_own_memory(writeable):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow does it by itself")
    values = memory.room("tensorflow", (128, 129))
    values[:] = np.random.default_rng(0).normal(size=values.shape)
    values.flags.writeable = writeable  # the memory of a file that is mapped is not
    found = memory.laid_out("tensorflow", values, (1, 0), np.dtype("float16"))
    np.testing.assert_array_equal(found, values.T.astype("float16"))


def test_small_arrays_are_left_to_numpy():
    values = np.zeros((3, 3), "float16")
    assert memory.laid_out("tensorflow", values, (1, 0), np.dtype("float32")) is None


def _dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))
