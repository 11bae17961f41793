"""One library's training step, a step at a time, in a process of its own.

Run as `python -m kerasdiffusion.apps.bench.teach_worker JOB`: a `TeachJob` as JSON. It
answers on its standard output with JSON, a line each: what was made; then, for each
line that it reads, the seconds of a step, until there are no more.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Protocol

from kerasdiffusion.apps.bench.processes import answering
from kerasdiffusion.apps.bench.worker import Job, peak_memory

LIBRARIES = {
    "kerasdiffusion": "kerasdiffusion.apps.bench.teach_ours",
    "diffusers": "kerasdiffusion.apps.bench.teach_diffusers",
}
RANK, LEARNING_RATE, DECAY, CLIP = 16, 1e-4, 1e-2, 1.0


@dataclass(frozen=True)
class TeachJob(Job):
    """A step to measure: a LoRA of rank `RANK` on attention, by AdamW.

    Args:
        remat: Whether to checkpoint gradients.
    """

    remat: bool = False


class Library(Protocol):
    """A library with a model and an optimizer in memory; `Library(job)` makes them."""

    #: What the parent has to know: versions, precision, size, ...
    facts: dict

    def step(self) -> float:
        """A step on a batch of random numbers, waited for; the loss."""


def main(text: str) -> None:
    """Answers until nothing more is asked."""
    job = TeachJob(**json.loads(text))
    with answering() as answer:
        library = importlib.import_module(LIBRARIES[job.library]).Library(job)
        answer({"facts": library.facts})
        for _ in sys.stdin:
            begun, spent = time.perf_counter(), time.process_time()
            loss = library.step()
            answer(
                {
                    "seconds": time.perf_counter() - begun,
                    "cpu": time.process_time() - spent,
                    "loss": loss,
                    "peak": peak_memory(),
                }
            )


def to_json(job: TeachJob) -> str:
    """The job as `main` takes it."""
    return json.dumps(dataclasses.asdict(job))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(sys.argv[1])
