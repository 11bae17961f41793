"""Processes that draw a data set's batches together."""

import numpy as np
import pytest

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.datasets.workers import Workers

DATA = SceneDataset(SceneConfig(objects=()), 32)


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_those_of_the_data_set(workers):
    with Workers(DATA, workers) as together:
        images, captions, scenes = together.batch(5, 8)
    expected = DATA.batch(5, 8)
    assert np.array_equal(images, expected[0])
    assert (captions, scenes) == expected[1:]


def test_more_processes_than_samples_are_no_matter():
    with Workers(DATA, 3) as together:
        assert len(together.batch(0, 1)[1]) == 1


def test_there_must_be_one():
    with pytest.raises(ValueError, match="`workers` must be 1 or more. Received: 0"):
        Workers(DATA, 0)
