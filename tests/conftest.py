"""Which backend the tests run on, how many threads, and which tests are left out."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Until all is imported there is nothing to collect.
gc.disable()

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A small font of the repository's own: the whole one need not be installed.
SMALL_FONT = Path(__file__).parent / "datasets/data/NotoColorEmoji-starter.ttf"
os.environ.setdefault("KERASDIFFUSION_EMOJI_FONT", str(SMALL_FONT))
# The networks are tiny, and two frameworks in one process each have a pool of threads:
# idle ones must not spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# What is compiled runs a few times.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

#: Where compiled programs are kept.
PROGRAMS = "KERASDIFFUSION_COMPILE_CACHE"
#: Markers of tests that run when they are asked for.
LEFT_OUT = ("full_size", "heavy")


def pytest_addoption(parser):
    parser.addoption(
        "--full-size",
        action="store_true",
        help="run the tests at Stable Diffusion's published sizes too, and heavy ones",
    )


def pytest_configure(config):
    """The run has a folder of compiled programs, for all its processes."""
    if not config.getoption("--full-size"):
        # TensorFlow's own pool of threads, as OpenMP's above: a tenth of the time.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    if PROGRAMS not in os.environ:
        os.environ[PROGRAMS] = tempfile.mkdtemp(prefix="kerasdiffusion-programs-")
        config.add_cleanup(
            lambda: shutil.rmtree(os.environ.pop(PROGRAMS), ignore_errors=True)
        )


def pytest_collection_finish():
    """What is traced and goes comes in thousands: the collector looks less often.

    Nothing is frozen: then `memory.collector_sees_new` freezes nothing either.
    """
    gc.collect()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_collection_modifyitems(config, items):
    # Of many short files at the end both processes have enough.
    items.sort(key=lambda item: "tests/sampling/" in item.nodeid)
    named = [name for name in LEFT_OUT if name in config.option.markexpr]
    if config.getoption("--full-size") or named:
        return
    left_out = [item for item in items if any(map(item.get_closest_marker, LEFT_OUT))]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session", autouse=True)
def plain_cpu():
    """Models are float32 by default in the tests, whatever the CPU could do."""
    from kerasdiffusion.compute import backend, kept_traces

    backend.CPUINFO = Path(os.devnull)
    kept_traces.MOST = 5000  # of all models of all tests


@pytest.fixture(scope="session")
def tiny():
    """One tiny model for all tests that leave it as it is."""
    from tests.tiny import tiny_model

    return tiny_model()
