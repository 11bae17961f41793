"""Optimizers that trace their step once for variables that are alike."""

import keras
import numpy as np
import pytest

from kerasdiffusion.compute.updates import traced_once

if keras.backend.backend() != "tensorflow":
    pytest.skip("these are TensorFlow's graphs", allow_module_level=True)

import tensorflow as tf

SHAPES = [(2, 3), (4,), (2, 3), (4,), (2, 3), (5, 1)]
OPTIMIZERS = {
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1, global_clipnorm=1),
    "amsgrad": lambda: keras.optimizers.Adam(0.1, amsgrad=True),
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1),
    "adafactor": lambda: keras.optimizers.Adafactor(0.1),
    "lion": lambda: keras.optimizers.Lion(0.1, weight_decay=0.1),
    "scheduled, accumulated": lambda: keras.optimizers.AdamW(
        keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5),
        weight_decay=0.1,
        gradient_accumulation_steps=2,
        use_ema=True,
    ),
}


def begun(make, once, shapes=SHAPES):
    """An optimizer of variables, and its step in a graph."""
    random = np.random.default_rng(0)
    variables = [
        keras.Variable(random.normal(size=shape).astype("float32")) for shape in shapes
    ]
    optimizer = make()
    optimizer.exclude_from_weight_decay(var_list=variables[:1])
    optimizer.build(variables)
    if once:
        traced_once(optimizer)

    @tf.function(autograph=False)
    def step(gradients):
        optimizer.apply(gradients, variables)

    return optimizer, variables, step


def gradients_of(variables, seed):
    random = np.random.default_rng(seed)
    return [tf.constant(random.normal(size=v.shape), "float32") for v in variables]


def after_steps(make, once):
    optimizer, variables, step = begun(make, once)
    for seed in range(4):
        step(gradients_of(variables, seed))
    return [keras.ops.convert_to_numpy(v) for v in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_variables_and_states_are_what_they_were(kind):
    plain, once = (after_steps(OPTIMIZERS[kind], each) for each in (False, True))
    for expected, found in zip(plain, once, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def operations_of(once, count):
    _, variables, step = begun(OPTIMIZERS["adamw"], once, [(2, 3)] * count)
    concrete = step.get_concrete_function(gradients_of(variables, 0))
    return len(concrete.graph.get_operations())


def test_another_variable_of_a_shape_is_a_few_operations():
    own = operations_of(True, 9) - operations_of(True, 5)
    plain = operations_of(False, 9) - operations_of(False, 5)
    assert own < plain / 3


class Odd(keras.optimizers.SGD):
    """It tells variables apart by their names."""

    def update_step(self, gradient, variable, learning_rate):
        if "still" not in variable.name:
            super().update_step(gradient, variable, learning_rate)


def test_an_optimizer_of_ones_own_stays_as_it_is():
    still, other = (keras.Variable(1.0, name=name) for name in ("still", "other"))
    optimizer = Odd(0.5)
    optimizer.build([still, other])
    traced_once(optimizer)

    @tf.function(autograph=False)
    def step():
        optimizer.apply([tf.constant(1.0)] * 2, [still, other])

    step()
    assert (float(still), float(other)) == (1.0, 0.5)
