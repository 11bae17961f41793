"""A run in a folder: step by step, killed at any moment, and gone on with.

| in the folder | |
| --- | --- |
| `config.json` | what the run is made from |
| `log.csv` | a row a step |
| `samples/` | pictures on the way |
| `sheet.png` | all of them, in the end |
| `state.safetensors` | all that the next step needs, as it was last written |
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion.compute import backend, devices, hosts
from kerasdiffusion.compute.progress import Progress
from kerasdiffusion.pictures import write
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.locks import locked
from kerasdiffusion.storage.whole import clear_leftovers, write_whole
from kerasdiffusion.training.checkpoints import LOG, claim, cut_log
from kerasdiffusion.training.lessons.sheets import averaged, contact_sheet
from kerasdiffusion.training.lessons.states import STATE, read_state, write_state

CONFIG, SAMPLES, SHEET = "config.json", "samples", "sheet.png"
COLUMNS = ("step", "epoch", "loss", "validation_loss", "learning_rate", "seconds")
_NOWHERE = Path(os.devnull)
#: Steps after the first whose median is how long one takes.
MEASURED = 3


@dataclass
class Run:
    """Teaches step by step, and keeps what the next step needs.

    A folder belongs to one run. Where it was stopped, however that was, the same run
    goes on: with the batches, the draws and the optimizer that it would have had.

    Args:
        folder: The run's; made where it is missing.
        trainer: A compiled `keras.Model` whose `train_on_batch` takes the batches.
        batches: Gives the batch of a number: `FolderBatches`.
        steps: Steps of the whole run.
        made: What the run is made from, as JSON has it: with another, the folder is
            another run's.
        may_change: What of that may be another when the run goes on.
        save_every: Steps from one state to the next; by default by the clock alone.
        save_minutes: Minutes from one state to the next.
        paint: Gives pictures of what is taught so far, uint8, one for each prompt.
        sample_every: Steps from one sheet to the next; 0 paints in the end alone.
        validate: Gives the loss of pictures that are not taught.
        validate_every: Steps from one to the next.
        report: Is given a line at a time.
        progress_bar: Whether there is a bar.
        is_first: Whether this process writes; others that learn with it only read.
    """

    folder: Path
    trainer: keras.Model
    batches: object
    steps: int
    made: dict = field(default_factory=dict)
    may_change: tuple[str, ...] = ()
    save_every: int | None = None
    save_minutes: float = 5.0
    paint: Callable[[], np.ndarray] | None = None
    sample_every: int = 0
    validate: Callable[[], float] | None = None
    validate_every: int = 100
    report: Callable[[str], None] = print
    progress_bar: bool = True
    is_first: bool = True

    def go(self) -> int:
        """Runs to the end, from where it was.

        Returns:
            The step that it began with; as many as `steps` if all was done.

        Raises:
            BlockingIOError: If another run is at work in the folder.
            ValueError: If the folder is another run's, or a loss is no number.
            KeyboardInterrupt: If it was interrupted; it can be gone on with.
            OSError: If the disk is full; it can be gone on with.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"A run needs a folder. Received: {self.folder}")
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = locked(self.folder, "A training run")
        with lock if self.is_first else contextlib.nullcontext():
            if self.is_first:
                clear_leftovers(self.folder)
                claim(self.folder, self.made, CONFIG, self.may_change)
            hosts.wait("the state")
            done = self._saved = self._resume()
            try:
                with _stopping_between_steps() as is_stopped:
                    self._teach(done, is_stopped)
            except OSError as error:
                raise OSError(
                    f"A run needs to write to its folder ({error.strerror or error}). "
                    f"It stands at step {self._saved}: once there is room, the same "
                    f"command goes on from there. Received: {self.folder}"
                ) from error
            if self.paint is not None:
                contact_sheet(self.folder / SAMPLES, self.folder / SHEET)
        return done

    def _resume(self) -> int:
        """The state that was written last, and a log and samples that go as far."""
        self.trainer.optimizer.build(self.trainer.trainable_variables)
        done = read_state(self.folder / STATE, self.trainer)
        if not self.is_first:
            return done
        cut_log(self.folder / LOG, done + 1, COLUMNS[0])
        for file in (self.folder / SAMPLES).glob("*-step-*.png"):
            step = file.stem.rpartition("-")[2]
            if step.isdigit() and int(step) > done:
                file.unlink()
        return done

    def _teach(self, done: int, is_stopped: Callable[[], bool]) -> None:
        times, self._due = [], time.monotonic() + 60.0 * self.save_minutes
        bar = Progress(
            self.steps,
            "step",
            self.progress_bar,
            "the first step makes the program of all",
            done,
        )
        place = self.folder / LOG if self.is_first else _NOWHERE
        with bar, _Log(place) as log:
            for number in range(done, self.steps):
                row = self._step(number)
                times.append(row["seconds"])
                bar.begin() if number == done else None
                step = number + 1
                if self.validate is not None and self._is_due(
                    step, self.validate_every
                ):
                    row["validation_loss"] = self.validate()
                log.write(row)
                bar.to(step, f"loss {row['loss']:.4f}")
                if len(times) == 1 + MEASURED:
                    with bar.aside():
                        self._say_how_long(times, step)
                if self.paint is not None and self._is_due(step, self.sample_every):
                    self._sample(step)
                if self._is_to_save(step) or is_stopped():
                    log.sync()
                    self._save(step)
                if is_stopped() and step < self.steps:
                    raise KeyboardInterrupt

    def _step(self, number: int) -> dict:
        began = time.perf_counter()
        batch = self.batches.batch(number)
        self.trainer.reset_metrics()
        logs = self.trainer.train_on_batch(batch, return_dict=True)
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise ValueError(
                "A loss must be a number: a lower learning rate, or precision float32, "
                f"keeps it one. Received: {loss} at step {number + 1}; the state of "
                f"step {self._saved} is kept in {self.folder}"
            )
        rate = self.trainer.optimizer.learning_rate
        return {
            "step": number + 1,
            "epoch": self.batches.epoch_at(number),
            "loss": loss,
            "learning_rate": float(backend.to_numpy(rate)),
            "seconds": round(time.perf_counter() - began, 4),
        }

    def _is_due(self, step: int, every: int) -> bool:
        return step == self.steps or (every > 0 and step % every == 0)

    def _is_to_save(self, step: int) -> bool:
        by_count = self.save_every is not None and step % self.save_every == 0
        return by_count or step == self.steps or time.monotonic() >= self._due

    def _save(self, step: int) -> None:
        if not self.is_first:
            return
        write_state(self.folder / STATE, self.trainer, step)
        self._saved, self._due = step, time.monotonic() + 60.0 * self.save_minutes

    def _sample(self, step: int) -> None:
        (self.folder / SAMPLES).mkdir(exist_ok=True)
        with averaged(self.trainer):
            pictures = self.paint()
        for place, picture in enumerate(pictures):
            path = self.folder / SAMPLES / f"{place}-step-{step:06d}.png"
            write_whole(path, write.png_of(picture), overwrite=True)

    def _say_how_long(self, times: list[float], step: int) -> None:
        each, left = statistics.median(times[1:]), self.steps - step
        peak = devices.peak_memory()
        said = "" if peak is None else f"; {peak / 2**30:.1f} GiB at most so far"
        self.report(
            f"{each:.3g} s a step (the first took {times[0]:.3g} s): {left} more take "
            f"about {told_time(each * left)}{said}."
        )


def told_time(seconds: float) -> str:
    """Seconds in words.

    Example:

    >>> told_time(5000)
    '83 minutes'
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


class _Log:
    """Rows of a CSV file, each written at once."""

    def __init__(self, path: Path):
        self._path, self._file = path, None

    def __enter__(self) -> _Log:
        has_header = self._path.exists() and self._path.stat().st_size > 0
        self._file = open(self._path, "ab", buffering=0)
        if not has_header:
            self._file.write(_line(COLUMNS))
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    def write(self, row: dict) -> None:
        line = _line([row.get(name, "") for name in COLUMNS])
        if self._file.write(line) != len(line):
            raise OSError(f"The disk is full. Received: {shown(str(self._path))}")

    def sync(self) -> None:
        """What is written reaches the disk, ahead of the state that counts on it."""
        with contextlib.suppress(OSError if self._path == _NOWHERE else ()):
            os.fsync(self._file.fileno())


def _line(values) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()


@contextlib.contextmanager
def _stopping_between_steps() -> Iterator[Callable[[], bool]]:
    """Has an interruption wait for the end of a step; a second one does not wait.

    Gives a function that says whether there was one.
    """
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number, frame):
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    }
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
