import os
import subprocess
import sys

import pytest

from kerasdiffusion.storage.locks import NAME, locked

HOLDER = """
import sys, time
from kerasdiffusion.storage.locks import locked
with locked(sys.argv[1], "A test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_works_in_a_folder_at_a_time_and_a_killed_one_not_at_all(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert child.stdout.readline().strip() == b"held"
    with (
        pytest.raises(BlockingIOError, match="A test needs.*Received: "),
        locked(tmp_path, "A test"),
    ):
        pass
    child.kill()
    child.wait()
    assert (tmp_path / NAME).exists()
    for _ in range(2):
        with locked(tmp_path, "A test"):
            pass
        assert os.name == "nt" or not (tmp_path / NAME).exists()


def test_it_is_let_go_of_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path, "A test"):
            raise KeyError
