"""`bench --profile`: which operations take the time of a network's call."""

from __future__ import annotations

from collections.abc import Mapping

from kerasdiffusion.apps.bench.ours import Library
from kerasdiffusion.apps.bench.worker import Job
from kerasdiffusion.compute import profiling

#: Operations that are listed; the others are counted together.
MOST = 12


def measure(job: Job) -> dict[str, dict[str, tuple[float, int]]]:
    """The operations of a guided U-Net call and of a decode, once they are compiled.

    Args:
        job: What to measure.

    Returns:
        What `profiling.profile` gives, by the call's name.
    """
    library, found = Library(job), {}
    calls = {"U-Net call, guided": library.network, "decode": library.decode}
    for name, call in calls.items():
        call(1)
        found[name] = profiling.profile(lambda call=call: call(1))
    return found


def lines(found: Mapping[str, Mapping[str, tuple[float, int]]]) -> list[str]:
    """The operations as a table for people, a call below the other."""
    text = []
    for name, operations in found.items():
        total = sum(seconds for seconds, _ in operations.values())
        text += [f"{name}: {total:.3f} s in operations", ""]
        listed = list(operations.items())
        rest = listed[MOST:]
        if rest:
            seconds, calls = (sum(each[1][i] for each in rest) for i in range(2))
            listed = [*listed[:MOST], (f"{len(rest)} others", (seconds, calls))]
        for kind, (seconds, calls) in listed:
            share = seconds / total if total else 0.0
            text.append(f"  {share:6.1%}  {seconds:9.4f} s  {calls:5d} x  {kind[:48]}")
        text.append("")
    return text[:-1]
