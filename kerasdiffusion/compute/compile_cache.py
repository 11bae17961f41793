"""Compiled programs kept in a folder, so that the next process need not compile them.

Each backend has a cache of its own, which this file gives a place: JAX's persistent
compilation cache, TensorFlow's of XLA programs, and PyTorch's of Inductor. All three
know a program by its text, so that changed code or another size is never mistaken for
what was kept; what they do not all ask is which version compiled it, and for which
processor, so that the folder's name says both. Programs hold no weights. What
TensorFlow traces for a CPU has no cache of its own: `kept_traces.py` keeps it there.

`KERASDIFFUSION_COMPILE_CACHE` is another folder for it, or `off`. A cache that is set
by the backend's own means is left as it is.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import sys
import warnings
from pathlib import Path

from kerasdiffusion.compute import processor
from kerasdiffusion.storage.places import expand_user, make_private, user_caches

SWITCH = "KERASDIFFUSION_COMPILE_CACHE"
OFF = ("off", "0", "no", "false")


@functools.lru_cache
def keep_programs(backend: str) -> Path | None:
    """Lets a backend keep what it compiles from here on; best ahead of its first use.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.

    Returns:
        The folder, or `None` where nothing is kept: by the switch, because the user has
        set the backend's own cache, or because there is no folder to write to that is
        the user's alone, with its parents. (Who can write there can have a program
        run.)
    """
    if os.environ.get(SWITCH, "").strip().lower() in OFF:
        return None
    use = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}[backend]
    path = folder(backend)
    if path is None or not make_private(path):
        return None
    return path if use(path) else None


def folder(backend: str) -> Path | None:
    """Where the programs of a backend lie: of its version and this processor.

    `None` where the user has no home, or the switch names nobody's.
    """
    root = os.environ.get(SWITCH, "").strip()
    if root:
        try:
            root = Path(os.path.abspath(expand_user(root)))
        except ValueError as error:
            warnings.warn(f"No programs are kept: {SWITCH}: {error}", stacklevel=3)
            return None
    else:
        root = user_caches()
        if root is None:
            return None
        root = root / "kerasdiffusion" / "compiled"
    version = importlib.metadata.version(backend)
    return root / f"{backend}-{version}-{_processor()}"


def _processor() -> str:
    """A few letters that differ where programs for one would not run on another."""
    known = [platform.machine(), platform.processor(), sys.platform]
    if processor.CPUINFO.is_file():
        lines = processor.CPUINFO.read_text("utf-8", "replace").split("\n")
        named = ("model name", "flags", "Features", "CPU part")
        known += [
            next((line for line in lines if line.startswith(name)), "")
            for name in named
        ]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]


def _jax(path: Path) -> bool:
    import jax

    if jax.config.jax_compilation_cache_dir is not None:
        return jax.config.jax_compilation_cache_dir == str(path)
    jax.config.update("jax_compilation_cache_dir", str(path))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # A second by default: more than most of a small model's programs take.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return True


def _tensorflow(path: Path) -> bool:
    name = "tf_xla_persistent_cache_directory"
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if name in flags:
        return f"--{name}={path}" in flags.split()
    if any(letter.isspace() for letter in str(path)):
        return False  # the flags are divided at spaces
    for program in path.glob("*.pb"):
        if not _is_whole(program):  # TensorFlow would fail, now and ever after
            program.unlink(missing_ok=True)
    # Read when the first program is compiled.
    os.environ["TF_XLA_FLAGS"] = f"{flags} --{name}={path}".strip()
    return True


def _torch(path: Path) -> bool:
    return os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(path)) == str(path)


def _is_whole(path: Path) -> bool:
    """Whether a file is all of a protocol buffer: its fields' lengths tell."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            while file.tell() < size:
                kind = _varint(file) & 7
                if kind == 0:
                    _varint(file)
                elif kind in (1, 2, 5):
                    length = _varint(file) if kind == 2 else {1: 8, 5: 4}[kind]
                    file.seek(length, os.SEEK_CUR)
                else:
                    return False
            return file.tell() == size > 0
    except (OSError, ValueError):
        return False


def _varint(file) -> int:
    """The number that comes next, seven bits to a byte."""
    number = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        number |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return number
    raise ValueError(f"A number must end within ten bytes. Received: {number}")
