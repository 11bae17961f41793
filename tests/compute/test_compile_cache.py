"""Programs that the next process finds compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasdiffusion.compute import compile_cache

SWITCH = compile_cache.SWITCH
keep_programs = compile_cache.keep_programs.__wrapped__
ROOT = Path(__file__).parents[2]
# A program that takes a while, and how often the backend found one in its cache.
PROGRAM = """
import keras, numpy as np
from keras import ops
from kerasdiffusion.compute import backend, compile_cache
kept = compile_cache.keep_programs(keras.backend.backend())
found = []
if keras.backend.backend() == "jax":
    import jax
    count = lambda event, **_: found.append(event) if "cache_hits" in event else None
    jax.monitoring.register_event_listener(count)
dense = keras.layers.Dense(4, kernel_initializer="ones")
dense.build((None, 3))
program = backend.Program(lambda x: ops.tanh(dense(x)), [dense], jit_compile=True)
print(backend.to_numpy(program(np.ones((2, 3), "float32"))).sum(), kept, len(found))
"""


@pytest.fixture(autouse=True)
def a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, str(tmp_path / "kept"))
    for name in ("TF_XLA_FLAGS", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


def run(name, **environment):
    """What `PROGRAM` prints in a process of its own: its result, folder and hits."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ
        | {"KERAS_BACKEND": name, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        | environment,
        check=True,
    )
    result, kept, found = done.stdout.split()
    return float(result), kept, int(found)


def is_found_again(name):
    """What two processes give, and the folder that the second left as it was."""
    pytest.importorskip(name)
    first, kept, found = run(name)
    assert kept == str(compile_cache.folder(name)) and found == 0
    files = {path: path.stat().st_mtime_ns for path in Path(kept).iterdir()}
    assert files and sum(path.stat().st_size for path in files) > 500
    second, _, found = run(name)
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in Path(kept).iterdir()} == files
    assert found > 0 or name == "tensorflow"
    return first, Path(kept)


def test_the_next_process_finds_the_program():
    is_found_again("jax")


def broken(kept):
    """TensorFlow's one program, which is whole no more, and its size before."""
    (program,) = kept.glob("*.pb")
    whole = program.read_bytes()
    assert compile_cache._is_whole(program)
    program.write_bytes(whole[: len(whole) // 2])
    assert not compile_cache._is_whole(program)
    return program, len(whole)


@pytest.mark.heavy  # of TensorFlow without XLA: `test_kept_traces`
def test_a_broken_program_is_compiled_again():
    first, kept = is_found_again("tensorflow")
    program, size = broken(kept)
    assert run("tensorflow")[0] == first
    assert len(program.read_bytes()) == size


@pytest.mark.parametrize("off", ["off", "0", "False"])
def test_the_switch(off, monkeypatch):
    monkeypatch.setenv(SWITCH, off)
    assert keep_programs("tensorflow") is None
    assert "TF_XLA_FLAGS" not in os.environ


def test_a_folder_is_of_a_version_and_a_processor(tmp_path, monkeypatch):
    before = compile_cache.folder("tensorflow")
    assert before.parent == tmp_path / "kept"
    monkeypatch.setattr(compile_cache.importlib.metadata, "version", lambda _: "99")
    other = compile_cache.folder("tensorflow")
    assert other.name.startswith("tensorflow-99-") and other != before
    monkeypatch.setattr(compile_cache.platform, "machine", lambda: "riscv128")
    assert compile_cache.folder("tensorflow") != other
    monkeypatch.delenv(SWITCH)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compile_cache.folder("jax").parent == tmp_path / "kerasdiffusion/compiled"


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/mine")
    own = "--tf_xla_persistent_cache_directory=/mine"
    monkeypatch.setenv("TF_XLA_FLAGS", own)
    assert keep_programs("torch") is None
    assert keep_programs("tensorflow") is None
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/mine"
    assert os.environ["TF_XLA_FLAGS"] == own
    assert run("jax", JAX_COMPILATION_CACHE_DIR=str(tmp_path))[1] == "None"


def test_flags_of_another_kind_stay_too(monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_min_cluster_size=3")
    folder = keep_programs("tensorflow")
    assert os.environ["TF_XLA_FLAGS"] == (
        f"--tf_xla_min_cluster_size=3 --tf_xla_persistent_cache_directory={folder}"
    )


def test_a_place_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(SWITCH, str(tmp_path / "file"))
    assert keep_programs("torch") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files")
def test_nobody_else_may_put_programs_there():
    folder = compile_cache.folder("torch")
    assert keep_programs("torch") == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR")
    folder.chmod(0o777)
    assert keep_programs("torch") is None
