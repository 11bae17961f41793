"""Who looks at the page: tabs of browsers, and what each asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kerasdiffusion.apps.server.core import Core
from kerasdiffusion.apps.server.work import Client, Job

API = "page"
#: What a client's name begins with that is a browser.
BROWSER = "page-"
#: Seconds that a browser may be away before what is painted for it ends.
AWAY = 15.0


class Shown(NamedTuple):
    """A picture that is shown: its job, its number, its file, its text, its size.

    Height and width are the file's own: of two passes, the text has the first one's.
    """

    id: str
    number: int
    path: Path
    text: dict
    size: tuple[int, int]


@dataclass
class Session:
    """A tab.

    Attributes:
        client: Its browser.
        jobs: What it waits for.
        shown: The pictures in its gallery, the latest first.
        chosen: Which of them is chosen.
        past: Those in its history.
        picked: Which of those.
        seen: How many later ones it has passed over.
    """

    client: Client
    jobs: list[Job] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    chosen: int = 0
    past: list[Shown] = field(default_factory=list)
    picked: int = 0
    seen: int = 0


class Sessions:
    """All tabs; when a browser's last one has gone, what it asked for ends.

    Args:
        core: The server's parts.
        away: Seconds that it has to come back, as it does when it reloads.
    """

    def __init__(self, core: Core, away: float = AWAY):
        self._core, self.away = core, away
        self._there: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, hash: str, client: Client | None) -> Session | None:
        """The session of a tab, with what its browser waits for where it is new.

        Args:
            hash: Which tab.
            client: Its browser; `None` where that has not said its name yet.
        """
        with self._lock:
            found = self._there.get(hash)
            if client is None:
                return found
            if found is None:
                found = self._there[hash] = Session(client)
                found.jobs = self.jobs_of(client)
            found.client = client
            return found

    def jobs_of(self, client: Client) -> list[Job]:
        """What waits or is painted for a browser."""
        jobs = self._core.queue.jobs()
        return [job for job in jobs if job.client == client and job.api == API]

    def leave(self, hash: str) -> None:
        """A tab has been closed, or is loaded anew."""
        with self._lock:
            session = self._there.pop(hash, None)
        if session is not None and self.jobs_of(session.client):
            timer = threading.Timer(self.away, self._end, (session.client,))
            timer.daemon = True
            timer.start()

    def _end(self, client: Client) -> None:
        with self._lock:
            if any(each.client == client for each in self._there.values()):
                return
        self.cancel(self.jobs_of(client))

    def cancel(self, jobs: list[Job], only: Callable[[Job], bool] = bool) -> None:
        """Ends jobs within a step."""
        for job in jobs:
            if only(job) and not job.has_ended:
                self._core.queue.cancel(job)
