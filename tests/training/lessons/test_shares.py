"""What each of several processes has of a lesson."""

import numpy as np
import pytest

from kerasdiffusion.training.lessons import shares
from kerasdiffusion.training.lessons.lesson import Lesson


def test_each_has_its_rows_of_a_batch():
    class Batches:
        batch_size, steps = 6, 7

        def batch(self, number):
            return {"latents": np.arange(6) + number}

    parts = [shares.Share(Batches(), i, 3) for i in range(3)]
    rows = [each.batch(10)["latents"].tolist() for each in parts]
    assert rows == [[10, 11], [12, 13], [14, 15]] and parts[1].steps == 7
    with pytest.raises(ValueError, match="divide by their 4 devices. Received: 6"):
        shares.check(Lesson(batch_size=6), 4)
    with pytest.raises(ValueError, match="`validation` must be left out"):
        shares.check(Lesson(batch_size=4, validation=0.5), 4)
