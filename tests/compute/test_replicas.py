"""TensorFlow's `tf.distribute`: the same pictures, each replica its part."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow's strategies", allow_module_level=True)


def test_replicas_paint_the_same_together():
    done = subprocess.run(
        [sys.executable, "-m", "tests.compute.several_replicas"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["plain the same", "XLA the same"]
