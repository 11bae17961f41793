"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable

from kerasdiffusion.requests.kinds import Kind, Name, Number, Whole
from kerasdiffusion.requests.manner import RNGS  # noqa: F401
from kerasdiffusion.requests.several import Size
from kerasdiffusion.requests.subject import LARGEST, PIXELS

BACKENDS = ("tensorflow", "jax", "torch")
PRECISIONS = (
    "auto",
    "float32",
    "float16",
    "bfloat16",
    "mixed_float16",
    "mixed_bfloat16",
    "float16_weights",
)


def add_machine_options(parser: argparse.ArgumentParser, openvino: bool = True) -> None:
    """Adds `--backend`, `--precision`, `--jit`, `--no-jit` and maybe `--openvino`."""
    group = parser.add_argument_group("how to compute")
    add_backend_option(group)
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="dtype of the networks (default: auto: half precision on a GPU, a TPU or "
        "a CPU that multiplies bfloat16, else float32; `show --machine` prints which)",
    )
    group.add_argument(
        "--jit",
        action=argparse.BooleanOptionalAction,
        help="compile by XLA, on torch by torch.compile (default: where it is faster)",
    )
    if not openvino:
        return
    group.add_argument(
        "--openvino",
        dest="jit",
        action="store_const",
        const="openvino",
        help="compile by OpenVINO, on CPUs and the tensorflow backend: pip install "
        '".[openvino]" in a checkout',
    )


def add_memory_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--low-memory` and `--smallest-memory`."""
    parser.add_argument(
        "--low-memory",
        action="store_true",
        help="hold one network in memory at a time, and read each when it is needed",
    )
    parser.add_argument(
        "--smallest-memory",
        dest="low_memory",
        action="store_const",
        const="smallest",
        help="the same, and the weights of text encoder and U-Net in 8 bits: the least "
        "memory, and pictures that differ a little",
    )


def add_strict_option(group) -> None:
    """Adds `--no-strict`."""
    group.add_argument(
        "--no-strict",
        dest="strict",
        action="store_false",
        help="leave out tensors that no network has; a warning names them",
    )


def add_backend_option(parser) -> None:
    """Adds `--backend`."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what Keras runs on (default: KERAS_BACKEND, else tensorflow)",
    )


def jit_compile(args: argparse.Namespace) -> bool | str:
    """The `jit_compile` that `--jit`, `--no-jit`, `--openvino` or none stands for."""
    return "auto" if args.jit is None else args.jit


def choose_backend(name: str | None) -> None:
    """Starts Keras on a backend, without the log lines that TensorFlow starts with.

    Args:
        name: One of `BACKENDS`; `None` leaves the choice to Keras.

    Raises:
        ValueError: If the backend is not installed, or Keras runs on another already.
    """
    from kerasdiffusion.compute.memory import (
        collector_paused,  # and numpy, not for `--help`
    )

    set_backend(name)
    with _quiet_start(), collector_paused(), _unasked_left_out():
        import keras  # noqa: F401


def set_backend(name: str | None) -> None:
    """Makes Keras start on a backend, once it is imported.

    Arguments and errors are those of `choose_backend`.
    """
    if name is None:
        return
    if "keras" in sys.modules:
        running = sys.modules["keras"].backend.backend()
        if running != name:
            raise ValueError(
                f"The backend cannot change in a process; Keras runs on {running} "
                f"already. Received: --backend {name}"
            )
    if importlib.util.find_spec(name) is None:
        raise ValueError(
            f"The backend must be installed: pip install {name}. "
            f"Received: --backend {name}"
        )
    os.environ["KERAS_BACKEND"] = name


def _backend() -> str:
    """The backend that Keras will start on: by the environment, its file, its default.

    Reference: `keras/src/backend/config.py`.
    """
    named = os.environ.get("KERAS_BACKEND")
    if named:
        return named
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    try:
        with open(os.path.join(home, "keras.json"), encoding="utf-8") as file:
            return json.loads(file.read(2**16)).get("backend", "tensorflow")
    except FileNotFoundError:
        return "tensorflow"
    except (OSError, ValueError, AttributeError):
        return "unknown"


#: What Keras and TensorFlow import where it is installed, for what no command does:
#: tables of data, notebooks, boxes drawn on pictures.
UNASKED = ("pandas", "IPython", "cv2")


@contextlib.contextmanager
def _unasked_left_out():
    """Within it these count as not installed: together they take a second to import.

    JAX too, which TensorFlow imports for a converter, where Keras runs on TensorFlow.
    """
    if "keras" in sys.modules:
        yield
        return
    names = [*UNASKED, "jax"] if _backend() == "tensorflow" else UNASKED
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, ...) is None:
                del sys.modules[name]


@contextlib.contextmanager
def _quiet_start():
    """Keeps what is written to stderr, and shows it only if something fails.

    TensorFlow's libraries write some lines before they read the level to log at. A
    user who set one sees all.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or "keras" in sys.modules:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept, open(os.dup(2), "wb") as stderr:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            stderr.write(kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr.fileno(), 2)


def checked(kind: Kind) -> Callable[[str], object]:
    """The type of a flag whose values are of a kind."""

    def read(text: str):
        try:
            return kind.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def sides(text: str) -> dict[str, int]:
    """Pixels by side, as `left=32,top=16`."""
    found = {}
    for each in text.split(","):
        side, _, value = each.partition("=")
        side = side.strip()
        if side not in ("left", "right", "top", "bottom") or side in found:
            raise argparse.ArgumentTypeError(
                "must be pixels of left, right, top and bottom, as left=32,right=32. "
                f"Received: {text}"
            )
        found[side] = checked(PIXELS)(value.strip())
    return found


def size(text: str) -> tuple[int, int]:
    """A picture's size: `N` for a square or `WIDTHxHEIGHT`; gives (height, width)."""
    height, width = checked(Size())(text)
    if max(height, width) > LARGEST:
        raise argparse.ArgumentTypeError(
            f"must be at most {LARGEST} pixels a side. Received: {text}"
        )
    return height, width


def names(text: str) -> list[str]:
    """Names with commas between."""
    return [each.strip() for each in text.split(",")]


#: Types of flags of other commands.
whole = checked(Whole())
finite = checked(Number())
sampler = checked(Name("kerasdiffusion.sampling.names:find_sampler"))
