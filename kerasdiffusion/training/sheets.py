"""What a model paints so far, while it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from kerasdiffusion.compute import backend
from kerasdiffusion.pictures import write
from kerasdiffusion.tasks.stable_diffusion import StableDiffusion


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
        variables = self.model.trainable_variables
        kept = [backend.to_numpy(variable) for variable in variables]
        self.model.optimizer.finalize_variable_values(variables)
        try:
            self.save_as(self.folder / "so_far")
        finally:
            for variable, value in zip(variables, kept, strict=True):
                variable.assign(value)
        model = StableDiffusion.from_preset(
            self.folder / "so_far", precision=self.model.dtype_policy.name
        )
        pictures = model.text_to_image(self.captions, seed=0, progress_bar=False)
        write.save_png(write.grid(pictures), self.folder / f"sheet-{epoch + 1:04d}.png")
