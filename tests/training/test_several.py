"""Several devices and hosts teach what one does: the same losses."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the children choose their backends", allow_module_level=True)


def begin(*arguments, **variables):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.several_devices", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
        cwd=Path(__file__).parents[2],
    )


def end(child):
    output, errors = child.communicate()
    assert child.returncode == 0, errors[-3000:]
    return output.strip().splitlines()[-1]


@pytest.mark.heavy
def test_replicas_of_a_mirrored_strategy():
    assert end(begin("mirrored", KERAS_BACKEND="tensorflow")) == "the same"


def on_jax(devices):
    pytest.importorskip("jax")
    flag = f"--xla_force_host_platform_device_count={devices}"
    sooner = "--xla_backend_optimization_level=0"
    return {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{flag} {sooner}",
    }


@pytest.mark.heavy
def test_eight_devices_of_jax():
    assert end(begin("devices", **on_jax(8))) == "the same"


@pytest.mark.heavy
def test_two_processes_of_jax():
    """Each has its half of the batch; both say what one device with eight says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    children = [begin("hosts", f"{i}", address, **on_jax(1)) for i in range(2)]
    first, second = (np.array(end(each).split(), float) for each in children)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert first[0] != first[1]
