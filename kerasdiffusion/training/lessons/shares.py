"""A lesson that several processes learn together: to each its share of a batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kerasdiffusion.compute import hosts
from kerasdiffusion.training.lessons.lesson import Lesson


class Share:
    """A process's rows of each batch; as the batches in all else.

    Args:
        batches: Gives the batch of a number, the same in all processes.
        number: Which process this one is.
        count: Of how many.
    """

    def __init__(self, batches, number: int, count: int):
        self._all, self._number, self._count = batches, number, count

    def batch(self, number: int) -> dict[str, np.ndarray]:
        """This process's rows of the batch of a number."""
        found = self._all.batch(number)
        own = self._all.batch_size // self._count
        rows = slice(self._number * own, (self._number + 1) * own)
        return {name: each[rows] for name, each in found.items()}

    def __getattr__(self, name: str):
        return getattr(self._all, name)


class Alone:
    """What computes without the other processes, whatever they do.

    Args:
        own: What gives latents or texts.
    """

    def __init__(self, own: Callable):
        self._own = own

    def __call__(self, *arguments):
        with hosts.alone():
            return self._own(*arguments)

    def __getattr__(self, name: str):
        return getattr(self._own, name)


def check(lesson: Lesson, devices: int) -> None:
    """That several processes can learn a lesson together.

    Args:
        lesson: With nothing left open.
        devices: Of all processes.

    Raises:
        ValueError: If not.
    """
    if lesson.batch_size % devices:
        raise ValueError(
            "`batch_size` must be that of all processes together, and divide by their "
            f"{devices} devices. Received: {lesson.batch_size}"
        )
    for name in ("sample", "validation"):
        if getattr(lesson, name):
            raise ValueError(
                f"`{name}` must be left out where several processes learn together: "
                "paint with the file that they write. "
                f"Received: {getattr(lesson, name)!r}"
            )
