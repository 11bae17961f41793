"""Killed at any moment: the old or the new is there and whole; nothing stays behind."""

import json
import os
import subprocess
import sys

import pytest

from tests.hostile.harness import ROOT
from tests.hostile.kills import JOBS

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.timeout(1800),
]


def killed(kills: int, seed: int, *names: str) -> dict:
    pytest.importorskip("torch")
    child = subprocess.run(
        [sys.executable, "-m", "tests.hostile.kills", str(kills), str(seed), *names],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"},
    )
    assert child.returncode == 0, child.stderr[-3000:]
    return json.loads(child.stdout.splitlines()[-1])


#: Those that first make a training or an animation: by default `test_checkpoints` ends
#: a run at each of its moments, in one process.
LONG = {"Walk", "Training", "Teaching"}


def test_a_kill_of_each(pytestconfig):
    names = set(JOBS) - (set() if pytestconfig.getoption("--full-size") else LONG)
    assert set(killed(1, 1, *sorted(names))) == names


@pytest.mark.heavy
def test_a_hundred_kills():
    found = killed(12, seed=2)
    assert sum(each["kills"] for each in found.values()) >= 100


@pytest.mark.heavy
def test_a_run_that_is_killed_ten_times_ends_as_one_that_is_not():
    """Its losses are compared after each kill, its state in the end."""
    found = killed(10, 3, "Broken")
    assert found["kills"] == 10 and found["while a state was written"] > 0
    assert found["steps"][5] > 0
    assert found["largest difference"] < 1e-5


WRITERS = """
import sys, time
from pathlib import Path
from kerasdiffusion.storage.whole import write_whole
mine, folder = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(60):
    write_whole(folder / "a.txt", mine * 50_000, next_free=True)
    write_whole(folder / "cache", mine * 50_000, overwrite=True)
    found = (folder / "cache").read_text()
    assert found in ("a" * 50_000, "b" * 50_000)
"""


def test_two_processes_share_a_cache_and_a_name(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITERS, mine, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for mine in "ab"
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.wait(300) for child in children] == [0, 0]
    texts = [path.read_text() for path in tmp_path.glob("a*.txt")]
    assert sorted(texts) == ["a" * 50_000] * 60 + ["b" * 50_000] * 60
    assert len(list(tmp_path.iterdir())) == 121
