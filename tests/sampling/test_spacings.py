import dataclasses

import numpy as np
import pytest

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.sampling.spacings import SPACINGS, beta_quantile, find_spacing

SD1 = ScheduleConfig()
# What k-diffusion and stable-diffusion-webui-forge's `modules/sd_schedulers.py`, of the
# same names (`ddim`, `align_your_steps`), give for Stable Diffusion 1.
PUBLISHED = {
    "karras 4": [14.6146, 3.1686, 0.446918, 0.0291672],
    "karras 10": [
        14.6146,
        9.10293,
        5.47839,
        3.1686,
        1.74942,
        0.914072,
        0.446918,
        0.201398,
        0.0819102,
        0.0291672,
    ],
    "exponential 4": [14.6146, 1.84002, 0.231664, 0.0291672],
    "exponential 10": [
        14.6146,
        7.32487,
        3.67123,
        1.84002,
        0.922221,
        0.462218,
        0.231664,
        0.11611,
        0.0581946,
        0.0291672,
    ],
    "polyexponential 4": [14.6146, 1.84002, 0.231664, 0.0291672],
    "polyexponential 10": [
        14.6146,
        7.32487,
        3.67123,
        1.84002,
        0.922222,
        0.462218,
        0.231664,
        0.11611,
        0.0581946,
        0.0291672,
    ],
    "normal 4": [14.6146, 2.91831, 0.932358, 0.0291672],
    "normal 10": [
        14.6146,
        7.83988,
        4.60917,
        2.91831,
        1.95016,
        1.34493,
        0.932358,
        0.624977,
        0.368658,
        0.0291672,
    ],
    "sgm_uniform 4": [14.6146, 4.08608, 1.61558, 0.69515],
    "sgm_uniform 10": [
        14.6146,
        8.30717,
        5.09241,
        3.32507,
        2.27973,
        1.61558,
        1.16286,
        0.831884,
        0.571189,
        0.343705,
    ],
    "simple 4": [14.6146, 4.08173, 1.61289, 0.693205],
    "simple 10": [
        14.6146,
        8.3028,
        5.08776,
        3.32108,
        2.27646,
        1.61289,
        1.16058,
        0.82986,
        0.569285,
        0.341674,
    ],
    "ddim_uniform 4": [4.1167, 1.62369, 0.698398, 0.0413144],
    "ddim_uniform 10": [
        8.39069,
        5.13443,
        3.34776,
        2.29285,
        1.62369,
        1.16822,
        0.835653,
        0.57405,
        0.346187,
        0.0413144,
    ],
    "beta 4": [14.6146, 10.5976, 4.0462, 0.0291672],
    "beta 10": [
        14.6146,
        13.9278,
        12.491,
        10.5976,
        8.44244,
        6.20137,
        4.0462,
        2.15283,
        0.716024,
        0.0291672,
    ],
    "align_your_steps_11 4": [14.615, 2.39387, 0.742518, 0.029],
    "align_your_steps_11 10": [
        14.615,
        6.11351,
        3.56511,
        2.39387,
        1.64996,
        1.13579,
        0.742518,
        0.445007,
        0.169205,
        0.029,
    ],
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_spacings_of_other_programs(case):
    name, num_steps = case.split()
    sigmas, _ = Schedule(SD1).spaced(name, int(num_steps))
    assert sigmas == pytest.approx(PUBLISHED[case], rel=1e-5)


def test_ten_aligned_steps_are_those_that_were_published():
    sigmas, _ = Schedule(SD1).spaced("align_your_steps", 10)
    published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152]
    assert sigmas == pytest.approx(published, rel=1e-12)
    config = dataclasses.replace(SD1, align_your_steps="sdxl")
    sigmas, _ = Schedule(config).spaced("align_your_steps", 20)
    assert sigmas[2] == pytest.approx(6.315) and sigmas[18] == pytest.approx(0.113)


def test_distilled_models_have_the_timesteps_that_they_were_trained_on():
    # diffusers' LCMScheduler and TCDScheduler.
    assert Schedule(SD1).spaced("lcm", 4)[1].tolist() == [999, 759, 499, 259]
    assert Schedule(SD1).spaced("lcm", 50)[1].tolist() == [*range(999, 0, -20)]


def test_beta_timesteps_are_comfys():
    # np.rint(scipy.stats.beta.ppf(1 - np.linspace(0, 1, 10, False), 0.6, 0.6) * 999)
    expected = [999, 959, 876, 765, 637, 500, 362, 234, 123, 40]
    assert Schedule(SD1).spaced("beta_timesteps", 10)[1].tolist() == expected


def test_quantiles_of_the_beta_distribution():
    stats = pytest.importorskip("scipy.stats")
    shares = np.linspace(0, 1, 101)
    expected = stats.beta.ppf(shares, 0.6, 0.6)
    assert beta_quantile(shares) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SGM Uniform", "sgm_uniform"),
        ("Uniform", "normal"),
        ("Align Your Steps", "align_your_steps"),
        ("KL Optimal", "kl_optimal"),
        *((name, name) for name in SPACINGS),
    ],
)
def test_names(name, expected):
    assert find_spacing(name) == expected


def test_near_names_are_offered():
    with pytest.raises(ValueError, match="Did you mean karras.*Received: 'karas'"):
        find_spacing("karas")
    with pytest.raises(TypeError, match="must be a string. Received: 3"):
        find_spacing(3)
