"""Blocks of a training step: the same gradients, with less kept for them."""

import contextlib
import re
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import backend, remat
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.layers import ResidualBlock
from tests.tiny import TINY, TINY_SDXL, enliven

BACKEND = keras.backend.backend()
RANDOM = np.random.default_rng(0)
SMALL = TINY.replace(
    diffusion_model=replace(
        TINY.diffusion_model, block_widths=(32,), transformer_depths=(1,), heads=(2,)
    )
)


def made(config):
    with backend.empty_weights():
        network = DiffusionModel(config.diffusion_model)
    enliven([network])
    network.trainable = False
    return network


def inputs_of(network):
    shapes = network.input_shapes() | {"latents": (8, 8, 4)}
    random = np.random.default_rng(1)
    inputs = {
        key: random.normal(size=(2, *shape)).astype("float32")
        for key, shape in shapes.items()
    }
    inputs["timestep"] = np.array([10.0, 900.0], "float32")
    return inputs


def projections(network):
    """What a LoRA changes."""
    names = ("to_q/kernel", "to_k/kernel", "to_v/kernel", "to_out-0/kernel")
    return [each for each in network.variables if each.path.endswith(names)]


def loss_of(network, **how):
    """A loss of changes of the projections, which are blocks' own or not."""
    kernels, inputs = projections(network), inputs_of(network)

    def loss(changes):
        pairs = [(k, k._value + x) for k, x in zip(kernels, changes, strict=True)]
        step = remat.blocks(**how) if how else contextlib.nullcontext()
        with keras.StatelessScope(pairs), step:
            prediction = network(inputs)
        return ops.mean(ops.square(prediction))

    changes = [0.1 * RANDOM.normal(size=k.shape).astype("float32") for k in kernels]
    return loss, changes


def gradients(loss, values):
    """A function's value and its gradients, as each backend takes them."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False)
        def run(values):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                found = loss(values)
            return found, tape.gradient(found, values)

        found, slopes = run([tf.constant(each) for each in values])
    elif BACKEND == "jax":
        import jax

        found, slopes = jax.jit(jax.value_and_grad(loss))(values)
    else:
        import torch

        values = [torch.tensor(each, requires_grad=True) for each in values]
        found = loss(values)
        slopes = torch.autograd.grad(found, values)
        found = found.detach()
    return float(found), [backend.to_numpy(each) for each in slopes]


def check_gradients(config, **how):
    network = made(config)
    loss, changes = loss_of(network)
    expected, slopes = gradients(loss, changes)
    found, others = gradients(loss_of(network, **how)[0], changes)
    assert found == pytest.approx(expected, rel=1e-5)
    sizes = [np.abs(each).max() for each in slopes]
    assert min(sizes) > 0
    for one, other, size in zip(slopes, others, sizes, strict=True):
        np.testing.assert_allclose(other, one, atol=2e-4 * size)


@pytest.mark.heavy  # of losses after a step: `tests/training/test_room.py`
@pytest.mark.every_backend_at_length
def test_gradients_are_those_of_the_plain_step():
    check_gradients(SMALL, remat=True)


@pytest.mark.heavy
@pytest.mark.every_backend_at_length
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("config", [TINY, TINY_SDXL], ids=["sd1", "sdxl"])
def test_gradients_are_those_of_the_plain_step_whatever_the_model(config, checkpointed):
    check_gradients(config, remat=checkpointed)


def residual_block():
    """A residual block whose input is watched, and how its gradient is taken."""
    layer = ResidualBlock(8, 4, 1e-5)
    x = RANDOM.normal(size=(1, 4, 4, 8)).astype("float32")
    layer.build(x.shape)
    layer.trainable = False
    return layer, x


def convolutions(text):
    """How many there are in a program of XLA's."""
    return len(re.findall(r" convolution\(|custom-call\(.*conv", text))


def counted(remat_too, jit_compile=False):
    """The convolutions of a residual block's value and of its gradient."""
    layer, x = residual_block()

    def value(x):
        with remat.blocks(remat=remat_too, jit_compile=jit_compile):
            return ops.sum(ops.square(layer(x)))

    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False, jit_compile=jit_compile)
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                found = value(x)
            return tape.gradient(found, x)

        if jit_compile:
            ir = run.experimental_get_compiler_ir(tf.constant(x))
            return convolutions(ir(stage="optimized_hlo"))
        graph = run.get_concrete_function(tf.constant(x)).graph.as_graph_def()
        functions = {f.signature.name: f.node_def for f in graph.library.function}

        def count(nodes):
            called = [n.attr["f"].func.name for n in nodes if n.attr["f"].func.name]
            own = sum(node.op in ("Conv2D", "Conv2DBackpropInput") for node in nodes)
            return own + sum(count(functions[name]) for name in called)

        return count(graph.node)
    if BACKEND == "jax":
        import jax

        return convolutions(jax.jit(jax.grad(value)).lower(x).compile().as_text())
    import torch
    from torch.profiler import profile

    with profile() as found:
        value(torch.tensor(x, requires_grad=True)).backward()
    keys = ("aten::convolution", "aten::convolution_backward")
    return sum(each.count for each in found.key_averages() if each.key in keys)


@pytest.mark.every_backend
def test_what_is_inside_a_block_is_computed_again():
    """Two convolutions and their gradients by the input; the first two once more."""
    assert counted(False) == 4
    # Nobody needs the last one's result again, which XLA and TensorFlow see.
    assert counted(True) in (5, 6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA on TensorFlow")
def test_xla_does_not_merge_what_is_computed_again():
    assert counted(False, jit_compile=True) == 4
    assert counted(True, jit_compile=True) in (5, 6)
