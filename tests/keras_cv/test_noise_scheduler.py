"""Noise by training steps, and the steps of DDPM."""

import numpy as np
import pytest
from keras import ops

from kerasdiffusion.keras_cv.models.stable_diffusion import NoiseScheduler, constants
from kerasdiffusion.keras_cv.models.stable_diffusion.noise_scheduler import VARIANCES

pytestmark = pytest.mark.every_backend
RANDOM = np.random.default_rng(0)
CLEAN, NOISE = RANDOM.normal(size=(2, 3, 4, 4, 4)).astype("float32")


def array(tensor):
    return ops.convert_to_numpy(tensor)


def test_noise_is_added_by_each_ones_step():
    noise = NoiseScheduler(1000, 0.00085, 0.012, "scaled_linear")
    assert len(noise) == noise.train_timesteps == 1000
    left = np.array(constants._ALPHAS_CUMPROD)[[0, 500, 999]]
    assert array(noise.alphas_cumprod)[[0, 500, 999]] == pytest.approx(left, rel=1e-5)
    found = array(noise.add_noise(CLEAN, NOISE, np.array([0, 500, 999])))
    left = left[:, None, None, None]
    assert found == pytest.approx(
        left**0.5 * CLEAN + (1 - left) ** 0.5 * NOISE, abs=1e-5
    )


def test_the_last_step_gives_the_clean_sample():
    noise = NoiseScheduler(clip_sample=False)
    noisy = noise.add_noise(CLEAN, NOISE, np.zeros(3, "int32"))
    assert array(noise.step(NOISE, 0, noisy)) == pytest.approx(CLEAN, abs=1e-4)
    assert array(noise.step(CLEAN, 0, noisy, predict_epsilon=False)) == pytest.approx(
        CLEAN, abs=1e-4
    )
    clipped = NoiseScheduler().step(10 * NOISE, 0, noisy)
    assert np.abs(array(clipped)).max() <= 1 + 1e-5


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_fresh_noise_has_the_variance_that_is_named(variance):
    noise = NoiseScheduler(variance_type=variance, clip_sample=False)
    sample = np.zeros((64, 8, 8, 4), "float32")
    output, step = np.zeros_like(sample), 1  # where they differ most
    left = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))
    beta = 1 - left[step] / left[step - 1]
    small = (1 - left[step - 1]) / (1 - left[step]) * beta
    assert small < 0.6 * beta
    expected = small if "small" in variance else beta
    if variance == "learned":
        output, expected = np.concatenate([output, output + 0.04], -1), 0.04
    if variance == "learned_range":
        output, expected = np.concatenate([output, output], -1), (beta * small) ** 0.5
    found = array(noise.step(output, step, sample))
    assert found.shape == sample.shape
    assert found.var() == pytest.approx(expected, rel=0.05)


def test_what_is_none_of_those_is_refused():
    with pytest.raises(ValueError, match="`beta_schedule` must be.*'quadratic'"):
        NoiseScheduler(beta_schedule="quadratic")
    with pytest.raises(ValueError, match="`variance_type` must be.*'fixed'"):
        NoiseScheduler(variance_type="fixed")
    with pytest.raises(ValueError, match=r"predict 8 channels.*\(3, 4, 4, 4\)"):
        NoiseScheduler(variance_type="learned").step(NOISE, 5, CLEAN)
