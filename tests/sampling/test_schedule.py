import dataclasses

import numpy as np
import pytest

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.schedule import Schedule, scalings
from kerasdiffusion.sampling.spacings import SPACINGS

SD1 = ScheduleConfig()


def test_noise_of_the_training_steps_follows_the_betas():
    beta = (np.sqrt(0.00085) + (np.sqrt(0.012) - np.sqrt(0.00085)) * 1 / 999) ** 2
    schedule = Schedule(SD1)
    assert schedule.alphas_cumprod.dtype == np.float64
    assert schedule.alphas_cumprod[0] == pytest.approx(1 - 0.00085, rel=1e-14)
    assert schedule.alphas_cumprod[1] == pytest.approx(
        (1 - 0.00085) * (1 - beta), rel=1e-14
    )
    # Published values of Stable Diffusion: k-diffusion's sigma_min and sigma_max.
    assert schedule.sigmas[[0, -1]] == pytest.approx([0.0292, 14.6146], abs=5e-5)


def test_linear_betas_are_those_of_ddpm():
    config = ScheduleConfig("linear", beta_start=1e-4, beta_end=0.02)
    left = Schedule(config).alphas_cumprod[-1]
    assert left == pytest.approx(np.prod(1 - np.linspace(1e-4, 0.02, 1000)), rel=1e-12)


def test_timesteps_and_sigmas_are_inverse_at_training_steps():
    schedule = Schedule(SD1)
    timesteps = np.array([0.0, 1.0, 500.0, 999.0])
    sigmas = schedule.sigma_at(timesteps)
    assert (sigmas == schedule.sigmas[[0, 1, 500, 999]]).all()
    assert schedule.timestep_at(sigmas) == pytest.approx(timesteps, abs=1e-9)


def test_between_training_steps_sigma_is_linear_and_the_timestep_logarithmic():
    schedule = Schedule(SD1)
    low, high = schedule.sigmas[:2]
    assert schedule.sigma_at(0.5) == pytest.approx((low + high) / 2, rel=1e-14)
    assert schedule.timestep_at(np.sqrt(low * high)) == pytest.approx(0.5, rel=1e-12)


def test_sigmas_out_of_range_have_the_outermost_timesteps():
    assert Schedule(SD1).timestep_at([1e-3, 100.0]).tolist() == [0.0, 999.0]


@pytest.mark.parametrize(
    "spacing, options, expected",
    [
        # Table 2 of Lin et al. 2024, with SD's offset of 1 for leading.
        ("leading", {}, [751, 501, 251, 1]),
        ("trailing", {}, [999, 749, 499, 249]),
        ("linspace", {}, [999, 666, 333, 0]),
        ("leading", {"open_end": True}, [801, 601, 401, 201]),
        ("linspace", {"open_end": True}, [999, 749.25, 499.5, 249.75]),
        (
            "linspace",
            {"open_end": True, "integer_timesteps": True},
            [999, 749, 500, 250],
        ),
    ],
)
def test_spacing(spacing, options, expected):
    sigmas, timesteps = Schedule(SD1).spaced(spacing, 4, **options)
    assert timesteps.tolist() == expected
    assert (sigmas == Schedule(SD1).sigma_at(expected)).all()


def test_karras_spacing_is_even_in_the_seventh_root():
    sigmas, timesteps = Schedule(SD1).spaced("karras", 6)
    assert np.diff(sigmas ** (1 / 7), 2) == pytest.approx(0, abs=1e-12)
    assert sigmas[[0, -1]] == pytest.approx(Schedule(SD1).sigmas[[-1, 0]])
    assert (timesteps == Schedule(SD1).timestep_at(sigmas)).all()


def test_exponential_spacing_is_even_in_the_logarithm():
    sigmas, _ = Schedule(SD1).spaced("exponential", 6)
    assert np.diff(np.log(sigmas), 2) == pytest.approx(0, abs=1e-12)


def test_integer_timesteps_leave_karras_sigmas_alone():
    sigmas, timesteps = Schedule(SD1).spaced("karras", 6, integer_timesteps=True)
    assert (sigmas == Schedule(SD1).spaced("karras", 6)[0]).all()
    assert (timesteps == np.round(timesteps)).all()


@pytest.mark.parametrize("open_end", [False, True])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 333, 999, 1000])
def test_any_number_of_steps_stays_within_the_schedule(spacing, num_steps, open_end):
    sigmas, timesteps = Schedule(SD1).spaced(spacing, num_steps, open_end=open_end)
    assert len(sigmas) == len(timesteps) == num_steps
    assert timesteps.min() >= 0
    assert timesteps.max() <= 999
    # Two of align-your-steps lie above the schedule, at its last timestep.
    assert (np.diff(timesteps) <= 0).all()
    assert (np.diff(sigmas) < 0).all()


def test_scalings_undo_each_prediction():
    rng = np.random.default_rng(0)
    clean, noise = rng.normal(size=(2, 1000))
    sigmas = np.geomspace(0.01, 20, 1000)
    x = clean + sigmas * noise
    alpha, std = 1 / np.sqrt(1 + sigmas**2), sigmas / np.sqrt(1 + sigmas**2)
    predictions = {
        "epsilon": noise,
        "v_prediction": alpha * noise - std * clean,
        "sample": clean,
    }
    for kind, prediction in predictions.items():
        c_skip, c_out, c_in = scalings(kind, sigmas)
        assert c_skip * x + c_out * prediction == pytest.approx(clean, abs=1e-12)
        assert c_in == pytest.approx(alpha)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"beta_schedule": "cosine"}, "must be one of linear, scaled_linear"),
        ({"beta_start": 0.0}, "0 < beta_start"),
        ({"beta_end": 1.0}, "beta_end < 1"),
        ({"train_steps": 0}, "at least one training step"),
    ],
)
def test_schedules_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        Schedule(dataclasses.replace(SD1, **change))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="`spacing` must be one of leading.*'even'"):
        Schedule(SD1).spaced("even", 5)
    with pytest.raises(ValueError, match="`prediction_type` must be one of.*'flow'"):
        scalings("flow", 1.0)
