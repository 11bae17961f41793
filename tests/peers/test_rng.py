"""Noise against PyTorch's own CPU generator."""

import numpy as np
import pytest

from kerasdiffusion.sampling.noise import initial_noise, step_noise
from kerasdiffusion.sampling.rng import TorchCPU

torch = pytest.importorskip("torch")

SHAPES = (4, 64, 64), (3,), (17,), (1,), (4, 33, 7), (15,), (2,), (16,), (5, 31), (7,)


def same(got, expected):
    """To the bit on the processors that most have; elsewhere PyTorch differs."""
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return np.array_equal(got, expected)
    return np.allclose(got, expected, rtol=0, atol=5e-6)


def test_a_million_values():
    expected = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1))
    assert same(TorchCPU(1).normal((1_000_000,)), expected.numpy())


@pytest.mark.parametrize("seed", [*range(16), 2**31, 2**32 - 1, 2**32 + 5, 2**64 - 1])
def test_odd_shapes_one_after_another(seed):
    theirs, ours = torch.Generator().manual_seed(seed), TorchCPU(seed)
    for shape in SHAPES:
        assert same(ours.normal(shape), torch.randn(shape, generator=theirs).numpy())


def test_latents_and_then_the_steps_of_each_image():
    """As diffusers draws them, given a generator for each image."""
    seeds, shape = [5, 7], (8, 6, 4)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = [
        torch.cat([torch.randn((1, 4, 8, 6), generator=each) for each in generators])
        for _ in range(3)
    ]
    first, *steps = (each.permute(0, 2, 3, 1).numpy() for each in drawn)
    assert same(initial_noise(seeds, shape, "torch"), first)
    assert same(step_noise(seeds, 2, shape, "torch"), np.stack(steps))


def test_variation_seeds():
    """`slerp` of AUTOMATIC1111's `modules/rng.py`, in PyTorch."""
    shape = (8, 6, 4)
    low, high = (
        torch.randn((4, 8, 6), generator=torch.Generator().manual_seed(seed))
        for seed in (3, 4)
    )
    omega = torch.acos(torch.cosine_similarity(low, high, dim=1)).unsqueeze(1)
    expected = torch.sin(0.7 * omega) * low + torch.sin(0.3 * omega) * high
    expected = (expected / torch.sin(omega)).permute(1, 2, 0).numpy()
    got = initial_noise([3], shape, "torch", [4], 0.3)[0]
    assert np.allclose(got, expected, rtol=0, atol=1e-6)
