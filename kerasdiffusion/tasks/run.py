"""A run: the steps of a plan, which any face may drive, watch and stop."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
import threading
from collections.abc import Callable, Iterator

import numpy as np

from kerasdiffusion.compute.progress import Progress
from kerasdiffusion.compute.shortage import shortage_told
from kerasdiffusion.sampling.driver import GLANCE, Pace, Step
from kerasdiffusion.tasks.denoising import denoise
from kerasdiffusion.tasks.plan import Plan
from kerasdiffusion.tasks.previews import preview


class Run:
    """What a plan paints, step by step: an iterator of `sampling.driver.Step`.

    Nothing is computed before the first step is asked for. All that changes on the way
    is the run's own: a model may have several at once, in as many threads, and each
    gets the pictures that it would get alone. A run itself is driven by one thread;
    others may watch it (`latents`, `preview`) and `stop` it.

    Args:
        plan: What to paint, see `StableDiffusion.plan`.

    Attributes:
        plan: It.
        step: The latest `Step`; `None` ahead of the first.
        stopped: Whether `stop` or a callback has ended it ahead of time.

    Example:

    >>> model = StableDiffusion.from_preset("emoji")
    >>> request = Request(task="text_to_image", prompt="a red apple", num_steps=2)
    >>> run = model.run(request)
    >>> for step in run:
    ...     print(step.step, run.preview().shape)
    1 (1, 16, 16, 3)
    2 (1, 16, 16, 3)
    >>> run.pictures().shape, run.finished
    ((1, 128, 128, 3), True)
    """

    def __init__(self, plan: Plan):
        self.plan, self.step, self.stopped = plan, None, False
        self._done, self._pictures, self._error = 0, None, None
        self._pace, self._known, self._began = Pace(), {}, lambda: None
        self._driven, self._paints = threading.Lock(), self._paint()
        self._context = None

    def __len__(self) -> int:
        """Steps of the whole run, if nothing stops it."""
        return self.plan.num_steps

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        """The next step, computed.

        Raises:
            StopIteration: Behind the last, when the pictures are there; or as soon as
                the run is stopped.
            RuntimeError: If another thread drives the run, or an error has ended it.
        """
        if self.stopped or self._pictures is not None:
            raise StopIteration
        self._pace.each_step = True
        return self._next()

    def glances(
        self, seconds: float = GLANCE, known: dict[int, float] | None = None
    ) -> Iterator[Step]:
        """What is left of the run, in pieces of about so many seconds.

        One of slow steps is a step each, as by iterating; of fast ones a piece has
        several, and looking at them costs next to nothing.

        Args:
            seconds: How long a piece takes.
            known: What earlier runs of such a request have measured here, and this one
                does: no piece need then be short to find out. Empty at first.

        Yields:
            The `Step` that each ends with.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> request = Request(task="text_to_image", prompt="a cat", num_steps=3)
        >>> run = model.run(request)
        >>> for step in run.glances():
        ...     progress = run.done / len(run)
        >>> progress, run.pictures().shape
        (1.0, (1, 128, 128, 3))
        """
        self._pace.each_step = False
        self._pace.timed, self._pace.seconds = True, seconds
        self._known = {} if known is None else known
        while not self.stopped and self._pictures is None:
            try:
                yield self._next()
            except StopIteration:
                return

    @property
    def finished(self) -> bool:
        """Whether the pictures are there and the run was not stopped."""
        return self._pictures is not None and not self.stopped

    @property
    def done(self) -> int:
        """How many of its steps are done; of a batch, each counts once."""
        return self._done

    @property
    def latents(self) -> np.ndarray | None:
        """What is painted, as noisy as it is: float32 `(batch, h, w, channels)`.

        Of variance 1; `None` ahead of the first step. Where a task paints in several
        loops, it is the present one's.
        """
        step = self.step
        return None if step is None else step.latents

    def preview(self) -> np.ndarray | None:
        """A cheap picture of what the network takes for the result.

        Where a tiny autoencoder is loaded, it is decoded. Otherwise each latent is a
        pixel, by a linear map fitted for the family of models.

        Returns:
            uint8 array of shape `(batch, height, width, 3)`; `None` ahead of the first
            step.
        """
        step = self.step
        return None if step is None else preview(self.plan.model, step.denoised)

    def stop(self) -> None:
        """Ends the run behind the step that is under way; from any thread.

        `pictures` are then what there is, as noisy as it is.
        """
        if self._pictures is None:
            self.stopped = True

    def pictures(
        self,
        callback: Callable[[Step], bool | None] | None = None,
        progress_bar: bool = False,
    ) -> np.ndarray:
        """Runs what is left of the steps, and returns the pictures.

        Without a callback and a bar, a loop is one call of a compiled program.

        Args:
            callback: Called with each `Step`; returning `False` stops the run.
            progress_bar: Whether what takes long shows a bar.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Raises:
            RuntimeError: If another thread drives the run, or an error has ended it.
            MemoryError: If memory ends; the model is as it was.
        """
        self._pace.each_step, self._pace.timed = callback is not None, progress_bar
        with Progress(len(self), "step", progress_bar, ahead="preparing") as bar:
            self._began = bar.begin
            while self._pictures is None:
                try:
                    step = self._next()
                except StopIteration:
                    break
                bar.to(self._done)
                if callback is not None and callback(step) is False:
                    self.stopped = True
        return self._pictures

    def _next(self) -> Step:
        if self._error is not None:
            raise RuntimeError("The run has ended by an error") from self._error
        if not self._driven.acquire(blocking=False):
            raise RuntimeError("Another thread drives this run; it may be watched")
        if self._context is None:
            self._context = contextvars.copy_context()
        try:
            # What a run sets on its way, its adapters, is not seen between its steps.
            with shortage_told():
                return self._context.run(next, self._paints)
        except StopIteration:
            raise
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._driven.release()

    def _paint(self) -> Iterator[Step]:
        """The steps of all loops; at the end there are pictures."""
        request = self.plan.request
        with contextlib.ExitStack() as asking:
            asking.enter_context(self.plan.model._asking(request.adapters))
            if request.refiner is not None:
                asking.enter_context(request.refiner._asking())
            yield from self._loops()

    def _loops(self) -> Iterator[Step]:
        painting, latents = self.plan.paint(self), None
        for number in itertools.count():
            try:
                loop = painting.send(latents)
            except StopIteration as end:
                self._pictures = end.value
                return
            before = self._done
            self._pace.row = self._known.get(number, math.inf)
            for step in denoise(loop, self._pace, self._began):
                self.step, self._done = step, before + step.step
                yield step
                if self.stopped:
                    break
            self._known[number] = self._pace.row
            self._began = lambda: None
            latents = self.step.latents
