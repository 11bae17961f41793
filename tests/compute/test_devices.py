"""Several devices: spread batches and weights, and the same pictures."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from kerasdiffusion.compute.devices import devices, placing, sharded_weights


@pytest.mark.parametrize(
    "more", [(), pytest.param(("batches",), marks=pytest.mark.heavy)]
)
def test_batches_and_weights_are_spread_and_the_pictures_stay(more):
    """On JAX, in a process of its own: how many devices there are is said at start."""
    pytest.importorskip("jax")
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 "
        "--xla_backend_optimization_level=0",  # compiled sooner
    }
    child = subprocess.run(
        [sys.executable, "-m", "tests.compute.several_devices", *more],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout.strip() == "the same", child.stderr


@pytest.mark.every_backend
def test_one_device_has_the_whole_batch():
    assert devices([keras.Variable([1.0])]) == 1
    with placing()():
        assert keras.Variable([1.0]).shape == (1,)


def test_weights_are_shared_on_jax_only():
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match="must divide .*, 1. Received: 3"):
            sharded_weights(3)
        return
    with pytest.raises(RuntimeError, match="on JAX only .* Received: "):
        sharded_weights()
