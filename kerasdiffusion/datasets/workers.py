"""A data set that several processes draw."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np


class Workers:
    """Draws the batches of a data set in processes of their own, a part each.

    Since a sample depends on its number alone, the batches are the same.

    Args:
        dataset: Has `batch(start, count) -> (images, captions, ...)`.
        workers: Number of processes, 1 or more; with 1 there are none.

    Example:

    ```python
    with Workers(SceneDataset(), 4) as data:
        images, captions, scenes = data.batch(0, 256)
    ```
    """

    def __init__(self, dataset, workers: int):
        if workers < 1:
            raise ValueError(f"`workers` must be 1 or more. Received: {workers}")
        self.dataset, self.workers = dataset, workers
        self._pool = None

    def __enter__(self):
        if self.workers > 1:
            # A forked process would share the threads of a running backend.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context)
        return self

    def __exit__(self, *exception):
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def batch(self, start: int, count: int):
        """The samples from `start` on, as the data set gives them."""
        if self._pool is None:
            return self.dataset.batch(start, count)
        edges = np.linspace(start, start + count, self.workers + 1).astype(int)
        parts = [
            self._pool.submit(self.dataset.batch, int(first), int(stop - first))
            for first, stop in zip(edges, edges[1:], strict=False)
            if stop > first
        ]
        images, *lists = zip(*(part.result() for part in parts), strict=True)
        return np.concatenate(images), *(sum(each, []) for each in lists)
