import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.backend import Program, empty_weights
from kerasdiffusion.models.diffusion_model import DiffusionModel, TimeEmbedding
from kerasdiffusion.weights import names
from tests.tiny import TINY, enliven

every_backend = pytest.mark.every_backend
CONFIG = TINY.diffusion_model
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network():
    with empty_weights():
        network = DiffusionModel(CONFIG)
    enliven([network])
    return network


def inputs(batch=2, height=6, width=8, timestep=500.0):
    random = np.random.default_rng(0)
    return {
        "latents": random.normal(size=(batch, height, width, 4)).astype("float32"),
        "timestep": np.full(batch, timestep, "float32"),
        "crossattn": random.normal(size=(batch, 5, 32)).astype("float32"),
    }


def values(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def test_begins_by_predicting_zero():
    """As the original does: an untrained network adds nothing of its own."""
    prediction = values(DiffusionModel(CONFIG)(inputs()))
    assert prediction.shape == (2, 6, 8, 4) and (prediction == 0).all()


@every_backend
def test_every_input_counts_and_pictures_do_not_mix(network):
    run = Program(network, [network])
    prediction = values(run(inputs()))
    for key in ("latents", "timestep", "crossattn"):
        changed = inputs()
        changed[key][1] += 0.5
        difference = np.abs(values(run(changed)) - prediction).max(axis=(1, 2, 3))
        assert difference[0] < 1e-4 and difference[1] > 1e-3, key


@pytest.mark.parametrize("height, width", [(1, 1), (5, 7), (2, 9)])
def test_any_size(network, height, width):
    prediction = values(network(inputs(1, height, width)))
    assert prediction.shape == (1, height, width, 4)
    assert np.isfinite(prediction).all()


@every_backend
def test_time_embedding():
    """Cosines first, then sines; each frequency is 1/100 of the one before."""
    layer = TimeEmbedding(4)
    timestep = np.array([3.5, 999.0], "float32")
    layer(timestep)
    for dense in (layer.linear_1, layer.linear_2):
        dense.kernel.assign(np.eye(*dense.kernel.shape))
    frequencies = timestep[:, None] * np.array([1.0, 0.01])
    waves = np.concatenate([np.cos(frequencies), np.sin(frequencies)], axis=-1)
    expected = waves / (1 + np.exp(-waves))
    found = values(layer(timestep))
    assert found.shape == (2, 16)
    assert found[:, :4] == pytest.approx(expected, abs=1e-4)


@pytest.mark.every_backend_at_length
def test_half_precision_tells_timesteps_apart():
    """Timesteps are not rounded to bfloat16, where 999 is 1000."""
    with empty_weights():
        network = DiffusionModel(CONFIG, dtype="bfloat16")
    enliven([network])
    run = Program(network, [network])
    late = run(inputs(timestep=999.0))
    assert keras.backend.standardize_dtype(late.dtype) == "bfloat16"
    assert np.abs(values(late) - values(run(inputs(timestep=1000.0)))).max() > 0


@pytest.mark.parametrize("linear", [False, True])
def test_the_names_are_those_of_the_files(linear):
    config = dataclasses.replace(CONFIG, linear_projection=linear)
    network = DiffusionModel(config)
    table = names.tensors("diffusion_model", config)
    found = {names.canonical_name(v.path, network.name): v for v in network.weights}
    assert found.keys() == {tensor.name for tensor in table}
    rank = len(found["down_blocks.0.attentions.0.proj_in.weight"].shape)
    assert rank == (2 if linear else 4)


def test_dtype_and_config_come_back():
    network = DiffusionModel(CONFIG, dtype="mixed_float16", name="mine")
    copy = DiffusionModel.from_config(network.get_config())
    assert copy.config == CONFIG and copy.name == "mine"
    assert copy.dtype_policy.name == "mixed_float16"
