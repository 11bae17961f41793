"""What the processor can do and what else it is doing, as Linux tells it."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO, STAT = Path("/proc/cpuinfo"), Path("/proc/stat")
#: What tells how fast one multiplies, as Linux calls it: those of x86, then Arm's.
INSTRUCTIONS = (
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "sve", "i8mm", "bf16"),
)


def name(cpuinfo: Path = CPUINFO) -> str:
    """What the maker calls it, or else its architecture."""
    models = _fields(cpuinfo, "model name")
    return models[0] if models else platform.processor() or platform.machine()


@functools.cache
def here() -> frozenset[str]:
    """The `instructions` of this machine, looked at once: each layer's trace asks."""
    return frozenset(instructions())


def instructions(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """Those of `INSTRUCTIONS` that it has; none where the system does not say."""
    lines = _fields(cpuinfo, "flags") + _fields(cpuinfo, "Features")
    known = set(" ".join(lines).split())
    return tuple(each for each in INSTRUCTIONS if each in known)


def _fields(cpuinfo: Path, name: str) -> list[str]:
    """The values of a field, a core each."""
    if not cpuinfo.is_file():
        return []
    lines = cpuinfo.read_text("utf-8", "replace").split("\n")
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Work:
    """Seconds of all cores since the machine started.

    Args:
        busy: Spent on any process, or in the kernel.
        stolen: That another machine on the same host took while this one had work.
    """

    busy: float
    stolen: float


def work(stat: Path = STAT) -> Work | None:
    """What the machine has done; `None` where the system does not say.

    Reference:
        Linux `Documentation/filesystems/proc.rst`, section 1.7.
    """
    if not stat.is_file() or not hasattr(os, "sysconf"):
        return None
    first = stat.read_text("utf-8", "replace").partition("\n")[0].split()
    if len(first) < 9 or first[0] != "cpu":
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, first[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return Work((user + nice + system + irq + softirq) / ticks, steal / ticks)
