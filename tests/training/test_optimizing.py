"""Averages of accumulated steps, and learning rates of variables."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.training.optimizing import prepare

GRADIENTS = [np.float32(x) for x in (1, 3, -2, 4, 0.5, 2)]


def averaged(mend=True, **options):
    """A number, its average, and what they are after each micro-step."""
    variable = keras.Variable(np.float32(1.0))
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9, **options)
    optimizer.build([variable])
    if mend:
        prepare(optimizer, lambda variable: 1.0)
    found = []
    for gradient in GRADIENTS:
        optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
        mean = optimizer._model_variables_moving_average[0]
        found.append([float(ops.convert_to_numpy(x)) for x in (variable, mean)])
    return found


@pytest.mark.every_backend
def test_an_average_counts_whole_steps():
    found = averaged(gradient_accumulation_steps=2)
    value, mean = 1.0, None
    for step, (one, two) in enumerate(
        zip(GRADIENTS[::2], GRADIENTS[1::2], strict=True)
    ):
        value -= 0.1 * (one + two) / 2
        mean = value if mean is None else 0.9 * mean + 0.1 * value
        np.testing.assert_allclose(found[2 * step + 1], [value, mean], rtol=1e-5)
    # Keras's own counts each part of a step.
    assert averaged(False, gradient_accumulation_steps=2)[-1][1] != found[-1][1]
    assert averaged(True) == averaged(False)


def test_writing_averages_over_the_weights_in_a_step_is_refused():
    with pytest.raises(ValueError, match="leave `ema_overwrite_frequency` out"):
        averaged(gradient_accumulation_steps=2, ema_overwrite_frequency=3)


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", [keras.optimizers.SGD, keras.optimizers.AdamW])
def test_rates_are_factors_of_the_step(kind):
    slow, quick = (keras.Variable(np.zeros(3, "float32")) for _ in range(2))
    optimizer = kind(0.1)
    optimizer.build([slow, quick])
    for _ in range(2):  # another call takes the place of the one before
        prepare(optimizer, lambda variable: 0.25 if variable is slow else 1.0)
    gradient = ops.convert_to_tensor(np.array([1.0, -2.0, 3.0], "float32"))
    optimizer.apply([gradient, gradient], [slow, quick])
    values = [ops.convert_to_numpy(each) for each in (slow, quick)]
    np.testing.assert_allclose(values[0], 0.25 * values[1], rtol=1e-5)
    assert np.abs(values[1]).min() > 0.05
