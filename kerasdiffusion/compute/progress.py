"""A bar for what takes long: it appears when its time has come, and counts honestly."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

#: Seconds after which a bar appears, and from which to which it shows the time that
#: what comes ahead has taken.
PATIENCE, TICK = 2.0, 10.0


class Progress:
    """A bar over some of a kind; what takes no time never shows one.

    What comes ahead of the first (weights that are read, a program that is compiled) is
    shown as a word and counts for nothing. Bars of several threads have a line each.

    Args:
        total: How many there are.
        unit: One of them.
        show: Whether there is a bar at all.
        ahead: What is done first, in a word or two.
        first: How many are done when it begins, which count for no time.

    Example:

    >>> with Progress(3, "picture", show=False) as bar:
    ...     bar.begin()
    ...     bar.to(1)
    """

    def __init__(
        self,
        total: int,
        unit: str,
        show: bool = True,
        ahead: str = "",
        first: int = 0,
    ):
        self._total, self._unit, self._said = total, unit, ahead
        self._first, self._told = first, ""
        self._done, self._began, self._bar = first, time.time(), None
        self._due, self._lock, self._timer = None, threading.RLock(), None
        if show:
            self._due = time.monotonic() + PATIENCE

    def __enter__(self) -> Progress:
        # A notebook shows what its own thread draws.
        if self._due is not None and not _in_a_notebook():
            self._ticks(PATIENCE)
        return self

    def _ticks(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._tick)
        self._timer.daemon = True
        self._timer.start()

    def _tick(self) -> None:
        with self._lock:
            self._draw()
            if self._said and self._due is not None:
                if self._bar is not None:
                    self._bar.refresh()
                self._ticks(TICK)

    def __exit__(self, *error) -> None:
        with self._lock:
            self._due, timer = None, self._timer
        if timer is not None:
            timer.cancel()
            timer.join()  # what still writes as the interpreter ends aborts it
        with self._lock:
            if self._bar is not None:
                self._bar.close()

    def begin(self) -> None:
        """What came ahead is done: from now on they count."""
        with self._lock:
            self._said, self._began = "", time.time()
            if self._bar is not None:
                self._bar.start_t = self._bar.last_print_t = self._began
                self._bar.set_description_str(None)

    def to(self, done: int, told: str = "") -> None:
        """So many are done, and what is told of the last."""
        with self._lock:
            self._done, self._told = done, told
            self._draw()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within it, lines are printed that the bar must not stand in."""
        with self._lock:
            if self._bar is None:
                yield
                return
            with type(self._bar).external_write_mode():
                yield

    def _draw(self) -> None:
        with self._lock:
            if self._due is None or time.monotonic() < self._due - 0.05:
                return
            if self._bar is None:
                from tqdm.auto import tqdm  # not needed by what is soon done

                self._bar = tqdm(
                    total=self._total,
                    unit=self._unit,
                    desc=self._said or None,
                    leave=None,
                    initial=self._first,
                )
                self._bar.start_t = self._began
            if self._told:
                self._bar.set_postfix_str(self._told, refresh=False)
            self._bar.update(self._done - self._bar.n)


def _in_a_notebook() -> bool:
    """Whether this process is a notebook's kernel, not one that has imported one."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
