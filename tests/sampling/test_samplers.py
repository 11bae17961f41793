"""Tables against the papers' formulas, written out, on an exact nonlinear denoiser."""

import dataclasses

import numpy as np
import pytest

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.samplers import SAMPLERS, make_table
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.sampling.table import COLUMNS
from tests.sampling.toy import SHAPE, relative_error, walk

SD1 = ScheduleConfig()
STEPS = [1, 2, 3, 4, 5, 6, 20]
NOISE = np.random.default_rng(1).normal(size=(21, 2, *SHAPE))


def denoised(x, sigma):
    """The exact denoiser of data that is -1 or 1 in each place."""
    return np.tanh(x / sigma**2)


def sampled(name, num_steps, x, config=SD1, **options):
    """The sampler's result; `x` has unit variance, or is noise alone."""
    table = make_table(config, name, num_steps, **options)
    return walk(
        table,
        x * table.initial_scale,
        NOISE[1:],
        lambda x, row: denoised(x, row[COLUMNS.sigma]),
    )


def levels(name, num_steps):
    return make_table(SD1, name, num_steps).sigmas


def variance_preserving(num_steps):
    """The signal's share before and after each step of DDIM's and PNDM's papers."""
    alphas = Schedule(SD1).alphas_cumprod
    timesteps = np.arange(num_steps)[::-1] * (1000 // num_steps) + 1
    return [*alphas[timesteps], alphas[0]]


def epsilon(x, alpha):
    """The noise in latents of unit variance."""
    clean = denoised(x / np.sqrt(alpha), np.sqrt((1 - alpha) / alpha))
    return (x - np.sqrt(alpha) * clean) / np.sqrt(1 - alpha)


def velocity(x, alpha):
    """v in latents of unit variance."""
    noise = epsilon(x, alpha)
    clean = (x - np.sqrt(1 - alpha) * noise) / np.sqrt(alpha)
    return np.sqrt(alpha) * noise - np.sqrt(1 - alpha) * clean


def same(got, expected):
    return relative_error(got, expected) < 1e-12


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim(num_steps, eta):
    """Song et al. 2021, equations 12 and 16."""
    alphas = variance_preserving(num_steps)
    x = NOISE[0]
    for a, after, noise in zip(alphas, alphas[1:], NOISE[1:], strict=False):
        e = epsilon(x, a)
        clean = (x - np.sqrt(1 - a) * e) / np.sqrt(a)
        deviation = eta * np.sqrt((1 - after) / (1 - a)) * np.sqrt(1 - a / after)
        direction = np.sqrt(1 - after - deviation**2) * e
        x = np.sqrt(after) * clean + direction + deviation * noise
    assert same(sampled("ddim", num_steps, NOISE[0], eta=eta), x)


@pytest.mark.parametrize("num_steps", STEPS)
def test_ddpm(num_steps):
    """Ho et al. 2020, equation 7, over fewer steps, down to no noise."""
    alphas = [*variance_preserving(num_steps)[:-1], 1.0]
    x = NOISE[0]
    for a, after, noise in zip(alphas, alphas[1:], NOISE[1:], strict=False):
        clean = (x - np.sqrt(1 - a) * epsilon(x, a)) / np.sqrt(a)
        beta = 1 - a / after
        mean = np.sqrt(after) * beta * clean + np.sqrt(1 - beta) * (1 - after) * x
        x = mean / (1 - a) + np.sqrt((1 - after) / (1 - a) * beta) * noise
    assert same(sampled("ddpm", num_steps, NOISE[0]), x)


def pseudo_numerical(num_steps, predict, to_epsilon):
    """Liu et al. 2022, equations 9 to 12, with the double first step for a start."""
    alphas = variance_preserving(num_steps)

    def transfer(x, output, a, after):
        e = to_epsilon(output, x, a)
        share = a * np.sqrt(1 - after) + np.sqrt(a * (1 - a) * after)
        return np.sqrt(after / a) * x - (after - a) * e / share

    x = NOISE[0]
    past = [predict(x, alphas[0])]
    trial = transfer(x, past[0], alphas[0], alphas[1])
    if num_steps == 1:
        return trial
    mean = (past[0] + predict(trial, alphas[1])) / 2
    x = transfer(x, mean, alphas[0], alphas[1])
    adams = {
        2: np.array([3, -1]) / 2,
        3: np.array([23, -16, 5]) / 12,
        4: np.array([55, -59, 37, -9]) / 24,
    }
    for a, after in zip(alphas[1:], alphas[2:], strict=False):
        past = [predict(x, a), *past][:4]
        x = transfer(x, np.tensordot(adams[len(past)], past, 1), a, after)
    return x


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("name", ["pndm", "plms"])
def test_pndm_and_plms(name, num_steps):
    expected = pseudo_numerical(num_steps, epsilon, lambda e, x, a: e)
    assert same(sampled(name, num_steps, NOISE[0]), expected)


@pytest.mark.parametrize("num_steps", STEPS)
def test_with_v_prediction_pndm_averages_v_and_plms_epsilon(num_steps):
    config = dataclasses.replace(SD1, prediction_type="v_prediction")
    of_v = pseudo_numerical(
        num_steps, velocity, lambda v, x, a: np.sqrt(a) * v + np.sqrt(1 - a) * x
    )
    assert same(sampled("pndm", num_steps, NOISE[0], config), of_v)
    of_epsilon = pseudo_numerical(num_steps, epsilon, lambda e, x, a: e)
    assert same(sampled("plms", num_steps, NOISE[0], config), of_epsilon)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("name", ["euler", "euler_karras"])
def test_euler(name, num_steps):
    """Karras et al. 2022, algorithm 1 without its correction."""
    sigmas = levels(name, num_steps)
    x = NOISE[0] * sigmas[0]
    for s, after in zip(sigmas, sigmas[1:], strict=False):
        x = x + (x - denoised(x, s)) / s * (after - s)
    assert same(sampled(name, num_steps, NOISE[0]), x)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("eta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", ["euler_ancestral", "euler_ancestral_karras"])
def test_euler_ancestral(name, eta, num_steps):
    """k-diffusion's `sample_euler_ancestral`."""
    sigmas = levels(name, num_steps)
    x = NOISE[0] * sigmas[0]
    for s, after, noise in zip(sigmas, sigmas[1:], NOISE[1:], strict=False):
        up = min(after, eta * np.sqrt(after**2 * (s**2 - after**2) / s**2))
        down = np.sqrt(after**2 - up**2)
        x = x + (x - denoised(x, s)) / s * (down - s) + up * noise
    assert same(sampled(name, num_steps, NOISE[0], eta=eta), x)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("name", ["heun", "heun_karras"])
def test_heun(name, num_steps):
    """Karras et al. 2022, algorithm 1."""
    sigmas = levels(name, num_steps)
    x = NOISE[0] * sigmas[0]
    for s, after in zip(sigmas, sigmas[1:], strict=False):
        slope = (x - denoised(x, s)) / s
        trial = x + slope * (after - s)
        if after > 0:
            slope = (slope + (trial - denoised(trial, after)) / after) / 2
        x = x + slope * (after - s)
    assert same(sampled(name, num_steps, NOISE[0]), x)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("name", ["lms", "lms_karras"])
def test_lms(name, num_steps):
    """The integral of the polynomial through the four latest slopes."""
    sigmas = levels(name, num_steps)
    x = NOISE[0] * sigmas[0]
    slopes = []
    for i, (s, after) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        slopes = [(x - denoised(x, s)) / s, *slopes][:4]
        nodes = sigmas[i::-1][:4]
        for j, slope in enumerate(slopes):
            others = np.delete(nodes, j)
            basis = np.poly1d(others, r=True) / np.prod(nodes[j] - others)
            integral = basis.integ()
            x = x + (integral(after) - integral(s)) * slope
    assert same(sampled(name, num_steps, NOISE[0]), x)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_2m_karras"])
def test_dpmpp_2m(name, num_steps):
    """Lu et al. 2022, algorithm 2, in terms of lambda, with latents of variance 1."""
    sigmas = levels(name, num_steps)
    alpha = 1 / np.sqrt(1 + sigmas**2)
    deviation = sigmas * alpha
    with np.errstate(divide="ignore"):
        lambdas = np.log(alpha / deviation)
    x, before = NOISE[0], None
    for i in range(num_steps):
        clean = combined = denoised(x / alpha[i], sigmas[i])
        h = lambdas[i + 1] - lambdas[i]
        if before is not None and np.isfinite(h):
            r = (lambdas[i] - lambdas[i - 1]) / h
            combined = (1 + 1 / (2 * r)) * clean - 1 / (2 * r) * before
        ratio = deviation[i + 1] / deviation[i]
        x = ratio * x - alpha[i + 1] * np.expm1(-h) * combined
        before = clean
    assert same(sampled(name, num_steps, NOISE[0]), x)


@pytest.mark.parametrize(
    "name", [name for name in SAMPLERS if name not in ("ddpm", "lcm", "restart")]
)
def test_without_noise_samplers_approach_the_exact_solution(name):
    """Of normal data of deviation c, x moves by sqrt((c^2 + s'^2) / (c^2 + s^2))."""
    c = 0.6
    options = {"eta": 0.0} if "eta" in SAMPLERS[name].options else {}
    table = make_table(SD1, name, 500, **options)
    x = walk(
        table,
        np.ones((1, *SHAPE)),
        denoise=lambda x, row: x * c**2 / (c**2 + row[COLUMNS.sigma] ** 2),
    )
    first, last = table.sigmas[0], table.sigmas[-1]
    exact = np.sqrt((c**2 + last**2) / (c**2 + first**2) / (1 + last**2))
    assert x == pytest.approx(
        exact, rel=2e-2 if name.startswith(("euler", "heunpp2")) else 5e-3
    )
