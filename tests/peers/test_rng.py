"""Noise against PyTorch's own CPU generator."""

import numpy as np
import pytest

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.brownian import BrownianTree
from kerasdiffusion.sampling.noise import initial_noise, step_noise, table_noise
from kerasdiffusion.sampling.rng import TorchCPU
from kerasdiffusion.sampling.samplers import make_table
from tests.sampling import toy

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


@pytest.mark.parametrize("seed", [0, 7, 2**33 + 5])
def test_brownian_increments(seed):
    """To the bit, in any order."""
    torchsde = pytest.importorskip("torchsde")
    shape, ends = (4, 8, 6), (0.0291675, 14.6146)
    theirs = torchsde.BrownianTree(
        torch.tensor(ends[0]), torch.zeros(shape), torch.tensor(ends[1]), entropy=seed
    )
    ends = (float(torch.tensor(end)) for end in ends)
    ours = BrownianTree(*ends, seed, lambda each: TorchCPU(each).normal(shape))
    for start, end in ((3.5, 8.25), (1.0, 3.5), (0.1, 0.100002), (8.25, 14.0)):
        expected = theirs(torch.tensor(start), torch.tensor(end)).numpy()
        start, end = (float(torch.tensor(each)) for each in (start, end))
        assert same(ours.increment(start, end), expected)


@pytest.mark.parametrize("sampler", ["dpmpp_sde", "dpmpp_2m_sde_karras"])
def test_noise_of_samplers_of_stochastic_equations(sampler):
    """`BrownianTreeNoiseSampler` of k-diffusion, with a seed for each image."""
    torchsde = pytest.importorskip("torchsde")
    table = make_table(ScheduleConfig(), sampler, 5)
    found = table_noise(table, [3, 4], (8, 6, 4), "webui-cpu")
    levels = torch.tensor(table.values[:, 0], dtype=torch.float32)
    for image, seed in enumerate([3, 4]):
        tree = torchsde.BrownianTree(
            levels.min(), torch.zeros(4, 8, 6), levels.max(), entropy=seed
        )
        for i, (sigma, after) in enumerate(zip(levels, levels[1:], strict=False)):
            noise = -tree(after, min(sigma, levels[0])) / (sigma - after).sqrt()
            expected = noise.permute(1, 2, 0).numpy()
            assert np.allclose(found[i, image], expected, rtol=1e-6, atol=1e-6)


def test_ancestral_noise_of_comfyui_on_a_cpu():
    """A generator of its own, with the next seed."""
    expected = torch.randn((2, 4, 8, 6), generator=torch.Generator().manual_seed(10))
    expected = expected.permute(0, 2, 3, 1).numpy()
    shape = (8, 6, 4)
    assert same(step_noise([9], 2, shape, "comfy-cpu")[:, 0], expected)
    first = torch.randn((4, 8, 6), generator=torch.Generator().manual_seed(9))
    assert same(
        initial_noise([9], shape, "comfy-cpu")[0], first.permute(1, 2, 0).numpy()
    )
    # On a GPU, those of a GPU's generator with the picture's own seed.
    expected = initial_noise([9], shape, "torch-cuda")
    assert (step_noise([9], 1, shape, "comfy")[0] == expected).all()


def test_a_picture_of_the_web_ui():
    """DPM++ 2M SDE Karras: k-diffusion's formula, noise from torchsde's tree."""
    torchsde = pytest.importorskip("torchsde")
    options = {"spacing": "karras", "program": "webui"}
    table = make_table(ScheduleConfig(), "dpmpp_2m_sde", 8, **options)
    noise = table_noise(table, [5], toy.SHAPE, "webui-cpu")
    x = initial_noise([5], toy.SHAPE, "webui-cpu") * table.initial_scale
    found = toy.walk(table, x.astype("float64"), noise)

    sigmas = torch.tensor(table.sigmas, dtype=torch.float32)
    high, low = sigmas[0], sigmas[-2]
    height, width, channels = toy.SHAPE
    zeros = torch.zeros(channels, height, width)
    tree = torchsde.BrownianTree(low, zeros, high, entropy=5)
    before, levels = None, sigmas.double().numpy()
    for i, (sigma, after) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        denoised = toy.denoise(x, table.values[i])
        if after == 0.0:
            x = denoised
            break
        h = np.log(sigma / after)
        ratio = np.exp(-2.0 * h)
        change = 0.0
        if before is not None:
            old, h_before = before
            change = 0.5 * (1.0 - ratio) * (denoised - old) * h / h_before
        path = tree(sigmas[i + 1], sigmas[i]).permute(1, 2, 0).numpy()
        fresh = -path / np.sqrt(sigma - after)
        x = ratio * x + (1.0 - ratio) * denoised + change
        x = x + after * np.sqrt(1.0 - ratio) * fresh
        before = denoised, h
    assert toy.relative_error(found, x) < 1e-5
