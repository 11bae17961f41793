"""Weights of 16 bits that are computed with in 32."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import tensorflow_cpu
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.models.layers import Conv, Dense


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


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its order of work")
@pytest.mark.parametrize(
    "layer, shape", [(Dense, (3, 4)), (Conv, (1, 8, 8, 4))], ids=["dense", "conv"]
)
def test_a_kernel_is_widened_when_its_input_is_there(layer, shape):
    import tensorflow as tf

    layer = layer(5, dtype=policy("float16_weights"))
    layer.build(shape)

    @tf.function
    def run(x):
        with tensorflow_cpu.kernels():
            return layer(tf.identity(x, "input_is_there"))

    graph = run.get_concrete_function(tf.TensorSpec(shape)).graph
    (cast,) = (
        each
        for each in graph.get_operations()
        if each.type == "Cast" and each.inputs[0].shape == layer._kernel.shape
    )
    ahead = [cast]
    while ahead[-1].inputs:
        ahead.append(ahead[-1].inputs[0].op)
    waited = {each.name for op in ahead for each in op.control_inputs}
    assert any("input_is_there" in name for name in waited)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    plain = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(run(x), plain, atol=1e-6)
