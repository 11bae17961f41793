import keras
import pytest

from kerasdiffusion.training.schedules import WarmUpCosine

pytestmark = pytest.mark.every_backend


def test_it_is_keras_cosine_decay_with_a_warm_up_from_zero():
    ours = WarmUpCosine(2e-3, steps=500, warm_up=100, floor=0.1)
    theirs = keras.optimizers.schedules.CosineDecay(
        0.0, 400, alpha=0.1, warmup_target=2e-3, warmup_steps=100
    )
    for step in (0, 1, 50, 99, 100, 101, 300, 499, 500, 600):
        assert float(ours(step)) == pytest.approx(float(theirs(step)), rel=1e-5)


def test_a_run_without_warm_up_begins_at_the_peak():
    rate = WarmUpCosine(1.0, steps=10, warm_up=0)
    assert float(rate(1)) == pytest.approx(0.95 * (0.5 + 0.5 * 0.9510565) + 0.05)


def test_it_can_be_made_again_from_its_config():
    rate = WarmUpCosine(1e-3, steps=10, warm_up=2)
    again = WarmUpCosine.from_config(rate.get_config())
    assert float(again(5)) == float(rate(5))
