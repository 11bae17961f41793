"""One library's figures, measured in a process of its own.

Run as `python -m kerasdiffusion.apps.bench.worker JOB STARTED RESULT`: a `Job` as JSON,
the time at which the process was started, and the file to write the figures to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kerasdiffusion.apps.bench.spans import timed

PROMPT = "a photograph of an astronaut riding a horse"
GUIDANCE_SCALE = 7.5

LIBRARIES = {
    "kerasdiffusion": "kerasdiffusion.apps.bench.ours",
    "kerasdiffusion-openvino": "kerasdiffusion.apps.bench.ours",
    "diffusers": "kerasdiffusion.apps.bench.peer_diffusers",
    "diffusers-compiled": "kerasdiffusion.apps.bench.peer_diffusers_compiled",
    "openvino": "kerasdiffusion.apps.bench.peer_openvino",
    "keras-cv": "kerasdiffusion.apps.bench.peer_keras_cv",
}
#: What can be measured: the first picture from a cold process, pictures after it, and
#: single calls.
PARTS = ("cold", "picture", "network", "decode", "encode")

#: Calls that take less than this many seconds are timed several at once.
GLANCE = 0.25
MOST_AT_ONCE = 64
#: Seconds after which no further measurement of the same thing begins.
PATIENCE = 60.0


@dataclass(frozen=True)
class Job:
    """What to measure.

    Args:
        library: A key of `LIBRARIES`.
        preset: What `from_preset` takes.
        random_weights: Whether to leave weights on the disk alone.
        height: Height in pixels; `None` is the preset's.
        width: Width in pixels; `None` is the preset's.
        batch_size: Pictures at a time.
        steps: Denoising steps, each one guided call of the U-Net.
        precision: One of `backend.PRECISIONS`.
        jit_compile: Whether to compile by XLA, `"auto"` or `"openvino"`.
        repeats: Measurements of which the median is taken; 0 for the first picture and
            nothing else.
        config: For peers: the `ModelConfig` as a dict.
        folder: For peers: the weights' folder in diffusers' layout, if there is one.
        only: Those of `PARTS` to measure; a first picture is made ahead of others.
        converted: For OpenVINO: where `peer_openvino.convert` put the networks.
    """

    library: str
    preset: str
    random_weights: bool
    height: int | None
    width: int | None
    batch_size: int
    steps: int
    precision: str
    jit_compile: bool | str
    repeats: int
    config: dict | None = None
    folder: str | None = None
    only: tuple[str, ...] = PARTS
    converted: str | None = None


class Library(Protocol):
    """A library with a model in memory; `Library(job)` makes the model."""

    #: What the parent has to know: versions, precision, size, ...
    facts: dict[str, Any]

    def picture(self) -> None:
        """A batch of pictures from a prompt, as a user would make it."""

    def network(self, count: int) -> None:
        """So many guided calls of the U-Net, waited for."""

    def decode(self, count: int) -> None:
        """So many decodings of one picture, waited for."""

    def encode(self, count: int) -> None:
        """So many encodings of one prompt, waited for."""

    def device_memory(self) -> int | None:
        """Peak bytes of the accelerator, where they are known."""


def measure(job: Job, started: float) -> dict:
    """The figures of a library, in seconds and bytes.

    Args:
        job: What to measure.
        started: `time.time()` when this process was started.

    Returns:
        `"seconds"`, `"bytes"` and `"facts"`, each a dict. A figure that is not known
        is `None`.
    """
    names = ("cold_picture", "picture", "compile", "network", "decode", "encode")
    seconds: dict = dict.fromkeys(names)
    begun = time.perf_counter()
    module = importlib.import_module(LIBRARIES[job.library])
    seconds["import"] = time.perf_counter() - begun
    begun = time.perf_counter()
    library = module.Library(job)
    seconds["build"] = time.perf_counter() - begun
    memory = {"peak": None, "device_peak": None}
    if {"cold", "picture"} & set(job.only):
        with timed(getattr(module, "SPANS", {})) as spans:
            first = _seconds(library.picture)
        seconds |= spans
        seconds["cold_picture"] = time.time() - started
        memory = {"peak": peak_memory(), "device_peak": library.device_memory()}
    if not job.repeats:
        return {"seconds": seconds, "bytes": memory, "facts": library.facts}
    if "picture" in job.only:
        seconds["picture"] = _median(library.picture, job.repeats)
        seconds["compile"] = max(0.0, first - seconds["picture"])
    for name in ("network", "decode", "encode"):
        if name in job.only:
            seconds[name] = median_of_calls(getattr(library, name), job.repeats)
    return {"seconds": seconds, "bytes": memory, "facts": library.facts}


def median_of_calls(calls: Callable[[int], None], repeats: int) -> float:
    """Seconds of one call: after warm-up, short ones several at once.

    Args:
        calls: Makes as many calls as it is told, and waits for them.
        repeats: Measurements of which the median is taken.
    """
    calls(1)
    once = _seconds(lambda: calls(1))
    count = max(1, min(int(GLANCE / max(once, 1e-6)), MOST_AT_ONCE))
    if count == 1:
        return _median(lambda: calls(1), repeats, [once])
    return _median(lambda: calls(count), repeats) / count


def _median(
    run: Callable[[], None], repeats: int, times: Sequence[float] = ()
) -> float:
    times = list(times) or [_seconds(run)]
    while len(times) < repeats and sum(times) < PATIENCE:
        times.append(_seconds(run))
    return statistics.median(times)


def _seconds(run: Callable[[], None]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def peak_memory() -> int | None:
    """Bytes of memory that this process held at most; unknown on Windows."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says begins with the parent's
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return None


def main(job: str, started: str, result: str) -> None:
    """Measures, and writes the figures to a file."""
    figures = measure(Job(**json.loads(job)), float(started))
    Path(result).write_text(json.dumps(figures), "utf-8")


def to_json(job: Job) -> str:
    """The job as `main` takes it."""
    return json.dumps(dataclasses.asdict(job))


if __name__ == "__main__":
    main(*sys.argv[1:])
