"""What all routes of a server have in common: its parts, and how a job is awaited."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request as Asked
from starlette.concurrency import run_in_threadpool

from kerasdiffusion.apps.server.desk import Desk
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.kept import Kept
from kerasdiffusion.apps.server.metrics import Metrics
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.apps.server.painter import Painter
from kerasdiffusion.apps.server.queue import Queue
from kerasdiffusion.apps.server.work import FAILED, Client, Job
from kerasdiffusion.storage.reading import parse_json

log = logging.getLogger("kerasdiffusion.server")

#: Seconds between looks at whether the client is still there.
LOOK = 0.2
#: Results that are kept in memory, where no folder is named.
IN_MEMORY = 100
# The escape of half of a surrogate pair, in UTF-8 or, with NULs between, in UTF-16.
_HALF = re.compile(rb"\\\0*u\0*[dD]\0*[89a-fA-F]")
#: A client's own name, of those that share an address.
NAME = "x-client"


class Gone(Exception):
    """The client has left."""


@dataclass
class Settings:
    """How a server is set up.

    Args:
        models: Which models may be named.
        queue: How many pictures may wait.
        batch: Pictures of a batch at most, see `Painter`.
        results: Where results of `/jobs` are kept; `None` for memory alone.
        keep: How long, in seconds.
        keys: See `guards.Guards`.
        users: Likewise.
        hosts: Likewise.
        origins: Likewise.
        page: Whether there is a page for people too.
    """

    models: Models = field(default_factory=Models)
    queue: int = 256
    batch: int | None = None
    results: Path | None = None
    keep: float = 86400.0
    keys: Sequence[str] = ()
    users: Sequence[str] = ()
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    page: bool = False


class Core:
    """The parts of a server.

    Args:
        settings: How it is set up.

    Attributes:
        at_end: Called when all is painted that will be.
    """

    def __init__(self, settings: Settings):
        self.settings, self.models = settings, settings.models
        self.queue = Queue(settings.queue)
        self.metrics = Metrics(self.queue.counts, self.models.loaded)
        self.desk = Desk(self.models, self.queue, self._took)
        self.painter = Painter(
            self.queue, self.models, settings.batch, self.metrics.painted
        )
        self.kept = (
            None if settings.results is None else Kept(settings.results, settings.keep)
        )
        self.jobs: dict[str, Job] = {}
        self.at_end: list[Callable[[], None]] = []
        self._keeper = ThreadPoolExecutor(1, "keeper")
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begins to paint."""
        self.painter.start()

    def cancel_all(self) -> None:
        """Ends what is painted too, within a step."""
        for job in self.queue.jobs():
            self.queue.cancel(job)

    def stop(self) -> None:
        """Finishes what is painted, and says no to the rest."""
        with self._lock:
            for job in self.queue.close():
                job.end(FAILED, (503, "The server ends: ask again later."))
            if self.painter.is_alive():
                self.painter.join()
            self._keeper.shutdown()
        for function in self.at_end:
            function()

    def keep(self, job: Job, record: Callable[[Job], tuple]) -> None:
        """Has a job found by its id, and its result kept when it ends.

        Args:
            job: A job of `/jobs`.
            record: Gives what is kept of it: a dict, and pictures as PNG.
        """
        self.jobs[job.id] = job
        self._forget()

        def put():
            try:
                self.kept.put(*record(job))
            except OSError as error:  # it stays in memory
                job.is_lost = True
                log.error("Results cannot be kept: %s", error)
            else:
                self.jobs.pop(job.id, None)

        if self.kept is not None:
            job.at_end(lambda job: self._keeper.submit(put))

    def _forget(self) -> None:
        """Results in memory leave when they are old, or too many."""
        ended = [x for x in list(self.jobs.values()) if x.ended is not None]
        ended.sort(key=lambda job: job.ended)
        oldest = time.time() - self.settings.keep
        for i, job in enumerate(ended):
            if job.ended < oldest or i < len(ended) - IN_MEMORY:
                self.jobs.pop(job.id, None)

    def _took(self, job: Job) -> None:
        job.at_end(self.metrics.ended)

    def client(self, asked: Asked) -> Client:
        """Who asks."""
        address = asked.client.host if asked.client else "local"
        return Client(address, asked.headers.get(NAME, "")[:100])

    async def finished(self, job: Job, asked: Asked) -> Job:
        """A job when it is done.

        Raises:
            Refused: If it has failed, or was cancelled by somebody else.
            Gone: If the client has left; the job is cancelled then.
        """
        try:
            async with Watching(job) as changes:
                while not job.has_ended:
                    await changes.next(LOOK)
                    if await asked.is_disconnected():
                        raise Gone
        except BaseException:
            self.queue.cancel(job)
            raise
        if job.error is not None:
            raise Refused(*job.error)
        return job


class Watching:
    """Changes of a job, for a coroutine.

    Args:
        job: It.
    """

    def __init__(self, job: Job):
        self._job, self._event = job, asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Watching:
        self._leave = self._job.watch(self._changed)
        return self

    async def __aexit__(self, *error) -> None:
        self._leave()

    def _changed(self, job: Job) -> None:
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            pass  # the loop has ended

    async def next(self, seconds: float) -> bool:
        """Whether something changes within so many seconds; returns as soon as so."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        self._event.clear()
        return True


def parsed(content: bytes):
    """The value of a request's JSON, whose texts can be written again.

    Raises:
        ValueError: If it is none, or has half of a surrogate pair, which is no text.
    """
    found = parse_json(content, "the body", "server_body")
    if _HALF.search(content):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise ValueError(
                f"A text of JSON must be Unicode. Received: {half}, half of a pair"
            ) from None
    return found


async def read_body(asked: Asked) -> dict:
    """The JSON object of a request.

    Raises:
        Refused: If it is none.
    """
    content = await asked.body()
    try:
        found = await run_in_threadpool(parsed, content)
    except ValueError as error:
        raise Refused(422, str(error)) from None
    if not isinstance(found, Mapping):
        raise Refused(422, "A request's body must be a JSON object.")
    return dict(found)
