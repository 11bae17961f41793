"""TensorFlow's `tf.distribute`: the same pictures, each replica its part."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow's strategies", allow_module_level=True)


@pytest.mark.parametrize(
    "names", [("plain",), pytest.param(("plain", "XLA"), marks=pytest.mark.heavy)]
)
def test_replicas_paint_the_same_together(names):
    done = subprocess.run(
        [sys.executable, "-m", "tests.compute.several_replicas", *names],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "a layer by XLA the same",
        *(f"{name} the same" for name in names),
    ]
