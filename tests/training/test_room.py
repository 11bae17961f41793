"""Checkpointed gradients: what is taught is the same, and when they are wanted."""

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import devices
from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.presets.families import SD1, SDXL
from kerasdiffusion.training.finetuning.finetuner import Finetuner
from kerasdiffusion.training.finetuning.learned import LoRA
from kerasdiffusion.training.room import needs_remat, step_bytes
from tests.tiny import ONE_LEVEL, TINY, tiny_model
from tests.training.finetuning.test_finetuner import data_for


def taught(model, remat, adapter, **options):
    """The losses of two steps."""
    trainer = Finetuner(model, adapter, remat=remat, **options)
    trainer.compile(keras.optimizers.SGD(1e-1))
    data = data_for(trainer)
    return [float(trainer.train_on_batch(data)) for _ in range(2)]


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize(
    "config",
    [ONE_LEVEL, pytest.param(TINY, marks=pytest.mark.heavy)],
    ids=["one level", "two"],
)
def test_a_checkpointed_step_teaches_the_same(config):
    model = tiny_model(config=config)
    plain = taught(model, False, LoRA(rank=4, text_encoders=True))
    assert plain[0] != plain[1]
    found = taught(model, True, LoRA(rank=4, text_encoders=True))
    assert found == pytest.approx(plain, rel=1e-5)


@pytest.mark.heavy
@pytest.mark.every_backend_at_length
def test_a_checkpointed_step_teaches_a_whole_model_the_same():
    plain = taught(tiny_model(), False, None)
    found = taught(tiny_model(), True, None)
    assert plain[0] != plain[1] and found == pytest.approx(plain, rel=1e-5)


def test_a_step_is_checkpointed_where_it_would_not_fit(monkeypatch):
    config, weights = DiffusionModelConfig(), 4 * 2**30
    monkeypatch.setattr(devices, "memory", lambda: 16 * 2**30)
    assert not needs_remat(config, (1, 64, 64, 4), 4, weights)
    assert needs_remat(config, (4, 64, 64, 4), 4, weights)
    assert not needs_remat(config, (4, 64, 64, 4), 2, weights // 2)
    monkeypatch.setattr(devices, "memory", lambda: None)  # nobody knows
    assert not needs_remat(config, (64, 64, 64, 4), 4, weights)


@pytest.mark.parametrize(
    "config, side, count, taught, itemsize, remat, measured",
    [
        (SD1, 32, 860, 3, 2, False, 3.74),
        (SD1, 32, 860, 3, 4, False, 5.04),
        (SDXL, 64, 2567, 23, 2, True, 7.66),
    ],
    ids=["1 in 16 bits", "1", "XL in 16 bits"],
)
def test_what_a_step_takes_is_near_what_was_measured(
    config, side, count, taught, itemsize, remat, measured
):
    """GiB of processes that taught a LoRA of rank 16 by AdamW; numbers in millions."""
    net, weights = config.diffusion_model, count * 10**6 * itemsize
    narrow, held = weights if itemsize == 2 else 0, weights + 3 * 4 * taught * 10**6
    how = net, (1, side, side, 4), 4, held, remat, narrow
    assert step_bytes(*how) / 2**30 == pytest.approx(measured, rel=0.05)


def test_less_is_kept_where_it_is_computed_again():
    how = SD1.diffusion_model, (1, 32, 32, 4), 4, 0
    assert step_bytes(*how, True) < step_bytes(*how, False)


def test_the_machine_has_some_memory():
    assert devices.memory() is None or devices.memory() > 2**28
    assert np.isfinite(devices.memory() or 0)


def test_remat_is_one_of_three(tiny):
    with pytest.raises(ValueError, match="True, False or .* Received: remat='always'"):
        Finetuner(tiny, LoRA(), remat="always")


def test_without_tokens_no_text_encoder_is_read(tiny):
    trainer = Finetuner(tiny, LoRA(rank=2), reads_tokens=False)
    held = {each.name for each in trainer._layers}
    assert tiny.diffusion_model.name in held and tiny.text_encoder.name not in held
    with pytest.raises(ValueError, match="without tokens where reads_tokens=False"):
        trainer.call({"latents": np.zeros((1, 8, 8, 4), "float32"), "tokens": [[1]]})
    with pytest.raises(ValueError, match="taught by tokens. Received: reads_tokens=F"):
        Finetuner(tiny, LoRA(text_encoders=True), reads_tokens=False)


@pytest.mark.parametrize(
    "precision",
    ["float16_weights", pytest.param("mixed_bfloat16", marks=pytest.mark.heavy)],
)
def test_weights_of_another_dtype_than_is_computed_with_are_taught_beside(precision):
    """With weights that float16 holds, it is what float32 teaches."""
    model = tiny_model(config=ONE_LEVEL, precision=precision)
    found = taught(model, False, LoRA(rank=4))
    assert np.isfinite(found).all() and found[0] != found[1]
    if precision == "float16_weights":
        plain = tiny_model(config=ONE_LEVEL)
        for part in ("diffusion_model", "text_encoder"):
            pair = getattr(plain, part).variables, getattr(model, part).variables
            for variable, half in zip(*pair, strict=True):
                variable.assign(keras.ops.cast(half._value, "float32"))
        expected = taught(plain, False, LoRA(rank=4))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
