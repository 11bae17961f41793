"""One library's figures, measured in a process of its own.

Run as `python -m kerasdiffusion.apps.bench.worker JOB STARTED`: a `Job` as JSON, and
the time at which the process was started. It answers on its standard output with JSON,
a line each: what it took to begin; then, for each line that it reads, the seconds of
the calls that it is asked for, until there are no more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kerasdiffusion.apps.bench.processes import answering
from kerasdiffusion.apps.bench.spans import timed
from kerasdiffusion.compute import processor

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


def begin(job: Job, started: float) -> tuple[Library, dict]:
    """A library with its model, and what it took to come to a first picture.

    Args:
        job: What to measure.
        started: `time.time()` when this process was started.

    Returns:
        The library; and `"seconds"`, `"bytes"` and `"facts"`, each a dict. A figure
        that is not known is `None`.
    """
    seconds: dict = {"cold_picture": None}
    begun = time.perf_counter()
    module = importlib.import_module(LIBRARIES[job.library])
    seconds["import"] = time.perf_counter() - begun
    begun = time.perf_counter()
    library = module.Library(job)
    seconds["build"] = time.perf_counter() - begun
    memory = {"peak": None, "device_peak": None}
    if {"cold", "picture"} & set(job.only):
        begun = time.perf_counter()
        with timed(getattr(module, "SPANS", {})) as spans:
            library.picture()
        seconds |= spans | {"first_picture": time.perf_counter() - begun}
        seconds["cold_picture"] = time.time() - started
        memory = {"peak": peak_memory(), "device_peak": library.device_memory()}
    memory["held"] = peak_memory()
    return library, {"seconds": seconds, "bytes": memory, "facts": library.facts}


def timed_calls(library: Library, kind: str, count: int) -> dict[str, float | None]:
    """What calls take, and what else the machine does meanwhile.

    Args:
        library: What makes them.
        kind: `"picture"`, `"network"`, `"decode"` or `"encode"`.
        count: How many are timed at once.

    Returns:
        `"seconds"` and `"cpu"`, the processor's, of one call; `"whole"`, the seconds
        of all; and how many cores other work took meanwhile, `"beside"`, and other
        machines on the same host, `"stolen"`: `None` where the system does not say.
    """
    before, spent = processor.work(), time.process_time()
    begun = time.perf_counter()
    if kind == "picture":
        for _ in range(count):
            library.picture()
    else:
        getattr(library, kind)(count)
    whole = time.perf_counter() - begun
    spent, after = time.process_time() - spent, processor.work()
    found = {"seconds": whole / count, "cpu": spent / count, "whole": whole}
    if before is None or after is None:
        return found | {"beside": None, "stolen": None}
    beside = max(0.0, after.busy - before.busy - spent) / whole
    return found | {"beside": beside, "stolen": (after.stolen - before.stolen) / whole}


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


def main(job: str, started: str) -> None:
    """Answers until nothing more is asked."""
    with answering() as answer:
        library, first = begin(Job(**json.loads(job)), float(started))
        answer(first)
        for line in sys.stdin:
            answer(timed_calls(library, **json.loads(line)))


def to_json(job: Job) -> str:
    """The job as `main` takes it."""
    return json.dumps(dataclasses.asdict(job))


if __name__ == "__main__":
    main(*sys.argv[1:])
