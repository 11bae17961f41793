"""What a batch takes beside the painting."""

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import functools, sys
from kerasdiffusion.batch import paint, places
from tests.batch.stand_in import StandIn

told = {"files": ["a.png"], "width": 8, "height": 8}
places.Files.write = lambda *_: told  # a disk has no part in it
rows = ({"name": f"row {i}", "prompt": f"a cat {i}"} for i in range(int(sys.argv[1])))
paint(rows, sys.argv[2], StandIn, progress_bar=False, engine="local")
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.heavy
def test_memory_is_flat_from_a_thousand_to_a_hundred_thousand_rows(tmp_path):
    """What grows is 16 bytes of each row's name, and of its key in the end."""
    found = []
    for count in (1000, 100_000):
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(count), str(tmp_path / f"{count}")],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        found.append(int(child.stdout) / 1024)
    print(f"{found[0]:.0f} and {found[1]:.0f} MiB")
    assert found[1] - found[0] < 50
