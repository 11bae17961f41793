"""The one thread that has the device: takes batches from the queue and paints them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.apps.server.queue import Queue
from kerasdiffusion.apps.server.work import DONE, FAILED, Job, Piece
from kerasdiffusion.prompts.chunks import power_of_two
from kerasdiffusion.sampling.driver import GLANCE
from kerasdiffusion.tasks.batches import filled_up
from kerasdiffusion.tasks.previews import preview
from kerasdiffusion.tasks.sized import Sized

log = logging.getLogger("kerasdiffusion.server")

#: Pictures of a batch at most, and of large ones: together they fill any device.
BATCH, BATCH_OF_LARGE = 16, 8
#: Pixels of a batch beyond which pictures are large.
PIXELS = 2**21
#: Kinds of batches of which is known how long a step takes.
_KINDS = 64
#: Activations take some times the least that `networks.room` knows of.
_TIMES = 8
#: What a client is told of an error that is not of its making.
_FAILED = "Painting has failed; the server's log says why."
_NO_ROOM = "There must be enough memory for what is asked: ask for smaller pictures."


class Painter(threading.Thread):
    """Paints what the queue gives, one batch after the other.

    Args:
        queue: The `Queue`.
        models: The `Models`.
        most: Pictures of a batch at most; by default `BATCH`, or `BATCH_OF_LARGE`.
        finished: Called with each batch that is done: its pieces and its seconds.

    Attributes:
        glance: Seconds between looks at who has left and how far it is; a step, where
            that takes longer.
    """

    def __init__(
        self,
        queue: Queue,
        models: Models,
        most: int | None = None,
        finished: Callable[[Sequence[Piece], float], None] = lambda *_: None,
    ):
        super().__init__(name="painter", daemon=True)
        self.queue, self.models, self.most = queue, models, most
        self._finished, self._fits, self.glance = finished, {}, GLANCE
        self._known: dict[tuple, dict[int, float]] = {}

    def run(self) -> None:
        """Until the queue is closed and empty."""
        enough = self.most or BATCH
        while (pieces := self.queue.take(self._most, enough)) is not None:
            began = time.monotonic()
            try:
                self._paint([each for each in pieces if not each.job.has_ended])
            except Exception as error:  # whatever it is, the next are painted
                for piece in pieces:
                    self._fail(piece, error, False)
            finally:
                seconds = time.monotonic() - began
                self.queue.done(seconds)
                self._finished(pieces, seconds)

    def _most(self, piece: Piece) -> int:
        """How many like a piece fit in memory together."""
        small = BATCH * piece.pixels <= PIXELS
        most = self.most or (BATCH if small else BATCH_OF_LARGE)
        known = self._fits.get(piece.likeness, most)
        return max(1, min(known, int(free_bytes() // max(1, _TIMES * piece.bytes))))

    def _paint(self, pieces: list[Piece]) -> None:
        """Paints pieces together; those that fail together are tried by halves."""
        if not pieces:
            return
        try:
            self._paint_together(pieces)
        except Exception as error:
            left = [each for each in pieces if not each.job.has_ended]
            short = isinstance(error, MemoryError) or "OOM" in str(error)[:2000]
            if len(left) > 1:
                half = len(left) // 2
                if short:
                    self._fits[left[0].likeness] = max(1, half)
                self._paint(left[:half])
                self._paint(left[half:])
                return
            for piece in left:
                self._fail(piece, error, short)

    def _fail(self, piece: Piece, error: Exception, short: bool) -> None:
        """Ends a job whose picture cannot be painted; the log has no prompt."""
        if isinstance(error, Refused):
            told = error.status, error.message
        elif short:
            told = 507, _NO_ROOM
        elif isinstance(error, (ValueError, TypeError)):
            told = 422, self.models.without_places(str(error))
        else:
            told = 500, _FAILED
            # (The message of an error may quote what was asked.)
            log.error("A %s job failed: %s", piece.job.api, type(error).__name__)
            log.debug("It was this", exc_info=error)
        self.queue.cancel_pieces(piece.job)
        piece.job.end(FAILED, told)

    def _paint_together(self, pieces: list[Piece]) -> None:
        job = pieces[0].job
        model = self._model(job.model)
        view = Sized(model, *job.size) if job.size else model
        size = power_of_two(len(pieces))
        run = view.run(filled_up([each.request for each in pieces]))
        for i, piece in enumerate(pieces):
            piece.job._look = _looker(view, run, i)
        before = {piece.job: piece.job.step for piece in pieces}
        for _ in run.glances(self.glance, self._known_of(pieces[0], size)):
            for own in before:
                share = sum(piece.job is own for piece in pieces)
                own.step = before[own] + run.done * share
                own.tell()
            self._heed(view, run, pieces)
        self.models.used(job.model)
        if not all(piece.job.has_ended for piece in pieces):
            pictures = run.pictures()
            each = len(pictures) // size
            for i, piece in enumerate(pieces):
                if piece.pictures is None:
                    piece.pictures = pictures[i * each : (i + 1) * each]
        for own in before:
            self._settle(own)

    def _known_of(self, piece: Piece, size: int) -> dict[int, float]:
        """How long steps of such a batch took, for `Run.glances` to use and update."""
        if piece.likeness is None:
            return {}
        known = self._known.pop((piece.likeness, size), {})
        self._known[piece.likeness, size] = known  # the latest is the last
        if len(self._known) > _KINDS:
            del self._known[next(iter(self._known))]
        return known

    def _heed(self, view, run, pieces: list[Piece]) -> None:
        """Between two steps: who has left, and who wants what there is."""
        left = [piece for piece in pieces if not piece.job.has_ended]
        wanted = [x for x in left if x.job.interrupted or x.job.skipped]
        if len(wanted) == len(left):
            run.stop()
        elif wanted and pieces[0].request.task == "text_to_image":
            # (Other tasks lay the picture back into another: they go on to the end.)
            for piece in wanted:
                i = pieces.index(piece)
                if piece.pictures is None:
                    piece.pictures = view.decode_all(run.latents[i : i + 1])
            for job in {piece.job for piece in wanted}:
                self._settle(job)

    def _settle(self, job: Job) -> None:
        """A batch has ended for a job; so has the job, if that was the last."""
        job._look, job.skipped = None, False
        if job.interrupted:
            self.queue.cancel_pieces(job)
        if job.interrupted or all(x.pictures is not None for x in job.pieces):
            job.end(DONE)

    def _model(self, name: str):
        """A model with its weights in memory."""
        model = self.models.use(name)
        if not model.low_memory:
            try:
                model.build()
            except (ValueError, OSError) as error:
                log.error("The model %r cannot be read: %s", name, error)
                self.models.unload(name)
                raise Refused(500, f"The model {name!r} cannot be read.") from None
        return model


def _looker(view, run, i: int) -> Callable[[], np.ndarray | None]:
    """What shows one picture of a run."""

    def look():
        step = run.step
        return None if step is None else preview(view, step.denoised[i : i + 1])[0]

    return look


def free_bytes() -> int:
    """What could still be had of this machine's memory; a lot where nobody says."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 2**62
