"""The queue before the one device: fair, bounded, and in batches."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.fairness import Fair
from kerasdiffusion.apps.server.work import CANCELLED, RUNNING, Client, Job, Piece

#: Seconds that are waited at most for what is just being handed in.
GATHER = 0.1
#: Share of the queue that clients of one address may fill.
OF_ONE = 0.5
#: The share of a larger batch that is enough for it.
_FULL = 0.75
#: Seconds for a unit of cost, until some have been measured.
_FIRST_RATE = 1e-6
#: The weight of the latest batch in the mean of what a unit takes.
_LATEST = 0.3


class Queue:
    """Pieces of jobs that wait, and in which order they go.

    The one whose client has had least is next; pieces that are like it go along in the
    same batch, and count for their own clients.

    Args:
        most: How many pieces may wait.

    Attributes:
        closed: Whether nothing more is taken in.
    """

    def __init__(self, most: int = 256):
        self.most, self.closed = most, False
        self._changed = threading.Condition()
        self._waiting: dict[Client, deque[Piece]] = {}
        self._addresses, self._names = Fair(), {}
        self._running: list[Piece] = []
        self._coming = 0
        self._rate = _FIRST_RATE

    def put(self, job: Job) -> None:
        """Has the pieces of a job wait.

        Raises:
            Refused: If too many wait, with 429; or the server ends, with 503.
        """
        with self._changed:
            if self.closed:
                raise Refused(503, "The server ends and takes nothing more.")
            there = sum(map(len, self._waiting.values()))
            address = job.client.address
            own = sum(len(x) for c, x in self._waiting.items() if c.address == address)
            room = self.most - there
            own_room = max(1, int(self.most * OF_ONE)) - own
            if len(job.pieces) > min(room, own_room):
                raise self._full(job, there, own, room < len(job.pieces))
            if job.client not in self._waiting:
                if own == 0:
                    self._addresses.join(address)
                self._names.setdefault(address, Fair()).join(job.client)
                self._waiting[job.client] = deque()
            self._waiting[job.client].extend(job.pieces)
            self._changed.notify()

    def _full(self, job: Job, there: int, own: int, is_full: bool) -> Refused:
        """What is said where there is no room for a job."""
        room, waiting = max(1, int(self.most * OF_ONE)), own
        if is_full:
            room, waiting = self.most, there
        return Refused(
            429,
            f"The queue has room for {room} pictures"
            f"{'' if is_full else ' of one address'}; ask again later. "
            f"Received: {len(job.pieces)} more, where {waiting} wait",
            Retry_After=self._retry_after(),
        )

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """Within it a request is read that may have pieces: a batch waits for them.

        Who asks alone does not wait; of many who ask at once none is painted alone.
        """
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify()

    def _gather(self, enough: int) -> None:
        """Waits a moment where more pieces are about to come than are there."""
        end = time.monotonic() + GATHER
        while self._waiting and self._coming and not self.closed:
            there = sum(map(len, self._waiting.values()))
            left = end - time.monotonic()
            if there >= enough or left <= 0.0:
                break
            self._changed.wait(left)

    def take(self, most: Callable[[Piece], int], enough: int = 1) -> list[Piece] | None:
        """The next batch; waits for one.

        Args:
            most: How many like a piece fit together.
            enough: With so many nobody is waited for who is still handing in.

        Returns:
            Pieces that go together, a power of two of them or little less; `None` when
            the queue is closed and empty.
        """
        with self._changed:
            while True:
                self._gather(enough)
                if self._waiting:
                    break
                if self.closed:
                    return None
                self._changed.wait()
            first = self._next(None)
            found = [first]
            if first.likeness is not None:
                found = self._like(first, most(first))
            for piece in found:
                self._leave(piece)
            self._running = found
        for job in {piece.job for piece in found}:
            if job.state != RUNNING and not job.has_ended:
                job.state = RUNNING
                job.tell()
        return found

    def done(self, seconds: float) -> None:
        """The batch that was taken is done, in so many seconds."""
        with self._changed:
            cost = sum(piece.cost for piece in self._running)
            if cost and seconds > 0.0:
                known = self._rate if self._rate != _FIRST_RATE else seconds / cost
                self._rate = (1 - _LATEST) * known + _LATEST * seconds / cost
            self._running = []

    def cancel(self, job: Job) -> None:
        """Ends a job: what waits leaves, what is painted stops within a step."""
        self.cancel_pieces(job)
        job.end(CANCELLED)

    def cancel_pieces(self, job: Job) -> None:
        """What waits of a job leaves."""
        with self._changed:
            pieces = self._waiting.get(job.client, deque())
            left = deque(piece for piece in pieces if piece.job is not job)
            if left:
                self._waiting[job.client] = left
            else:
                self._waiting.pop(job.client, None)
            self._forget()

    def close(self, drop: bool = True) -> list[Job]:
        """Takes nothing more in.

        Args:
            drop: Whether what waits leaves too; what is painted ends as it would.

        Returns:
            The jobs that leave.
        """
        with self._changed:
            self.closed = True
            running = {piece.job for piece in self._running}
            waiting = [piece for each in self._waiting.values() for piece in each]
            gone = {piece.job for piece in waiting} - running if drop else set()
            for client in list(self._waiting):
                left = deque(x for x in self._waiting[client] if x.job not in gone)
                if left:
                    self._waiting[client] = left
                else:
                    del self._waiting[client]
            self._changed.notify_all()
        return sorted(gone, key=lambda job: job.created)

    def position(self, job: Job) -> int:
        """How many pictures of others are ahead of a job's first, about."""
        with self._changed:
            ahead = 0
            for client, pieces in self._waiting.items():
                if client == job.client:
                    for piece in pieces:
                        if piece.job is job:
                            break
                        ahead += 1
                else:
                    ahead += sum(piece.job.created < job.created for piece in pieces)
            others = [piece for piece in self._running if piece.job is not job]
            return ahead + len(others)

    def seconds_left(self, job: Job) -> float:
        """How long a job takes from now, about."""
        own = sum(piece.cost for piece in job.pieces) * (1.0 - job.progress)
        with self._changed:
            ahead = sum(
                piece.cost
                for pieces in self._waiting.values()
                for piece in pieces
                if piece.job is not job and piece.job.created < job.created
            )
            return (own + ahead) * self._rate

    def counts(self) -> tuple[int, int]:
        """How many pieces wait, and how many are painted."""
        with self._changed:
            return sum(map(len, self._waiting.values())), len(self._running)

    def jobs(self) -> list[Job]:
        """Those that wait or are painted, the oldest first."""
        with self._changed:
            pieces = [piece for each in self._waiting.values() for piece in each]
            found = {piece.job for piece in [*pieces, *self._running]}
        return sorted(found, key=lambda job: job.created)

    def running(self) -> list[Job]:
        """Those that are painted."""
        with self._changed:
            return list(dict.fromkeys(piece.job for piece in self._running))

    def _next(self, likeness: tuple | None, taken=()) -> Piece | None:
        """The next piece of all, or of those of a likeness that are not taken."""

        def of(client):
            for piece in self._waiting[client]:
                if likeness is None or piece.likeness == likeness:
                    if piece not in taken:
                        return piece
            return None

        there = {client: piece for client in self._waiting if (piece := of(client))}
        if not there:
            return None
        address = self._addresses.next({client.address for client in there})
        own = [client for client in there if client.address == address]
        client = self._names[address].next(own)
        self._addresses.serve(address, there[client].cost)
        self._names[address].serve(client, there[client].cost)
        return there[client]

    def _like(self, first: Piece, most: int) -> list[Piece]:
        """A piece and others that go along with it, a power of two or little less."""
        same = sum(
            piece.likeness == first.likeness
            for each in self._waiting.values()
            for piece in each
        )
        same = max(1, min(same, most))
        count = 1 << int(math.log2(same))
        if 2 * count <= most and same >= _FULL * 2 * count:
            count = same  # the few that are missing cost less than two batches
        found = [first]
        while len(found) < count:
            found.append(self._next(first.likeness, found))
        return found

    def _leave(self, piece: Piece) -> None:
        client = piece.job.client
        self._waiting[client].remove(piece)
        if not self._waiting[client]:
            del self._waiting[client]
        self._forget()

    def _forget(self) -> None:
        """Those who have left and are owed nothing."""
        there = {client.address for client in self._waiting}
        self._addresses.forget(there)
        for address, names in list(self._names.items()):
            names.forget(self._waiting)
            if address not in there:
                del self._names[address]

    def _retry_after(self) -> int:
        """Whole seconds until about half of what waits is done."""
        cost = sum(x.cost for each in self._waiting.values() for x in each)
        return min(600, max(1, math.ceil(cost * self._rate / 2)))
