"""Products and convolutions by a layer's kernel, whatever that is kept in."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import backend, kernels, tensorflow_cpu
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.models.layers import Conv, Dense
from kerasdiffusion.networks.quantization import quantize

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its order of work")
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "layer, shape", [(Dense, (3, 4)), (Conv, (1, 8, 8, 4))], ids=["dense", "conv"]
)
def test_a_kernel_is_widened_when_its_input_is_there(layer, shape, bits):
    import tensorflow as tf

    layer = layer(5, **({"dtype": policy("float16_weights")} if bits == 16 else {}))
    layer.build(shape)
    if bits == 8:
        quantize(layer)

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
    x = normal(*shape)
    np.testing.assert_allclose(run(x), backend.to_numpy(layer(x)), atol=1e-6)


def test_what_is_as_wide_as_its_input_is_taken_as_it_is():
    layer, half = Dense(2), Dense(2, dtype=policy("float16_weights"))
    for each in (layer, half):
        each.build((None, 3))
    x = ops.ones((1, 3))
    assert kernels.widened(layer.kernel, x) is layer.kernel
    assert kernels.widened(half.kernel, ops.cast(x, "float16")) is half.kernel
    layer.enable_lora(1)  # Keras's own: the kernel is then a sum
    changed = layer.kernel
    assert kernels.widened(changed, x) is changed
