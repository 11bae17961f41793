"""The denoising loss: its target, its weight, its captions."""

import numpy as np
import pytest
from keras import ops

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.training.bundled.diffusion import DiffusionTrainer

EMPTY = np.array([1, 0, 0], "int32")


class Oracle:
    """Stands for the U-Net: remembers what it sees, and answers by a function."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, inputs):
        self.seen = {key: ops.convert_to_numpy(x) for key, x in inputs.items()}
        return ops.convert_to_tensor(self.answer(self.seen))


def make(answer, kind="epsilon", **options):
    schedule = ScheduleConfig(prediction_type=kind)
    return DiffusionTrainer(
        Oracle(answer),
        lambda tokens: ops.cast(tokens, "float32"),
        schedule,
        EMPTY,
        **options,
    )


def batch(count=64):
    rng = np.random.default_rng(0)
    return {
        "latents": rng.normal(size=(count, 4, 4, 2)).astype("float32"),
        "tokens": np.full((count, 3), 7, "int32"),
    }


def answers(inputs, alphas_cumprod):
    """The perfect answers, from the definition of the noisy latents."""

    def answer(kind):
        def predict(seen):
            alpha = alphas_cumprod[seen["timestep"].astype(int)][:, None, None, None]
            clean, noisy = inputs["latents"], seen["latents"]
            noise = (noisy - np.sqrt(alpha) * clean) / np.sqrt(1 - alpha)
            velocity = np.sqrt(alpha) * noise - np.sqrt(1 - alpha) * clean
            wanted = {"epsilon": noise, "sample": clean, "v_prediction": velocity}
            return wanted[kind].astype("float32")

        return predict

    return answer


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_perfect_prediction_has_no_loss(kind):
    inputs = batch()
    alphas_cumprod = Schedule(ScheduleConfig()).alphas_cumprod
    trainer = make(answers(inputs, alphas_cumprod)(kind), kind)
    assert float(ops.max(trainer.call(inputs))) < 1e-4
    wrong = make(lambda seen: 0.0 * seen["latents"], kind)
    assert float(ops.mean(wrong.call(inputs))) > 0.1


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_caps_the_weight_of_the_error_of_clean_latents(kind):
    """The loss is min(SNR, cap) times the squared error of the clean latents."""
    inputs = batch()
    alphas_cumprod = Schedule(ScheduleConfig()).alphas_cumprod

    def off(seen):  # as if the clean latents were predicted 1 too high
        perfect = answers(inputs, alphas_cumprod)(kind)(seen)
        alpha = alphas_cumprod[seen["timestep"].astype(int)][:, None, None, None]
        slope = {
            "epsilon": -np.sqrt(alpha / (1 - alpha)),
            "v_prediction": -1 / np.sqrt(1 - alpha),
        }[kind]
        return (perfect + slope).astype("float32")

    trainer = make(off, kind, snr_cap=5.0)
    loss = ops.convert_to_numpy(trainer.call(inputs))
    timestep = trainer.diffusion_model.seen["timestep"].astype(int)
    snr = alphas_cumprod[timestep] / (1 - alphas_cumprod[timestep])
    np.testing.assert_allclose(loss, np.minimum(snr, 5.0), rtol=0.05)


def test_some_captions_are_exchanged_for_the_empty_one():
    trainer = make(lambda seen: seen["latents"], caption_dropout=0.25)
    trainer.call(batch(1000))
    tokens = trainer.diffusion_model.seen["crossattn"]
    dropped = (tokens == EMPTY).all(axis=-1)
    kept = (tokens == 7).all(axis=-1)
    assert (dropped | kept).all()
    assert 0.2 < dropped.mean() < 0.3


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_timesteps_cover_the_whole_schedule(bias):
    trainer = make(lambda seen: seen["latents"], noise_bias=bias)
    trainer.call(batch(4000))
    timestep = trainer.diffusion_model.seen["timestep"]
    assert timestep.min() < 50 and timestep.max() > 989
    assert timestep.max() <= 999
    # Below a share x of the schedule lie x ** (1 + bias) of all.
    for share in (0.25, 0.5, 0.75):
        below = (timestep < 1000 * share).mean()
        assert below == pytest.approx(share ** (1 + bias), abs=0.04)


def test_a_bias_that_no_density_has_is_refused():
    with pytest.raises(ValueError, match="above -1. Received: noise_bias=-1"):
        make(lambda seen: seen["latents"], noise_bias=-1)
