"""Products of narrow matrices."""

import numpy as np
import pytest

from kerasdiffusion.adapters.algorithms.base import narrow_product


@pytest.mark.parametrize(
    "rows, rank, columns",
    [
        (320, 4, 320),
        (1280, 32, 640),
        (768, 128, 3072),
        (32, 4, 96),
        (15, 4, 21),  # of no common blocks
        (64, 2000, 64),
        (4, 3, 320),
        (1, 1, 1),
    ],
)
def test_a_product_in_blocks_is_the_product(rows, rank, columns):
    random = np.random.default_rng(0)
    left = random.normal(size=(rank, rows)).astype("float32").T
    right = random.normal(size=(columns, rank)).astype("float32").T
    wanted = left.astype("float64") @ right
    for each in (left, np.ascontiguousarray(left)):
        found = narrow_product(each, right)
        assert found.dtype == "float32" and found.flags.c_contiguous
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
