"""What the allocator keeps of freed memory, and what it gives back."""

import os
import platform
import subprocess
import sys
import time

import pytest

from kerasdiffusion.compute import heap

KEEPING = """
import sys, threading
from kerasdiffusion.compute import heap
import numpy as np
kept = heap.keep_freed_pages()
def faults():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(3):
        begun = faults()
        np.ones(2**24, "float64")
    print(kept, faults() - begun)
if sys.argv[1] == "thread":  # whose own heap would have pieces of 64 MiB
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    work()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's")
@pytest.mark.parametrize("variables", [{}, {"MALLOC_ARENA_MAX": "4"}])
@pytest.mark.parametrize("where", ["main", "thread"])
def test_freed_memory_is_kept_unless_the_user_has_other_wishes(where, variables):
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))
    }
    done = subprocess.run(
        [sys.executable, "-c", KEEPING, where],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    assert kept == str(not variables)
    # Pages of 128 MiB, which are 4 KiB or, if the kernel likes, 2 MiB large.
    assert (int(faults) < 16) == (not variables)


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Says how many MiB of the process are in memory; and how often it was trimmed."""
    statm, trims, reads, one = tmp_path / "statm", [], [], heap.resident

    def say(mib):
        part = tmp_path / "part"
        part.write_text(f"0 {mib * 2**20 // os.sysconf('SC_PAGESIZE')} 0")
        part.replace(statm)

    say(1000)
    monkeypatch.setattr(heap, "STATM", statm)
    monkeypatch.setattr(heap, "_glibc", lambda: "there")
    monkeypatch.setattr(heap, "trim", lambda: (say(1010), trims.append(1)))
    monkeypatch.setattr(heap, "resident", lambda: (one(), reads.append(1))[0])
    return say, trims, reads


def test_what_is_freed_is_given_back_when_it_is_much(said):
    say, trims, reads = said
    with heap.trimmed():
        for mib, count in (
            (1000, 0),
            (1060, 0),
            (1065, 1),
            (1070, 1),
            (1075, 2),
            (500, 2),
            (565, 3),
        ):
            say(mib)
            enough, until = len(reads) + 6, time.monotonic() + 60
            while len(reads) < enough and time.monotonic() < until:
                time.sleep(0.01)
            assert len(trims) == count
    say(2000)
    time.sleep(0.1)
    assert len(trims) == 3


def test_where_nobody_wants_that_nothing_is_given_back(said):
    say, trims, _ = said
    with heap.trimmed(False):
        say(2000)
        time.sleep(0.1)
    assert not trims
