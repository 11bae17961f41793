"""Run by `test_replicas` with two devices, all one CPU, under `tf.distribute`."""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


import keras
import numpy as np
import tensorflow as tf

from kerasdiffusion import StableDiffusion
from kerasdiffusion.compute import backend
from tests.tiny import TEXTS, tiny_model

(cpu,) = tf.config.list_physical_devices("CPU")
part = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [part] * 2)
strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(2)])
seen = []


def watch(model):
    """Notes how many pictures each traced call of a network has."""
    for network in (model.diffusion_model, model.decoder):

        def call(inputs, *args, network=network, own=network.call, **kwargs):
            latents = inputs["latents"] if isinstance(inputs, dict) else inputs
            seen.append((network.name, latents.shape[0]))
            return own(inputs, *args, **kwargs)

        network.call = call


def paint(model, count=4, **options):
    settings = {"seed": 3, "num_steps": 2, "progress_bar": False} | options
    return model.text_to_image(TEXTS[:1], batch_size=count, **settings)


def is_mirrored(variable) -> bool:
    return len(strategy.experimental_local_results(variable.value)) == 2


def a_layer():
    """One that XLA compiles: each replica has its half of the batch."""
    with strategy.scope():
        dense = keras.layers.Dense(2)
        dense.build((None, 3))
    halves = []

    def call(x):
        halves.append(x.shape[0])
        return dense(x)

    axes = (lambda x: 0, lambda x: 0)
    program = backend.Program(call, [dense], True, axes)
    x = np.arange(12, dtype="float32").reshape(4, 3)
    found = backend.to_numpy(program(x))
    np.testing.assert_allclose(found, x @ np.array(dense.kernel), rtol=1e-5)
    assert set(halves) == {2}, halves
    # A batch that does not divide is not divided.
    found = backend.to_numpy(program(x[:3]))
    np.testing.assert_allclose(found, x[:3] @ np.array(dense.kernel), rtol=1e-5)
    assert set(halves) == {2, 3}, halves
    functions = program._run.get_concrete_function(tf.constant(x)).graph.as_graph_def()
    functions = functions.library.function
    assert any(each.attr["_XlaMustCompile"].b for each in functions)
    print("a layer by XLA the same")


a_layer()
alone = tiny_model(precision="float32", jit_compile=False)
# What remembers, and what has noise of its own.
how = {"apg": True, "sampler": "euler_ancestral"}
expected = paint(alone, **how)
assert expected.std() > 20
for name in sys.argv[1:]:
    jit_compile = name == "XLA"
    options = {"jit_compile": jit_compile, "precision": "float32"}
    seen.clear()
    with strategy.scope():
        model = tiny_model(**options)
        later = StableDiffusion(config=model.config, weights=None, **options)
    assert is_mirrored(model.diffusion_model.conv_in.kernel)
    # Made under the scope, though built after it.
    assert is_mirrored(later.decoder.weights[0])
    watch(model)
    assert np.abs(paint(model, **how).astype(int) - expected).max() <= 1
    # Of four pictures two for each replica, under two branches; then one at a time.
    assert set(seen) == {("diffusion_model", 4), ("decoder", 1)}, seen
    if "XLA" in sys.argv and not jit_compile:  # a batch that does not divide
        seen.clear()
        other = paint(alone, 3, **how)
        assert np.abs(paint(model, 3, **how).astype(int) - other).max() <= 1
        assert ("diffusion_model", 6) in seen
    print(name, "the same")
