"""TensorFlow's `tf.distribute`: the same pictures, each replica its part."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow's strategies", allow_module_level=True)


@pytest.mark.parametrize("compiled", ["plain", "XLA"])
def test_replicas_paint_the_same_together(compiled):
    done = subprocess.run(
        [sys.executable, "-m", "tests.compute.several_replicas", compiled],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("the same")
