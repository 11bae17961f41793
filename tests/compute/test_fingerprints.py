"""Texts that tell code and layers apart."""

import gc
import subprocess
import sys
import types

import keras
import numpy as np

from kerasdiffusion import StableDiffusion
from kerasdiffusion.compute import operations
from kerasdiffusion.compute.fingerprints import loaded_code, settings


def make_dense(kernel=1.0, **options):
    """As another process would: nothing is shared but the numbers."""
    dense = keras.layers.Dense(2, **options)
    dense.build((None, 3))
    dense.kernel.assign(np.full((3, 2), kernel))
    return dense


def test_code_and_constants_that_were_exchanged_are_others(monkeypatch):
    assert StableDiffusion is not None  # all of it is loaded
    before = list(loaded_code())
    assert len(before) > 500 and list(loaded_code()) == before
    with monkeypatch.context() as patch:
        patch.setattr(operations, "MAX_SCORES", 5)
        assert list(loaded_code()) != before
    with monkeypatch.context() as patch:
        patch.setattr(operations, "gelu", lambda x: x)
        assert list(loaded_code()) != before
    assert list(loaded_code()) == before


def test_other_threads_may_import_meanwhile():
    """The collector stands for them: it comes in between, wherever Python allows it."""
    names, thresholds = [], gc.get_threshold()

    def imported(*_):
        if len(names) < 200:
            names.append(f"imported_{len(names)}")
            sys.modules[names[-1]] = types.ModuleType(names[-1])

    gc.callbacks.append(imported)
    gc.set_threshold(1, 10**6, 10**6)
    try:
        found = list(loaded_code())
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(imported)
        for name in names:
            del sys.modules[name]
    assert len(names) == 200 and found == list(loaded_code())


def test_what_is_imported_so_far_makes_no_difference():
    """Else a program's key would depend on how far other threads are."""
    code = (
        "from kerasdiffusion.compute.fingerprints import loaded_code\n"
        "before = list(loaded_code())\n"
        "from kerasdiffusion import StableDiffusion\n"
        "print(len(before), list(loaded_code()) == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    count, same = done.stdout.split()
    assert int(count) > 500 and same == "True"


def test_settings_are_the_layers_own():
    dense = make_dense()
    before = list(settings([dense]))
    assert list(settings([make_dense(2.0)])) == before
    dense(np.ones((4, 3), "float32"))  # as another signature's trace would
    assert list(settings([dense])) == before
    dense.use_bias = False
    assert list(settings([dense])) != before
