"""Turns: who may use what is serial, in the order of asking."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class _Ticket:
    """A place in the queue: locked until its owner is done."""

    def __init__(self):
        self.lock, self.before = threading.Lock(), None
        self.lock.acquire()


class Turn:
    """A lock that threads get in the order in which they asked for it.

    Python's own go to whoever is quickest, which may be the same one for ever. The one
    that has the turn may ask again. Whoever is interrupted while waiting leaves the
    queue, and nobody passes those ahead.

    Example:

    >>> turn = Turn()
    >>> with turn(), turn():
    ...     print("mine")
    mine

    Reference:
        Scott 2002, "Non-blocking Timeout in Scalable Queue-Based Spin Locks": each
        waits for the one ahead, or for whom that one left when it gave up.
    """

    def __init__(self):
        self._queue, self._last, self._holder = threading.Lock(), None, None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Within it, the turn is the thread's."""
        me = threading.get_ident()
        if self._holder == me:
            yield
            return
        ticket = _Ticket()
        try:
            with self._queue:
                ticket.before, self._last = self._last, ticket
            while ticket.before is not None:
                with ticket.before.lock:  # nobody else waits for this one
                    pass
                ticket.before = ticket.before.before
            self._holder = me
            yield
        finally:
            if self._holder == me:
                self._holder = None
            ticket.lock.release()
