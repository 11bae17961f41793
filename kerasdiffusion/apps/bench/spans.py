"""Where the seconds of a first picture go: functions, timed from outside.

What runs in other threads runs side by side, so that the sums may exceed the whole.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping

#: What is timed, by its name in the report: module and function.
SPANS = {
    "networks": ("kerasdiffusion.networks.parts", "make_networks"),
    "weights": ("kerasdiffusion.weights.load", "load_weights"),
    "traces": ("kerasdiffusion.compute.kept_traces", "KeptTraces.make"),
    "programs": ("kerasdiffusion.compute.kept_traces", "call_function"),
}


@contextlib.contextmanager
def timed(spans: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, float]]:
    """Within it, the functions' seconds are added up.

    A call within a call of the same function counts once.

    Args:
        spans: As `SPANS`.

    Returns:
        A dict from name to seconds, which fills; functions that are not called have 0.

    Example:

    >>> with timed({"sleep": ("time", "sleep")}) as seconds:
    ...     time.sleep(0.01)
    >>> seconds["sleep"] >= 0.01
    True
    """
    seconds, lock = dict.fromkeys(spans, 0.0), threading.Lock()
    with contextlib.ExitStack() as stack:
        for name, (module, path) in spans.items():
            owner = importlib.import_module(module)
            *classes, attribute = path.split(".")
            for each in classes:
                owner = getattr(owner, each)
            whole = getattr(owner, attribute)
            watched = _watched(whole, name, seconds, lock)
            # Wherever it was imported to.
            holders = [owner, *(() if classes else list(sys.modules.values()))]
            for holder in holders:
                if getattr(holder, "__dict__", {}).get(attribute) is whole:
                    stack.callback(setattr, holder, attribute, whole)
                    setattr(holder, attribute, watched)
        yield seconds


def _watched(function, name: str, seconds: dict[str, float], lock: threading.Lock):
    inside = threading.local()

    @functools.wraps(function)
    def watched(*args, **keywords):
        if getattr(inside, "is_so", False):
            return function(*args, **keywords)
        inside.is_so, begun = True, time.perf_counter()
        try:
            return function(*args, **keywords)
        finally:
            inside.is_so = False
            with lock:
                seconds[name] += time.perf_counter() - begun

    return watched
