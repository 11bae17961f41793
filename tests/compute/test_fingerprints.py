"""Texts that tell code and layers apart."""

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


def test_settings_are_the_layers_own():
    dense = make_dense()
    before = list(settings([dense]))
    assert list(settings([make_dense(2.0)])) == before
    dense(np.ones((4, 3), "float32"))  # as another signature's trace would
    assert list(settings([dense])) == before
    dense.use_bias = False
    assert list(settings([dense])) != before
