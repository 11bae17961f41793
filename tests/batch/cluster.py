"""A cluster of Ray on this machine, and a driver that is started again when killed."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from kerasdiffusion.batch import paint
from kerasdiffusion.batch.painter import Painter
from tests.batch.stand_in import StandIn, painted

ROOT = Path(__file__).parents[2]
#: As little as Ray takes.
SMALL = {"object_store_memory": 80 * 2**20, "num_cpus": 1, "include_dashboard": False}
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
# An actor whose node has died is known to be dead within seconds.
SOONER = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


class Logged(Painter):
    """The bundled model, which writes down what it has painted."""

    def __init__(self, log):
        from kerasdiffusion import StableDiffusion

        super().__init__(StableDiffusion(weights="emoji"), "emoji")
        self._log = log

    def paint(self, items):
        found = super().paint(items)
        with open(self._log, "a") as file:
            file.write(f"{os.getpid()} {' '.join(each.name for each in items)}\n")
        return found


def maker(what: str, log, seconds: float):
    """What makes the painter of a test."""
    if what == "emoji":
        return functools.partial(Logged, log)
    return functools.partial(StandIn, log, seconds)


def rows_of(count: int) -> list[dict]:
    """Rows of two sizes."""
    things = "apple", "dog", "rocket", "heart", "fox"
    return [
        {
            "name": f"r{i}",
            "prompt": f"a {things[i % 5]} on a blue background",
            "size": "64x64" if i % 4 else "64x96",
        }
        for i in range(count)
    ]


def main(what: str, address: str, folder: str, count: str, seconds: str) -> None:
    """The driver."""
    folder = Path(folder)
    done = paint(
        rows_of(int(count)),
        folder / "out",
        maker(what, folder / "log", float(seconds)),
        engine="ray",
        address=address,
        devices="cpu",
        constants={"steps": 1},
        batch_size=8,
        progress_bar=False,
    )
    print(done.painted, done.failed, done.before)


@contextlib.contextmanager
def cluster(nodes: int):
    """A head that paints nothing, and nodes of one processor each."""
    from ray.cluster_utils import Cluster

    # (The head keeps the address while others come and go.)
    found = Cluster(
        initialize_head=True,
        head_node_args={**SMALL, "num_cpus": 0, "_system_config": SOONER},
    )
    try:
        for _ in range(nodes):
            found.add_node(**SMALL)
        found.wait_for_nodes()
        yield found
    finally:
        found.shutdown()


def killed(
    what: str,
    folder: Path,
    count: int,
    kills: int,
    seconds: float = 0.0,
    nodes: int = 2,
) -> list[str]:
    """Paints rows while driver, workers and nodes are killed by SIGKILL in turn.

    Returns:
        What was killed.
    """
    random, told = np.random.default_rng(0), []
    with cluster(2) as found:
        workers = [each for each in found.list_all_nodes() if not each.head]
        driver = None
        while True:
            if driver is None:
                driver = start(what, found.address, folder, count, seconds)
            if not _paints(driver, folder / "log"):
                if driver.returncode == 0:
                    return told
                raise AssertionError(driver.stderr.read()[-3000:])
            if len(told) >= kills:
                continue
            time.sleep(random.uniform(0.0, 1.0))
            kind = ("worker", "node", "driver")[random.integers(3)]
            if kind == "driver":
                driver.kill()
                driver.wait()
                driver = None
            elif kind == "worker":
                last = (folder / "log").read_text().split("\n")[-2]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(last.split()[0]), signal.SIGKILL)
            else:
                gone = workers.pop(random.integers(len(workers)))
                found.remove_node(gone, allow_graceful=False)
                workers.append(found.add_node(**SMALL))
            told.append(kind)


def start(what, address, folder, count, seconds):
    """A driver in a process of its own."""
    arguments = what, address, str(folder), str(count), str(seconds)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.batch.cluster", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _paints(driver, log) -> bool:
    """Waits until something more is painted; whether the driver lives until then."""
    before = len(painted(log))
    while driver.poll() is None:
        if len(painted(log)) > before:
            return True
        time.sleep(0.02)
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
