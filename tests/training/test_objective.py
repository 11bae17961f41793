"""The objective's parts, against the papers' formulas in numpy."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.training.noising import Noising
from kerasdiffusion.training.objective import Objective

ALPHAS = Schedule(ScheduleConfig()).alphas_cumprod
RANDOM = np.random.default_rng(0)
SHAPE = (6, 4, 4, 2)
TIMESTEP = np.array([0, 1, 10, 300, 700, 999], "int32")
LATENTS, NOISE, PREDICTION = RANDOM.normal(size=(3, *SHAPE)).astype("float32")
ALPHA = ALPHAS[TIMESTEP]
SNR = ALPHA / (1 - ALPHA)


def rows(values):
    return values[:, None, None, None]


def drawn(objective, kind="epsilon", given=True, latents=LATENTS, seed=0, **schedule):
    config = ScheduleConfig(prediction_type=kind, **schedule)
    noising = Noising(objective, config)
    told = {"timestep": TIMESTEP, "noise": NOISE} if given else {}
    seed = keras.random.SeedGenerator(seed)
    return noising, noising.draw(ops.convert_to_tensor(latents), seed, told)


def losses(objective, kind="epsilon", **more):
    noising, found = drawn(objective, kind)
    loss = noising.loss(ops.convert_to_tensor(PREDICTION), found, **more)
    return ops.convert_to_numpy(loss)


def target(kind):
    """The definition of each prediction, in float64."""
    alpha = rows(ALPHA)
    return {
        "epsilon": NOISE.astype("float64"),
        "sample": LATENTS.astype("float64"),
        "v_prediction": np.sqrt(alpha) * NOISE - np.sqrt(1 - alpha) * LATENTS,
    }[kind]


def squares(kind):
    return np.square(PREDICTION - target(kind)).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_noise_is_added_as_ddpm_defines_it(kind):
    noisy = np.sqrt(rows(ALPHA)) * LATENTS + np.sqrt(1 - rows(ALPHA)) * NOISE
    _, found = drawn(Objective(), kind)
    np.testing.assert_allclose(ops.convert_to_numpy(found.noisy), noisy, atol=1e-5)
    np.testing.assert_allclose(losses(Objective(), kind), squares(kind), rtol=1e-5)


def test_with_zero_terminal_snr_the_last_step_is_noise_alone():
    _, found = drawn(Objective(), "v_prediction", zero_terminal_snr=True)
    noisy, wanted = (ops.convert_to_numpy(x) for x in (found.noisy, found.target))
    np.testing.assert_allclose(noisy[-1], NOISE[-1], atol=2e-3)
    np.testing.assert_allclose(wanted[-1], -LATENTS[-1], atol=2e-3)


@pytest.mark.parametrize(
    "kind, weight",
    [
        # Hang et al. 2023, section 3.4; of v, kohya's and diffusers' SNR + 1.
        ("epsilon", np.minimum(SNR, 5.0) / SNR),
        ("sample", np.minimum(SNR, 5.0)),
        ("v_prediction", np.minimum(SNR, 5.0) / (SNR + 1)),
    ],
)
def test_min_snr(kind, weight):
    found = losses(Objective(snr_gamma=5.0), kind)
    np.testing.assert_allclose(found, weight * squares(kind), rtol=1e-4)


def test_debiased():
    """Yu et al. 2023, equation 11, with the cap of kohya's scripts."""
    snr = np.minimum(SNR, 1000.0)
    found = losses(Objective(debiased=True))
    np.testing.assert_allclose(found, squares("epsilon") / np.sqrt(snr), rtol=1e-4)
    found = losses(Objective(debiased=True), "v_prediction")
    np.testing.assert_allclose(found, squares("v_prediction") / (snr + 1), rtol=1e-4)
    with pytest.raises(ValueError, match="predictions of noise or v"):
        losses(Objective(debiased=True), "sample")


SIGMA = 1 / np.sqrt(SNR)
C = {
    "constant": np.full(6, 0.2),
    "snr": (1 - 0.2) / (1 + SIGMA) ** 2 + 0.2,
    "exponential": np.exp(np.log(0.2) * TIMESTEP / 1000),
}


@pytest.mark.parametrize("schedule", C)
@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
def test_huber_losses_turn_from_squares_to_absolute_values(kind, schedule):
    """sd-scripts `train_util.py`, `conditional_loss` and its schedules."""
    c = rows(C[schedule])
    error = 2 * (np.sqrt((PREDICTION - NOISE.astype("float64")) ** 2 + c**2) - c)
    error = (c * error if kind == "huber" else error).mean(axis=(1, 2, 3))
    found = losses(Objective(loss=kind, huber_c=0.2, huber_schedule=schedule))
    np.testing.assert_allclose(found, error, rtol=1e-4)


def test_masks_and_weights_count_where_they_stand():
    mask = RANDOM.uniform(size=(*SHAPE[:3], 1)).astype("float32")
    weight = np.arange(6, dtype="float32")
    wanted = (mask * np.square(PREDICTION - NOISE)).mean(axis=(1, 2, 3)) * weight
    found = losses(Objective(), mask=mask, weight=weight)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def noise_of(objective, count=64, size=16, **more):
    """Many draws of noise, from the target of epsilon."""
    latents = np.zeros((count, size, size, 4), "float32")
    _, found = drawn(objective, given=False, latents=latents, **more)
    return ops.convert_to_numpy(found.target), found


def test_offset_noise_is_the_same_for_a_channel():
    """Guttenberg 2023: the variance of a channel's mean is 1/pixels + offset**2."""
    noise, _ = noise_of(Objective(offset_noise=0.3))
    means = noise.mean(axis=(1, 2))
    assert means.var() == pytest.approx(1 / 256 + 0.09, rel=0.25)
    assert (noise - means[:, None, None]).var() == pytest.approx(1.0, rel=0.05)


def test_a_pyramid_has_more_low_frequencies_and_deviation_1():
    plain, _ = noise_of(Objective())
    noise, _ = noise_of(Objective(pyramid_noise=0.9))
    assert noise.std() == pytest.approx(1.0, abs=1e-3)
    assert noise.mean(axis=(1, 2)).std() > 3 * plain.mean(axis=(1, 2)).std()


def test_perturbed_input_is_noisier_than_what_is_predicted():
    noise, found = noise_of(Objective(input_perturbation=0.1, timesteps=(999, 1000)))
    seen = ops.convert_to_numpy(found.noisy) / np.sqrt(1 - ALPHAS[999])
    more = seen - noise
    assert more.std() == pytest.approx(0.1, rel=0.05)
    assert np.abs(np.corrcoef(more.ravel(), noise.ravel())[0, 1]) < 0.05


def test_timesteps_are_those_of_the_range():
    _, found = noise_of(Objective(timesteps=(200, 300)), 2000, 1)
    timestep = ops.convert_to_numpy(found.timestep)
    assert timestep.min() == 200 and timestep.max() == 299


def test_the_same_seed_draws_the_same():
    objective = Objective(offset_noise=0.1, pyramid_noise=0.2, input_perturbation=0.1)
    (one, first), (two, second), (other, _) = (
        noise_of(objective, seed=seed) for seed in (1, 1, 2)
    )
    assert (one == two).all() and (one != other).any()
    noisy = (ops.convert_to_numpy(each.noisy) for each in (first, second))
    np.testing.assert_array_equal(*noisy)


@pytest.mark.parametrize(
    "options, rule",
    [
        ({"loss": "l3"}, "`loss` must be one of mse, huber, smooth_l1"),
        ({"huber_c": 0.0}, "`huber_c` must be over 0"),
        ({"noise_bias": -1}, "above -1. Received: noise_bias=-1"),
        ({"caption_dropout": 1.5}, "from 0 to 1"),
        ({"debiased": True, "snr_gamma": 5.0}, "two weights for one thing"),
    ],
)
def test_what_no_objective_is_is_refused(options, rule):
    with pytest.raises(ValueError, match=rule):
        Objective(**options)


def test_timesteps_beyond_the_schedule_are_refused():
    with pytest.raises(ValueError, match="of the 1000 of the schedule"):
        drawn(Objective(timesteps=(0, 1001)))
    with pytest.raises(ValueError, match="range of noise levels"):
        drawn(Objective(), sigma_min=0.002, sigma_max=80.0)
