"""Runs a process for each library, and has them make their calls in turn."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from kerasdiffusion.apps.bench.processes import Asked, run_apart
from kerasdiffusion.apps.bench.spans import SPANS
from kerasdiffusion.apps.bench.worker import Job, to_json
from kerasdiffusion.compute import compile_cache

#: What is called again and again once there is a model, in this order.
WARM = ("picture", "network", "decode", "encode")
#: This library by way of OpenVINO.
OPENVINO = "kerasdiffusion-openvino"
#: Calls that take less than this many seconds are timed several at once.
GLANCE = 0.25
MOST_AT_ONCE = 64
#: Seconds of a library after which no further call of the same kind begins.
PATIENCE = 60.0
#: Of what a library holds, once its model is made, that it may need while it computes.
ROOM = 1.5
#: What a peer takes from the facts of this library's process: the same work.
SAME = (
    *("height", "width", "precision", "jit_compile"),
    *("random_weights", "folder", "config"),
)


def measure(
    job: Job, peers: Sequence[str], failed: Callable[[ChildProcessError], None]
) -> dict[str, dict]:
    """The figures of this library and of others.

    On a CPU with memory for all of them their calls are made in turn, one of each and
    again, so that a machine which others use is as busy for the one as for the other.
    An accelerator they have one after the other.

    Args:
        job: What to measure; this library's.
        peers: The others.
        failed: Is told of peers that could not be measured, which have no figures.

    Returns:
        By library, what `worker.begin` gives, with medians of the calls' seconds among
        the seconds and of their processor time as `"cpu"`, and every call by its name
        as `"calls"`. `"in_turn"` says whether the n-th call stood beside the n-th of
        the others.

    Raises:
        ChildProcessError: If this library cannot be measured.
    """
    results, asked = {}, {}

    def call_all():
        for name, calls in in_turn(asked, job, failed).items():
            results[name] |= {"calls": calls, "in_turn": together}
            _conclude(results[name])

    with contextlib.ExitStack() as stack:
        results[job.library], asked[job.library] = _begun_with_next(job, stack)
        facts = results[job.library]["facts"]
        together = has_room(results[job.library], len(peers))
        for peer in dict.fromkeys(peers):
            if not together:
                call_all()
                asked.clear()
                stack.close()
            same = dataclasses.replace(
                job, library=peer, **{name: facts[name] for name in SAME}
            )
            try:
                results[peer], asked[peer] = begin_peer(same, stack)
            except ChildProcessError as error:
                failed(error)
        call_all()
    return {name: each for name, each in results.items() if "calls" in each}


def has_room(ours: Mapping, peers: int) -> bool:
    """Whether so many others are in memory beside this library while it computes."""
    if not peers or ours["facts"]["accelerator"]:
        return False
    held = ours["bytes"]["held"]
    if held is None or not hasattr(os, "sysconf"):
        return False
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="utf-8") as file:
        fields = dict(line.split(":", 1) for line in file)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    return free > ROOM * held * peers


def in_turn(
    asked: dict[str, Asked], job: Job, failed: Callable[[ChildProcessError], None]
) -> dict[str, dict[str, list[dict]]]:
    """Calls of each kind, one of each library and again.

    Args:
        asked: The processes by library; those that fail are taken out.
        job: Which calls, and how often at most.
        failed: As in `measure`. This library's failure is raised.

    Returns:
        What `worker.timed_calls` gave, by library and kind of call.
    """
    found = {name: {} for name in asked}

    def ask(name: str, **question) -> dict:
        try:
            return asked[name].ask(**question)
        except ChildProcessError as error:
            if name == job.library:
                raise
            del asked[name], found[name]
            failed(error)
            return {}

    for kind in WARM:
        if kind not in job.only or not job.repeats:
            continue
        print(f"Measuring {kind} ...", file=sys.stderr)
        counts = {}
        for name in list(asked):
            if kind != "picture":  # of which there was one
                ask(name, kind=kind, count=1)
            once = name in asked and ask(name, kind=kind, count=1)
            if once:
                found[name][kind] = [once]
                most = int(GLANCE / max(once["seconds"], 1e-6))
                counts[name] = max(1, min(most, MOST_AT_ONCE))
        if any(count > 1 for count in counts.values()):
            for name in counts:
                found[name][kind] = []
        while asked and _goes_on([found[name][kind] for name in asked], job.repeats):
            for name in list(asked):
                call = ask(name, kind=kind, count=counts[name])
                if call:
                    found[name][kind].append(call)
    return found


def _goes_on(calls: Sequence[Sequence[Mapping]], repeats: int) -> bool:
    """Whether there is another round."""
    longest = max(sum(each["whole"] for each in own) for own in calls)
    return len(calls[0]) < repeats and longest < PATIENCE


def _conclude(result: dict) -> None:
    """Puts medians in the place of calls that are not there yet."""
    for figure in ("seconds", "cpu"):
        medians = {
            kind: statistics.median(each[figure] for each in calls)
            for kind, calls in result["calls"].items()
        }
        result[figure] = result.get(figure, {}) | medians
    seconds = result["seconds"]
    first, picture = seconds.pop("first_picture", None), seconds.get("picture")
    if first is not None and picture is not None:
        seconds["compile"] = max(0.0, first - picture)


def _begun_with_next(
    job: Job, stack: contextlib.ExitStack, **variables: str
) -> tuple[dict, Asked]:
    """This library's first figures, no program kept; those of a next process with them.

    The process of the first is left to be asked.
    """
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    cache = {compile_cache.SWITCH: folder, **variables}
    found, asked = begin(job, stack, **cache)
    if "cold" in job.only:
        with contextlib.ExitStack() as own:
            again, _ = begin(dataclasses.replace(job, repeats=0), own, **cache)
        again = again["seconds"]
        found["seconds"]["next_picture"] = again["cold_picture"]
        parts = ("import", *SPANS)
        found["seconds"] |= {f"next_{part}": again.get(part) for part in parts}
    return found, asked


def begin_peer(job: Job, stack: contextlib.ExitStack) -> tuple[dict, Asked]:
    """What `begin` gives for another library, after what is not measured.

    Args:
        job: What to measure; a peer's.
        stack: Ends the process.

    Raises:
        ChildProcessError: As `begin`.
    """
    if job.library == OPENVINO:
        return _begun_with_next(job, stack, KERAS_BACKEND="tensorflow")
    if job.library != "openvino":
        return begin(job, stack)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    run_apart("openvino", "peer_openvino", to_json(job), folder)
    return begin(dataclasses.replace(job, converted=folder), stack)


def begin(
    job: Job, stack: contextlib.ExitStack, **variables: str
) -> tuple[dict, Asked]:
    """What `worker.begin` gives in a process of its own, and the process.

    What it reads has been read before: its first picture is that of a cold process, not
    of a cold disk.

    Args:
        job: What to measure.
        stack: Ends the process.
        **variables: Of its environment.

    Raises:
        ChildProcessError: If the process fails; the message has its last line.
    """
    print(f"Measuring {job.library} ...", file=sys.stderr)
    if "cold" in job.only:
        run_apart(job.library, "awaken", to_json(job))
    arguments = to_json(job), str(time.time())
    asked = stack.enter_context(Asked(job.library, "worker", *arguments, **variables))
    return asked.answer(), asked
