"""What all engines have in common: batches given out, and taken back by record."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from kerasdiffusion.batch.asked import Broken, Item
from kerasdiffusion.batch.grouping import Batch
from kerasdiffusion.batch.index import FAILED, MACHINE, Run

#: How often a batch is begun again whose worker has ended under it.
TRIES = 3
#: Rows that may fail one after the other with nothing painted, by no fault of theirs.
IN_A_ROW = 200


class Lost(RuntimeError):
    """The worker has ended that had the batch."""


class Books:
    """Batches by their numbers: which are to be done, which are done.

    Args:
        engine: See `local.Local`.
        run: The `Run` that all is recorded in.
        groups: Lists of items, see `grouping.grouped`.
        told: Called with the records of each batch.
    """

    def __init__(
        self,
        engine,
        run: Run,
        groups: Iterable[Sequence[Item | Broken]],
        told: Callable[[list[dict]], None],
    ):
        self._engine, self._run, self._told = engine, run, told
        self._groups: Iterator = iter(groups)
        self._numbers, self._again = itertools.count(), deque()
        self._unpainted = 0

    def go(self) -> None:
        """Until all is recorded.

        Raises:
            PlaceError: If pictures cannot be written.
            RuntimeError: If nothing can be painted at all.
        """
        engine, more = self._engine, True
        try:
            while True:
                while more and engine.has_room:
                    batch = self._next()
                    if batch is None:
                        more = False
                    else:
                        engine.submit(batch)
                if not engine.busy and not more:
                    return
                for batch, found in engine.wait():
                    more |= self._take_back(batch, found)
        finally:
            # What is in hand is finished and recorded, whatever came between.
            while engine.busy:
                for _, found in engine.wait():
                    if isinstance(found, list):
                        self._told(found)

    def _next(self) -> Batch | None:
        if self._again:
            return self._again.popleft()
        items = next(self._groups, None)
        return None if items is None else Batch(next(self._numbers), list(items))

    def _take_back(self, batch: Batch, found) -> bool:
        """Settles what has ended; returns whether there is something to do again."""
        if isinstance(found, Lost):
            found = self._run.read(batch.number)
            if found is None:
                return self._begin_again(batch)
        if isinstance(found, BaseException):
            raise found
        self._told(found)
        self._look_at(found)
        return False

    def _begin_again(self, batch: Batch) -> bool:
        """A batch whose worker has ended: once more, then row by row, then never."""
        batch.tries += 1
        if batch.tries < TRIES:
            self._again.append(batch)
            return True
        # Its number is spent, so that nobody records it who was thought dead.
        error = f"The process that painted it has ended, {TRIES} times."
        told = {"status": FAILED, "error": error, "fault": MACHINE}
        alone = [{"name": x.name, "key": x.key, **told} for x in batch.items]
        alone = alone if len(alone) == 1 else []
        if not self._run.write(batch.number, alone):
            self._told(self._run.read(batch.number) or [])
            return False
        self._told(alone)
        if not alone:
            self._again += [
                Batch(next(self._numbers), [each], TRIES - 2) for each in batch.items
            ]
        return not alone

    def _look_at(self, records: Sequence[dict]) -> None:
        """Where everything fails, the machine is at fault, and the batch ends."""
        for each in records:
            failed = each.get("fault") == MACHINE
            self._unpainted = self._unpainted + 1 if failed else 0
            if self._unpainted >= IN_A_ROW:
                raise RuntimeError(
                    f"{IN_A_ROW} rows have failed one after the other; they are tried "
                    f"again with --retry-failed (`retry_failed=True`). The last: "
                    f"{each['error']}"
                )
