"""The server, measured: what it adds to a picture, and what batches give.

The same pictures are painted by Python and by way of the server, in turn, in one
process; who asks for them is another one, so that its time is not the server's.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from kerasdiffusion.apps.bench.processes import Asked
from kerasdiffusion.apps.bench.worker import PROMPT, Job

NAME = "server"
#: Requests of which is asked whether they are faster at once.
TOGETHER = 16
#: Seconds of a picture beyond which that is not asked.
PATIENCE = 10.0


class Taken(NamedTuple):
    """What a call took: seconds, and seconds of the processor's cores together."""

    seconds: float
    cpu: float


def measure(job: Job, machine: str) -> Iterator[str]:
    """Lines of figures, medians of pairs of calls that were made in turn.

    Args:
        job: The model, its size, the steps of a picture and how often it is painted.
        machine: What it runs on, in words.

    Raises:
        ChildProcessError: If the process that asks fails; the message has its last
            line.
    """
    from kerasdiffusion.apps.bench import ours
    from kerasdiffusion.apps.server.core import Settings
    from kerasdiffusion.apps.server.models import Models

    model = ours.Library(job).model
    model.build()
    settings = Settings(Models((job.preset,), make=lambda source: model))
    yield (
        f"{job.preset}, {model.img_width}x{model.img_height}, {job.steps} steps, "
        f"{model.precision}; medians of {job.repeats}, in turn"
    )
    yield machine
    with Asked(NAME, "serving_client") as client, Served(settings) as url:
        calls = _calls(model, job, url, client.ask)
        yield from told(_in_turn(dict(calls[:2]), job.repeats)[1])
        alone = _timed(calls[0][1])
        if alone.seconds > PATIENCE:
            return
        first, found = _in_turn(dict(calls[2:]), job.repeats)
        yield from told_together(found)
        more = first["at once"].seconds - _medians(found["at once"]).seconds
        yield f"the first time, with a program for so many: {more:.1f} s longer"


def _calls(model, job: Job, url: str, ask: Callable) -> list[tuple[str, Callable]]:
    """What is timed, by name."""
    from kerasdiffusion.requests.request import Request

    request = Request(
        task="text_to_image",
        prompt=PROMPT,
        num_steps=job.steps,
        seed=1,
        progress_bar=False,
    )
    fields = {"prompt": PROMPT, "steps": job.steps, "seed": 1}

    def asking(count: int, at_once: bool) -> Callable:
        return lambda: ask(url=url, fields=fields, count=count, at_once=at_once)

    return [
        ("python", lambda: model.run(request).pictures()),
        ("server", asking(1, False)),
        ("after", asking(TOGETHER, False)),
        ("at once", asking(TOGETHER, True)),
    ]


def _in_turn(calls: Mapping[str, Callable], repeats: int) -> tuple[dict, dict]:
    """What calls take, one of each and again: the first, and behind two rounds."""
    found: dict[str, list[Taken]] = {name: [] for name in calls}
    for _ in range(repeats + 2):
        for name, call in calls.items():
            found[name].append(_timed(call))
    first = {name: each[0] for name, each in found.items()}
    return first, {name: each[2:] for name, each in found.items()}


def _timed(call: Callable) -> Taken:
    begun = time.perf_counter(), time.process_time()
    call()
    return Taken(time.perf_counter() - begun[0], time.process_time() - begun[1])


def told(found: Mapping[str, list[Taken]]) -> Iterator[str]:
    """What the server adds to a picture, in words.

    Example:

    >>> a, b = Taken(1.0, 2.0), Taken(1.01, 2.02)
    >>> for line in told({"python": [a], "server": [b]}):
    ...     print(line)
    a picture by Python: 1.000 s, 2.000 s of the processor
    a picture by the server: 1.010 s, 2.020 s of the processor
    the server adds 10 ms (1.0 %), 20 ms of the processor (1.0 %)
    """
    python, server = found["python"], found["server"]
    for name, each in (("Python", python), ("the server", server)):
        seconds, cpu = _medians(each)
        yield (f"a picture by {name}: {seconds:.3f} s, {cpu:.3f} s of the processor")
    more = [
        Taken(b.seconds - a.seconds, b.cpu - a.cpu)
        for a, b in zip(python, server, strict=True)
    ]
    (seconds, cpu), own = _medians(more), _medians(python)
    yield (
        f"the server adds {1000 * seconds:.0f} ms ({seconds / own.seconds:.1%}), "
        f"{1000 * cpu:.0f} ms of the processor ({cpu / own.cpu:.1%})"
    ).replace("%", " %")


def told_together(found: Mapping[str, list[Taken]]) -> Iterator[str]:
    """What batches give, in words.

    Example:

    >>> a, b = Taken(16.0, 32.0), Taken(8.0, 16.0)
    >>> for line in told_together({"after": [a], "at once": [b]}):
    ...     print(line)
    16 requests, one after another: 1.000 s each, 2.000 s of the processor
    16 requests at once: 0.500 s each, 1.000 s of the processor
    at once they are 2.00 times as fast, 2.00 by the processor's time
    """
    names = {"after": "requests, one after another", "at once": "requests at once"}
    for name, words in names.items():
        seconds, cpu = (each / TOGETHER for each in _medians(found[name]))
        yield (
            f"{TOGETHER} {words}: {seconds:.3f} s each, {cpu:.3f} s of the processor"
        )
    pairs = list(zip(found["after"], found["at once"], strict=True))
    seconds, cpu = (
        statistics.median(getattr(a, key) / getattr(b, key) for a, b in pairs)
        for key in Taken._fields
    )
    yield (
        f"at once they are {seconds:.2f} times as fast, {cpu:.2f} by the "
        "processor's time"
    )


def _medians(calls: list[Taken]) -> Taken:
    return Taken(*map(statistics.median, zip(*calls, strict=True)))


class Served:
    """A server in a thread of this process, on a port that is free; for `with`.

    Args:
        settings: A `Settings`.
    """

    def __init__(self, settings):
        import uvicorn

        from kerasdiffusion.apps.server.app import create_app

        app = create_app(settings)
        config = uvicorn.Config(app, port=0, log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise ChildProcessError("server could not be measured: it has ended")
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *error) -> None:
        self._server.should_exit = True
        self._thread.join()
