"""Runs the tests that are marked `every_backend` on another backend."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

only_from_tensorflow = [
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="this is already another backend",
    ),
    pytest.mark.timeout(3600),
]


def run_every_backend(backend: str, at_length: bool, **environment: str) -> None:
    """The marked tests in a process of their own; its output where one fails."""
    marked = "every_backend and not full_size and not heavy"
    if at_length:
        marked = "(every_backend or every_backend_at_length) and not full_size"
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    tests = Path(__file__).parents[1]
    # What is not marked need not be imported.
    files = [
        path
        for path in sorted(tests.rglob("test_*.py"))
        if "every_backend" in path.read_text("utf-8")
    ]
    child = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *map(str, files), "-q", "-x", "-n", "0"),
            *("-m", marked, "-p", "no:cacheprovider"),
        ],
        env={**os.environ, "KERAS_BACKEND": backend, **environment},
        cwd=tests.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ran = re.search(r"(\d+) passed", child.stdout)
    assert child.returncode == 0 and ran and int(ran[1]) > 100, child.stdout
