"""Weights of 16 bits that are computed with in 32."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.precision import policy
from kerasdiffusion.models.layers import Dense


def test_other_names_are_keras_own():
    assert type(policy("mixed_float16")) is keras.DTypePolicy
    with pytest.raises(ValueError, match="Cannot convert 'float15'"):
        policy("float15")


@pytest.mark.every_backend
def test_a_layer_computes_with_float16_weights_what_float32_computes():
    half, full = Dense(5, dtype=policy("float16_weights")), Dense(5)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    for layer in (half, full):
        layer.build(x.shape)
    for variable, like in zip(half.variables, full.variables, strict=True):
        assert variable.dtype == "float16"
        like.assign(ops.cast(variable.value, "float32"))
    found, expected = (ops.convert_to_numpy(each(x)) for each in (half, full))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_policy_is_written_and_read():
    own = policy("float16_weights")
    again = keras.dtype_policies.deserialize(keras.dtype_policies.serialize(own))
    assert (again.name, again.variable_dtype) == ("float16_weights", "float16")
