"""Latents made larger: PyTorch's own function is the reference."""

import numpy as np
import pytest
import torch

from kerasdiffusion.pictures.interpolation import interpolated

WAYS = [
    ("nearest", False),
    ("nearest-exact", False),
    ("bilinear", False),
    ("bilinear", True),
    ("bicubic", False),
    ("bicubic", True),
]


@pytest.mark.parametrize("size", [(7, 9), (10, 18), (13, 11), (3, 20), (5, 4)])
@pytest.mark.parametrize("way, antialias", WAYS)
def test_it_is_what_pytorch_makes(way, antialias, size):
    values = np.random.default_rng(0).normal(size=(2, 5, 9, 4)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values).permute(0, 3, 1, 2),
        size,
        mode=way,
        antialias=antialias,
    )
    found = interpolated(values, size, way, antialias)
    np.testing.assert_allclose(
        found, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-5, atol=1e-5
    )
