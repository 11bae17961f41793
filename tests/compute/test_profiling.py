from importlib.util import find_spec

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import backend, profiling

KINDS = {"tensorflow": "MatMul", "jax": "dot", "torch": "aten::"}


@pytest.mark.skipif(
    keras.backend.backend() == "jax" and find_spec("libtpu") is not None,
    reason="the profiler of a libtpu that does not fit crashes the process",
)
def test_operations():
    """The product of two matrices is what such a program does."""
    x = np.ones((300, 300), "float32")
    program = backend.Program(lambda x: x @ x, [])
    backend.to_numpy(program(x))
    found = profiling.profile(lambda: backend.to_numpy(program(x)))
    kinds = [kind for kind in found if KINDS[keras.backend.backend()] in kind]
    assert kinds, found
    seconds, count = found[kinds[0]]
    assert 0 < seconds < 10 and count >= 1
    costs = [seconds for seconds, _ in found.values()]
    assert costs == sorted(costs, reverse=True)


def test_names_of_xla_lose_their_numbers():
    named = profiling._named(
        [("fusion.12", 1.0), ("dot.3.remat", 2.0), ("Thunk::x", 1)]
    )
    assert [kind for kind, *_ in named] == ["fusion", "dot.remat"]
