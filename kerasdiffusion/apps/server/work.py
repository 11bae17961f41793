"""Jobs and their pieces: what a client asked for, and how far it is."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kerasdiffusion.requests.request import Request

QUEUED, RUNNING, DONE, FAILED, CANCELLED = (
    *("queued", "running", "done", "failed"),
    "cancelled",
)
ENDED = (DONE, FAILED, CANCELLED)


class Client(NamedTuple):
    """Who asks.

    Args:
        address: Where from; clients of one address share one share.
        name: What it calls itself beside that.
    """

    address: str
    name: str = ""


@dataclass(eq=False)
class Piece:
    """What is painted at once of a job: a picture, or a walk's.

    Args:
        job: Whose.
        index: Its place among the pieces.
        request: A `Request`.
        likeness: What pieces that go together have in common; `None` if it goes alone.
        cost: How much of the device it takes: pixels times steps.
        bytes: The least of memory that it takes.
        pixels: Of its picture, where it is largest.
    """

    job: Job
    index: int
    request: Request
    likeness: tuple | None
    cost: float
    bytes: int = 0
    pixels: int = 0
    pictures: np.ndarray | None = None


@dataclass(eq=False)
class Job:
    """What a client asked for.

    Attributes:
        request: All of it, with seeds.
        model: The model's name.
        size: Height and width; `None` for the model's own.
        client: Who asks.
        state: One of `QUEUED`, `RUNNING`, `DONE`, `FAILED`, `CANCELLED`.
        error: What went wrong, for the client.
        interrupted: Whether the client wants what there is, as noisy as it is.
        skipped: The same, of the pictures that are being painted alone.
        is_lost: Whether its result could not be written; it is in memory then.
    """

    request: Request
    model: str
    client: Client
    size: tuple[int, int] | None = None
    api: str = "jobs"
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = QUEUED
    pieces: list[Piece] = field(default_factory=list)
    error: tuple[int, str] | None = None
    interrupted: bool = False
    skipped: bool = False
    is_lost: bool = False
    created: float = field(default_factory=time.time)
    ended: float | None = None
    step: float = 0.0
    steps: int = 0
    _watchers: list[Callable] = field(default_factory=list)
    _enders: list[Callable] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _look: Callable | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    @property
    def progress(self) -> float:
        """The share of its steps that are done."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    @property
    def pictures(self) -> list[np.ndarray]:
        """The pictures that are there, in their order."""
        there = [piece.pictures for piece in self.pieces if piece.pictures is not None]
        return [picture for each in there for picture in each]

    def watch(self, watcher: Callable[[Job], None]) -> Callable[[], None]:
        """Has a function called at each change, in the thread that made it.

        Returns:
            A function that ends this.
        """
        with self._lock:
            self._watchers.append(watcher)

        def leave():
            with self._lock:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)

        return leave

    def at_end(self, function: Callable[[Job], None]) -> None:
        """Has a function called once, when the job ends; at once if it has."""
        with self._lock:
            if not self.has_ended:
                self._enders.append(function)
                return
        function(self)

    def tell(self) -> None:
        """Something has changed."""
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher(self)

    def end(self, state: str, error: tuple[int, str] | None = None) -> bool:
        """The job has ended so, if it had not otherwise.

        Returns:
            Whether it is so now.
        """
        with self._lock:
            if self.has_ended:
                return False
            self.state, self.error, self.ended = state, error, time.time()
            self._look, enders = None, self._enders
        self.tell()
        for function in enders:
            function(self)
        return True

    def preview(self) -> np.ndarray | None:
        """A cheap picture of what is being painted, uint8; `None` if nothing is."""
        look = self._look
        return None if look is None else look()
