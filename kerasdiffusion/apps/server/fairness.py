"""Whose turn it is: start-time fair queueing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


class Fair:
    """Shares what is served evenly among those who wait.

    Each has a time of its own, which what it is served moves on by the cost. Next is
    who is furthest behind; who comes back has saved nothing up while away.

    Example:

    >>> fair = Fair()
    >>> for name in "ab":
    ...     fair.join(name)
    >>> fair.serve("a", 3.0)
    >>> fair.next("ab")
    'b'

    Reference:
        Goyal, Vin and Cheng 1996, "Start-time Fair Queueing: A Scheduling Algorithm for
        Integrated Services Packet Switching Networks".
    """

    def __init__(self):
        self._times: dict[Hashable, tuple[float, int]] = {}
        self._now, self._count = 0.0, 0

    def join(self, name: Hashable) -> None:
        """Somebody waits who did not."""
        time, _ = self._times.get(name, (0.0, 0))
        self._count += 1
        self._times[name] = max(time, self._now), self._count

    def serve(self, name: Hashable, cost: float) -> None:
        """Somebody is served; `cost` is how much of the device it takes."""
        time, count = self._times[name]
        self._now = max(self._now, time)
        self._times[name] = time + cost, count

    def next(self, names: Iterable[Hashable]) -> Hashable:
        """Who is furthest behind; among equals, who came first."""
        return min(names, key=lambda name: self._times[name])

    def forget(self, waiting: Iterable[Hashable]) -> None:
        """Leaves out those who are neither waiting nor ahead of the others."""
        waiting = set(waiting)
        self._times = {
            name: own
            for name, own in self._times.items()
            if name in waiting or own[0] > self._now
        }
