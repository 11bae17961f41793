"""Runs the tests that are marked `every_backend` on another backend."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
only_from_tensorflow = [
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="this is already another backend",
    ),
    pytest.mark.timeout(3600),
]


def run_every_backend(backend: str, at_length: bool, **environment: str) -> None:
    """The marked tests in a process of their own; its output where one fails."""
    marked, named = "every_backend and not full_size and not heavy", r"every_backend\b"
    if at_length:
        marked = "(every_backend or every_backend_at_length) and not full_size"
        named = r"every_backend(_at_length)?\b"
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    tests = HERE.parent
    # What is not marked need not be imported.
    files = [
        path
        for path in sorted(tests.rglob("test_*.py"))
        if re.search(named, path.read_text("utf-8")) and path.parent != HERE
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
