"""Training, measured: a LoRA's step, the first one and the memory, beside diffusers.

Each library is a process of its own, and they take their steps in turn, so that a
machine which others use is as busy for the one as for the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence

from kerasdiffusion.apps.bench.processes import Asked
from kerasdiffusion.apps.bench.teach_worker import RANK, TeachJob, to_json
from kerasdiffusion.apps.bench.worker import Job

NAME = "teach"
OURS, PEER = "kerasdiffusion", "diffusers"
#: Label, name of the figure and what it is divided by to be read.
ROWS = (
    ("a step, s", "step", 1),
    ("  of processor time, s", "cpu", 1),
    ("the first step takes longer by, s", "first", 1),
    ("  of processor time, s", "first_cpu", 1),
    ("peak memory, GiB", "peak", 2**30),
)


def measure(job: Job, peers: Sequence[str], machine: str) -> Iterator[str]:
    """Lines of figures: without checkpointing, then with it.

    Args:
        job: The model, its size, and how often a step is repeated.
        peers: Which of them; diffusers alone is known here.
        machine: What it runs on, in words.

    Raises:
        ValueError: If a peer is another.
        ChildProcessError: If a process fails; the message has its last line.
    """
    if set(peers) - {PEER}:
        raise ValueError(
            f"Training is measured beside diffusers. Received: {', '.join(peers)}"
        )
    job = _resolved(job)
    yield (
        f"{job.preset}, random weights, a LoRA of rank {RANK} on attention by AdamW, "
        f"{job.width}x{job.height}, batch {job.batch_size}, {job.precision}; medians "
        f"of {job.repeats}, in turn"
    )
    yield machine
    for remat in (False, True):
        jobs = [dataclasses.replace(job, remat=remat)]
        jobs += [dataclasses.replace(jobs[0], library=peer) for peer in peers]
        facts, found = _in_turn(jobs, max(job.repeats, 1))
        if not remat:
            for name, each in facts.items():
                yield f"{name} {each['version']}: {each['backend']}"
        yield ""
        yield "with checkpointing" if remat else "without checkpointing"
        yield from table(found)


def table(found: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """The libraries' figures side by side, this library's first."""
    names = list(found)
    yield "  ".join([" " * 34, *(f"{name:>14}" for name in names)]) + (
        "   ratio" if len(names) > 1 else ""
    )
    for label, key, unit in ROWS:
        figures = [found[name][key] / unit for name in names]
        line = "  ".join([f"{label:34}", *(f"{each:14.2f}" for each in figures)])
        yield line + "".join(f"{figures[0] / each:8.2f}" for each in figures[1:])


def _resolved(job: Job) -> TeachJob:
    """The job with everything that the user left open."""
    from kerasdiffusion.presets.named import find_preset

    source, config = find_preset(job.preset)
    if config is None:
        from kerasdiffusion.weights.load import read_config

        config = read_config(source)
    values = {each.name: getattr(job, each.name) for each in dataclasses.fields(job)}
    values |= {
        "height": job.height or config.generation.height,
        "width": job.width or config.generation.width,
        "precision": "float32" if job.precision == "auto" else job.precision,
        "config": dataclasses.asdict(config),
        "random_weights": True,
    }
    return TeachJob(**values)


def _in_turn(jobs: Sequence[TeachJob], repeats: int):
    """Facts and figures by library: a first step each, and then one after the other."""
    with contextlib.ExitStack() as stack:
        workers = {job.library: stack.enter_context(_worker(job)) for job in jobs}
        facts = {name: each.answer()["facts"] for name, each in workers.items()}
        steps = {name: [] for name in workers}
        for _ in range(repeats + 2):  # the first, and one that warms up
            for name, worker in workers.items():
                which = "A step" if steps[name] else "The first step, with its program,"
                print(f"{which} of {name} ...", file=sys.stderr)
                steps[name].append(worker.ask())
    found = {}
    for name, (first, second, *rest) in steps.items():
        step = statistics.median(each["seconds"] for each in rest)
        cpu = statistics.median(each["cpu"] for each in rest)
        found[name] = {
            "step": step,
            "cpu": cpu,
            "first": first["seconds"] - step,
            "first_cpu": first["cpu"] - cpu,
            "peak": max(each["peak"] or 0 for each in (first, second, *rest)),
        }
    return facts, found


def _worker(job: TeachJob) -> Asked:
    """A process that takes a step when it is asked."""
    print(f"Making {job.library}'s model ...", file=sys.stderr)
    return Asked(job.library, "teach_worker", to_json(job))
