"""The engine that needs nothing else: one worker, in this process."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from kerasdiffusion.batch.grouping import Batch
from kerasdiffusion.batch.worker import Worker

#: Batches in a worker's hands: one that is painted, one that is written.
IN_HAND = 2


class Local:
    """Has batches painted by this process.

    An engine is what has these methods; `ray_engine` has the other.

    Args:
        worker: The `Worker`.
    """

    def __init__(self, worker: Worker):
        self._worker = worker
        self._threads = ThreadPoolExecutor(IN_HAND, "batch")
        self._in_hand: dict[Future, Batch] = {}

    def begin(self) -> dict[str, str]:
        """Has the model read; returns its fingerprint."""
        return self._worker.begin()

    @property
    def busy(self) -> int:
        """Batches that are in the hands of workers."""
        return len(self._in_hand)

    @property
    def has_room(self) -> bool:
        """Whether a worker takes another batch now."""
        return self.busy < IN_HAND

    def submit(self, batch: Batch) -> None:
        """Gives a batch to a worker that has room."""
        self._in_hand[self._threads.submit(self._worker.work, batch)] = batch

    def wait(self) -> list[tuple[Batch, list[dict] | Exception]]:
        """Batches that have ended, at least one where any is in hand.

        Returns:
            Each with its records, or with the error that ended it: an
            `engines.Lost` where its worker has ended.
        """
        ended, _ = wait(self._in_hand, return_when=FIRST_COMPLETED)
        found = []
        for each in ended:
            batch = self._in_hand.pop(each)
            found.append((batch, each.exception() or each.result()))
        return found

    def close(self) -> None:
        """Lets go of the workers, when what they have in hand has ended."""
        self._threads.shutdown(wait=True)
