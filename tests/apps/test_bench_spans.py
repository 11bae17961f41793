"""Where the seconds of a first picture go."""

import time

from kerasdiffusion.apps.bench import adapters
from kerasdiffusion.apps.bench.spans import SPANS, timed


def test_functions_are_timed_wherever_they_are_and_given_back():
    module, path = "kerasdiffusion.apps.bench.adapters", "_seconds"
    before = adapters._seconds
    with timed({"run": (module, path)}) as seconds:
        assert adapters._seconds is not before
        begun = time.perf_counter()
        adapters._seconds(lambda: adapters._seconds(lambda: time.sleep(0.05)))
        whole = time.perf_counter() - begun
    assert adapters._seconds is before
    assert 0.05 <= seconds["run"] <= whole, "a call within a call counts once"


def test_methods_and_what_fails_are_timed_too():
    spans = {"write": ("pathlib", "Path.exists")}
    import pathlib

    before = pathlib.Path.exists
    with timed(spans) as seconds:
        assert pathlib.Path(".").exists()
    assert seconds["write"] > 0 and pathlib.Path.exists is before


def test_what_is_named_is_there():
    with timed(SPANS) as seconds:
        pass
    assert seconds == dict.fromkeys(SPANS, 0.0)
