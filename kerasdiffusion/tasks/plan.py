"""A plan: what a run does, checked, with nothing left to decide."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from kerasdiffusion.requests.request import Request
from kerasdiffusion.tasks.settings import Settings


class Loop(NamedTuple):
    """One walk of a sampler's table: arrays and the table.

    Args:
        model: The `StableDiffusion` whose U-Net is called.
        settings: The `Settings`, whose `table` it is.
        latents: Noisy latents to begin with, float32 `(batch, h, w, channels)`.
        branches: What the U-Net sees beside them, see `sampling.denoiser`.
        shares: How much each branch but the first counts.
    """

    model: Any
    settings: Settings
    latents: np.ndarray
    branches: list[dict]
    shares: np.ndarray


#: Gives loops one after the other, is sent the latents of each, and returns pictures.
#: It is handed the `Run`, whose `stopped` says if these are what there is.
Painting = Generator[Loop, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run does.

    Everything that was asked is checked, seeds are drawn, pictures are read. Prompts
    and pictures are encoded when the run begins: so a plan needs no weights, says at
    once what is wrong, and may wait in a queue.

    Args:
        model: The `StableDiffusion` that paints.
        request: What was asked.
        settings: How the pictures are made; in a task of several loops, the first's.
        num_steps: Steps of all loops together.
        paint: What gives the loops of a run and makes pictures of their latents.
    """

    model: Any
    request: Request
    settings: Settings
    num_steps: int
    paint: Callable[[Any], Painting]

    @property
    def seeds(self) -> list[int]:
        """The seed of each picture; in a walk, of each noise."""
        return self.settings.seeds

    @property
    def repeatable(self) -> Request:
        """The request with the seeds that were drawn: it paints the same again."""
        drawn = {"seed": list(self.seeds)}
        if self.settings.variation_seeds is not None:
            drawn["variation_seed"] = list(self.settings.variation_seeds)
        return replace(self.request, **drawn)
