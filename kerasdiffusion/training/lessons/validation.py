"""The loss of pictures that are not taught, at noise and timesteps that stay the same.

A training loss jumps with the timesteps that are drawn; this one falls while something
is learned, and rises when pictures are learned by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np

from kerasdiffusion.training.examples.batches import FolderBatches, Sample

#: Where in the schedule a picture is looked at, in parts of it.
TIMES = (0.125, 0.375, 0.625, 0.875)


class Validation:
    """Gives the mean loss of pictures.

    Args:
        trainer: A compiled `Finetuner`.
        samples: The pictures, in their buckets.
        latents: As `FolderBatches` takes it.
        texts: As there.
        train_steps: Timesteps of the model's schedule.
        seed: Seed of the noise.
        **options: Of `FolderBatches`.
    """

    def __init__(
        self,
        trainer: keras.Model,
        samples: Sequence[Sample],
        latents: Callable,
        texts: Callable,
        *,
        train_steps: int = 1000,
        seed: int = 0,
        **options,
    ):
        self.trainer, self.train_steps, self.seed = trainer, train_steps, seed
        self.batches = FolderBatches(samples, latents, texts, 1, seed=seed, **options)

    def __call__(self) -> float:
        """The mean over all pictures, `TIMES` and pixels."""
        losses = []
        for number in range(len(self.batches.samples)):
            batch = dict(self.batches.of_rows([number], number))
            shape = batch["latents"].shape
            for place, share in enumerate(TIMES):
                dice = np.random.default_rng((self.seed, 6, number, place))
                timestep = [int(share * self.train_steps)]
                batch["timestep"] = np.asarray(timestep, "int32")
                batch["noise"] = dice.standard_normal(shape).astype("float32")
                self.trainer.reset_metrics()
                logs = self.trainer.test_on_batch(batch, return_dict=True)
                losses.append(float(logs["loss"]))
        return float(np.mean(losses))
