import numpy as np
import pytest

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.brownian import BrownianTree, path_noise
from kerasdiffusion.sampling.noise import step_noise, table_noise
from kerasdiffusion.sampling.rng import TorchCPU
from kerasdiffusion.sampling.samplers import SAMPLERS, make_table

SHAPE = (6, 4, 4)
GOLDEN = [
    (0.25, 1.1, [0.22830522, 0.95130962, 0.81810004]),
    (0.0, 2.0, [-1.6810641, -0.59513873, 0.56847811]),
    (1.1, 1.100003, [-0.0015002787, -3.9398321e-05, -3.974163e-05]),
]


def tree(seed, shape=(3,)):
    return BrownianTree(0.0, 2.0, seed, lambda each: TorchCPU(each).normal(shape))


def test_increments():
    """Those of `torchsde.BrownianTree` 0.2.6 of three zeros from 0 to 2, entropy 9."""
    path = tree(9)
    for start, end, expected in GOLDEN:
        assert path.increment(start, end) == pytest.approx(expected, rel=1e-5)


def test_parts_add_up_whatever_is_asked_first():
    one, other = tree(4), tree(4)
    parts = one.increment(0.3, 0.7), one.increment(0.7, 1.9)
    whole = other.increment(0.3, 1.9)
    assert parts[0] + parts[1] == pytest.approx(whole, abs=1e-5)
    assert (other.increment(0.3, 0.7) == parts[0]).all()


def test_noise_between_levels_is_unit_noise_without_correlation():
    levels = np.array([[14.6, 3.0], [3.0, 0.5], [0.5, 0.03]])
    normal = lambda seed: TorchCPU(seed).normal((64, 64))  # noqa: E731
    noise = path_noise(levels, 0.03, 14.6, 5, normal).reshape(3, -1)
    assert noise.dtype == np.float32
    assert np.cov(noise) == pytest.approx(np.eye(3), abs=0.06)


PATH = [name for name, sampler in SAMPLERS.items() if sampler.path]


RNGS = ["torch-cuda", "webui-cpu", "comfy", "comfy-gpu"]


@pytest.mark.parametrize(
    ("sampler", "rng"),
    [
        pytest.param(
            # Each of both; all pairs at length.
            *(sampler, rng),
            marks=() if sampler == PATH[0] or rng == RNGS[0] else pytest.mark.heavy,
        )
        for sampler in PATH
        for rng in RNGS
    ],
)
def test_more_steps_follow_the_same_path(sampler, rng):
    """The sum of all increments is the path's, at 4 steps and at 9."""
    sums = []
    for steps in (4, 9):
        table = make_table(ScheduleConfig(), sampler, steps, spacing="karras")
        noise = table_noise(table, [3, 8], SHAPE, rng)
        assert noise.shape == (table.noise_count, 2, *SHAPE)
        length = -np.diff(table.noise_levels, axis=1)[:, :, None, None, None]
        sums.append((noise * np.sqrt(length)).sum(axis=0))
    assert sums[0] == pytest.approx(sums[1], abs=1e-3)
    alone = table_noise(table, [8], SHAPE, rng)
    assert (alone[:, 0] == noise[:, 1]).all()


@pytest.mark.parametrize("rng", ["numpy", "torch"])
def test_others_draw_each_noise_anew(rng):
    table = make_table(ScheduleConfig(), "dpmpp_sde", 4)
    expected = step_noise([3], table.noise_count, SHAPE, rng)
    assert (table_noise(table, [3], SHAPE, rng) == expected).all()
    table = make_table(ScheduleConfig(), "euler_ancestral", 4)
    for rng in ("comfy", "torch-cuda"):
        expected = step_noise([3], table.noise_count, SHAPE, rng)
        assert (table_noise(table, [3], SHAPE, rng) == expected).all()


def test_a_second_model_goes_on_where_the_first_stopped():
    table = make_table(ScheduleConfig(), "dpmpp_2m_sde_karras", 6)
    whole = table_noise(table, [3], SHAPE, "torch-cuda")
    first, rest = table.until(2), table.since(2)
    assert (table_noise(first, [3], SHAPE, "torch-cuda") == whole[:2]).all()
    found = table_noise(rest, [3], SHAPE, "torch-cuda", before=first)
    assert (found == whole[2:]).all()
    later = make_table(ScheduleConfig(), "dpmpp_2m_sde_karras", 6, first_step=2)
    assert (table_noise(later, [3], SHAPE, "torch-cuda") == whole[2:]).all()
