"""`kerasdiffusion teach` by two processes: what one teaches, they teach together."""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from kerasdiffusion.apps.cli import main

TOGETHER = pytest.mark.parametrize(
    "flags",
    [
        ("--processes", "2"),
        ("--process", "1", "--coordinator", "127.0.0.1:1"),
        ("--processes", "two", "--process", "0", "--coordinator", "127.0.0.1:1"),
    ],
)


@TOGETHER
def test_processes_that_are_not_told_of_each_other(tmp_path, capsys, flags):
    assert main(["teach", str(tmp_path), "--out", "a.safetensors", *flags]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Several processes must be told of each other" in line


def teach(folder, out, *flags):
    command = "-m", "kerasdiffusion", "teach", "cats", "--out", out, "--backend", "jax"
    lesson = "--instance-prompt", "two cats", "--resolution", "32", "--steps", "4"
    how = "--batch-size", "2", "--rank", "2", "--save-every", "2", "--flip"
    flag = "--xla_backend_optimization_level=0"
    return subprocess.Popen(
        [sys.executable, *command, *lesson, *how, *flags],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flag,
        },
    )


def end(child):
    out, errors = child.communicate()
    assert child.returncode == 0, errors[-3000:]
    return out


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_two_processes_teach_what_one_teaches(tmp_path):
    """The same losses, and the same file but for rounding."""
    pytest.importorskip("jax")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the children choose their backends")
    (tmp_path / "cats").mkdir()
    for i, shape in enumerate(((40, 40), (40, 64), (48, 48))):
        pixels = np.random.default_rng(i).integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"cats/{i}.png")
    end(teach(tmp_path, "one.safetensors"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = "--processes", "2", "--coordinator", address, "--process"
    children = [teach(tmp_path, "two.safetensors", *together, f"{i}") for i in range(2)]
    first, second = map(end, children)
    assert "Wrote two.safetensors" in first and "two.safetensors" not in second
    logs = [
        list(csv.DictReader(open(tmp_path / f"{name}-run/log.csv")))
        for name in ("one", "two")
    ]
    losses = [[float(row["loss"]) for row in rows] for rows in logs]
    assert len(losses[1]) == 4
    np.testing.assert_allclose(*losses, rtol=1e-4)
    one, two = (load_file(tmp_path / f"{n}.safetensors") for n in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=2e-4, err_msg=name)
