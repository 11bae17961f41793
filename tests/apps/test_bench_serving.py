"""What the server adds to a picture, as the benchmark says it."""

import json
import re

import pytest

from kerasdiffusion.apps.bench import serving
from kerasdiffusion.apps.bench.command import parts
from kerasdiffusion.apps.bench.worker import Job


def test_it_is_measured_alone():
    assert parts("server") == (serving.NAME,)
    with pytest.raises(Exception, match="or server\\. Received"):
        parts("server,picture")


def test_medians_are_of_pairs_that_were_made_in_turn():
    """Of a machine that grows slower, no median of differences is misled."""
    python = [serving.Taken(i, i) for i in (1.0, 2.0, 30.0)]
    server = [serving.Taken(a.seconds + 0.5, a.cpu + 0.25) for a in python]
    *_, last = serving.told({"python": python, "server": server})
    assert last.startswith("the server adds 500 ms (25.0 %), 250 ms of the processor")


@pytest.mark.heavy
def test_all_of_it_is_measured(monkeypatch, tiny):
    from kerasdiffusion.apps.bench import ours

    class Library:
        def __init__(self, job):
            self.model = tiny

    monkeypatch.setattr(ours, "Library", Library)
    job = Job("kerasdiffusion", "emoji", False, 32, 32, 1, 2, "float32", False, 2)
    lines = list(serving.measure(job, "a machine"))
    assert lines[1] == "a machine" and len(lines) == 9
    assert re.match(r"16 requests at once: \d", lines[-3])
    assert re.match(r"at once they are \d+\.\d\d times", lines[-2])
    assert lines[-1].startswith("the first time")
    assert json.dumps(lines)
