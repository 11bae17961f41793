"""What a model paints so far, while it learns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion.compute import backend
from kerasdiffusion.pictures import write
from kerasdiffusion.pictures.read import read_pictures
from kerasdiffusion.requests.batches import of_grid
from kerasdiffusion.requests.request import Request
from kerasdiffusion.requests.text import described
from kerasdiffusion.storage.whole import write_whole
from kerasdiffusion.tasks.stable_diffusion import StableDiffusion


@contextlib.contextmanager
def averaged(trainer: keras.Model) -> Iterator[None]:
    """Within it, what is taught has the optimizer's moving averages, if it has such.

    Args:
        trainer: A compiled model.
    """
    if not trainer.optimizer.use_ema:
        yield
        return
    variables = trainer.trainable_variables
    kept = [backend.to_numpy(variable) for variable in variables]
    trainer.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


def contact_sheet(folder: Path, path: Path, rows: int = 8) -> Path | None:
    """One picture of those that were painted on the way.

    Args:
        folder: Has pictures named `NUMBER-step-STEP.png`.
        path: Where the sheet goes; one that is there is replaced.
        rows: At most so many steps, spread evenly, the last among them.

    Returns:
        The path, or `None` where there are no pictures. A row is a step, a column a
        prompt.
    """
    steps: dict[int, dict[int, Path]] = {}
    for file in folder.glob("*-step-*.png"):
        number, _, step = file.stem.partition("-step-")
        if number.isdigit() and step.isdigit():
            steps.setdefault(int(step), {})[int(number)] = file
    if not steps:
        return None
    order = sorted(steps)
    if len(order) > rows:
        places = np.linspace(0, len(order) - 1, rows).round().astype(int)
        order = [order[i] for i in places]
    columns = max(map(len, steps.values()))
    pictures = [
        read_pictures(steps[step][number])[0]
        for step in order
        for number in sorted(steps[step])
    ]
    height, width = np.max([each.shape[:2] for each in pictures], axis=0)
    pictures = [
        np.pad(each, [(0, height - each.shape[0]), (0, width - each.shape[1]), (0, 0)])
        for each in pictures
    ]
    write_whole(path, write.png_of(write.grid(pictures, columns)), overwrite=True)
    return path


class Sheets(keras.callbacks.Callback):
    """Writes the model so far, with its averaged weights, and a sheet of its pictures.

    Args:
        folder: Gets `so_far`, a preset, and `sheet-<epoch>.png`.
        every: Epochs from sheet to sheet.
        captions: What is painted, a picture each.
        save_as: Writes the networks that learn as a preset, to the path that it is
            given.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        captions: Sequence[str],
        save_as: Callable[[Path], None],
    ):
        super().__init__()
        self.folder, self.every = folder, every
        self.captions, self.save_as = list(captions), save_as

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        with averaged(self.model):
            self.save_as(self.folder / "so_far")
        model = StableDiffusion.from_preset(
            self.folder / "so_far", precision=self.model.dtype_policy.name
        )
        request = Request(task="text_to_image", prompt=self.captions, seed=0)
        pictures = model.run(request).pictures()
        size, sheet = pictures.shape[1:3], write.grid(pictures)
        texts = described(request, model.config.generation, size, "so_far")
        told = of_grid(texts, sheet.shape[1] // size[1])
        told["Precision"] = model.precision
        write.save_png(sheet, self.folder / f"sheet-{epoch + 1:04d}.png", told)
