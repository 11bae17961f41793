"""The tests that are marked `every_backend`, again on the other backends."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytestmark = [
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="this is already another backend",
    ),
    pytest.mark.timeout(3600),
]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    tests = Path(__file__).parent
    child = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", str(tests), "-q", "-x"),
            *("-m", "every_backend and not full_size", "-p", "no:cacheprovider"),
        ],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=tests.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ran = re.search(r"(\d+) passed", child.stdout)
    assert child.returncode == 0 and ran and int(ran[1]) > 100, child.stdout
