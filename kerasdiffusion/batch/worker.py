"""What paints, writes and records batches, whichever engine has it.

In this order: the pictures are painted; each is written, whole; the batch is recorded,
at once. Whatever ends the process, what has a record has its pictures, and what has
none is painted again: of a worker at most the batch that was being written, and the
one that was being painted.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kerasdiffusion.batch.asked import Broken, Item
from kerasdiffusion.batch.grouping import Batch
from kerasdiffusion.batch.index import DONE, FAILED, MACHINE, ROW, Run
from kerasdiffusion.batch.painter import make_painter

log = logging.getLogger("kerasdiffusion.batch")

#: Threads that encode and write.
WRITERS = 4
_FULL = (errno.ENOSPC, errno.EDQUOT)


class PlaceError(OSError):
    """Pictures or records cannot be written: not a row's fault, and the batch stops."""

    def __str__(self) -> str:
        return str(self.strerror)  # a sentence, without a number ahead


class Worker:
    """Paints batches, two at a time: one is painted while the last is written.

    Args:
        make: Makes the model, or what stands for it, see `painter.make_painter`.
        name: What the model is called.
        run: The `Run` that batches are recorded in.
        place: Where pictures go, see `places`.
    """

    def __init__(self, make: Callable, name: str, run: Run, place):
        self.painter, self.run, self.place = make_painter(make, name), run, place
        self._device, self._writing = threading.Lock(), threading.Lock()
        self._writers = ThreadPoolExecutor(WRITERS, "writer")

    def begin(self) -> dict[str, str]:
        """Reads the weights; returns the fingerprint of the model."""
        self.painter.begin()
        return self.painter.fingerprint()

    def work(self, batch: Batch) -> list[dict]:
        """Paints, writes and records a batch.

        Args:
            batch: Of one likeness. Where it is recorded already, nothing is done.

        Returns:
            The records.

        Raises:
            PlaceError: If something cannot be written; nothing is recorded then.
            Superseded: If another run has begun.
        """
        there = self.run.read(batch.number)
        if there is not None:
            return there
        began = time.monotonic()
        painted: list = [None] * len(batch.items)
        with self._device:
            if not batch.is_broken:
                painted = self._paint(batch.items)
            # Until here the one before must be recorded: no more than it and this one
            # are ever painted without a record.
            self._writing.acquire()
        try:
            seconds = (time.monotonic() - began) / len(batch.items)
            records = list(
                self._writers.map(
                    lambda item, found: self._written(item, found, seconds),
                    batch.items,
                    painted,
                )
            )
            if not self.run.write(batch.number, records):
                records = self.run.read(batch.number) or records
            return records
        except OSError as error:
            raise _told(error, self.run.folder) from error
        finally:
            self._writing.release()

    def _paint(self, items: Sequence[Item]) -> list[np.ndarray | Exception]:
        """Pictures, or why not: without those at fault, and else by halves."""
        try:
            return self.painter.paint(items)
        except Exception as error:  # whatever it is, the next are painted
            if len(items) == 1:
                return [error]
            told = f"{type(error).__name__}: {error}"[:500]
        faults = [self.painter.fault(item) for item in items]
        if any(faults):
            good = [x for x, own in zip(items, faults, strict=True) if own is None]
            painted = iter(self._paint(good) if good else ())
            return [next(painted) if own is None else own for own in faults]
        log.warning("A batch of %d is painted by halves (%s)", len(items), told)
        half = len(items) // 2
        return self._paint(items[:half]) + self._paint(items[half:])

    def _written(self, item: Item | Broken, found, seconds: float) -> dict:
        """The record of an item whose pictures are on the disk, or of its error."""
        record = {"name": item.name, "key": item.key}
        if isinstance(item, Broken):
            told = {"status": FAILED, "error": item.error, "fault": ROW}
            return {**record, **told, **_kept(item)}
        if isinstance(found, Exception):
            error = " ".join(str(found).split())[:2000]
            expected = isinstance(found, (ValueError, TypeError, OSError)) and error
            error = error if expected else f"{type(found).__name__}: {error}"
            told = {"status": FAILED, "error": error}
            told["fault"] = ROW if expected else MACHINE
            return {**record, **told, **item.told, **_kept(item)}
        texts = self.painter.described(item, found)
        told = {"status": DONE, **self.place.write(item, found, texts)}
        told["seconds"] = round(seconds, 4)
        return {**record, **told, **item.told, **_kept(item)}


def _kept(item) -> dict:
    return {"kept": item.kept} if item.kept else {}


def _told(error: OSError, place) -> OSError:
    """The one sentence for what cannot be written."""
    if isinstance(error, PlaceError):
        return error
    if error.errno in _FULL:
        rule = "The disk is full: what is recorded stays"
    else:
        rule = f"Pictures must be written to be recorded ({error.strerror or error})"
    return PlaceError(
        error.errno or errno.EIO,
        f"{rule}, and the same command goes on from there. Received: "
        f"{error.filename or place}",
    )
