import numpy as np
import pytest
from keras import ops

from kerasdiffusion.models.text_encoder import ACTIVATIONS, TextEncoder
from kerasdiffusion.presets.config import TextEncoderConfig
from kerasdiffusion.weights import names
from tests.tiny import TINY, enliven

every_backend = pytest.mark.every_backend
at_length = pytest.mark.every_backend_at_length
TOKENS = np.arange(1, 13, dtype="int32")[None]


@pytest.fixture(scope="module")
def network():
    network = TextEncoder(TINY.text_encoder)
    enliven([network])
    return network


def values(tensor):
    return ops.convert_to_numpy(tensor)


@every_backend
def test_a_token_sees_those_before_it_alone(network):
    context = values(network(TOKENS))
    assert context.shape == (1, 12, 32)
    other = TOKENS.copy()
    other[0, 7] = 99
    changed = np.abs(values(network(other)) - context).max(axis=(0, 2))
    assert (changed[:7] < 1e-6).all() and (changed[7:] > 1e-3).all()


@every_backend
def test_positions_count_and_fewer_tokens_than_the_context_do(network):
    same = np.full((1, 12), 5, "int32")
    context = values(network(same))
    assert np.abs(context[0, 0] - context[0, 11]).max() > 0.1
    assert values(network(TOKENS[:, :4])) == pytest.approx(
        values(network(TOKENS))[:, :4], abs=1e-5
    )


@every_backend
def test_the_names_are_those_of_the_files(network):
    table = names.tensors("text_encoder", TINY.text_encoder)
    found = {names.canonical_name(v.path, network.name): v for v in network.weights}
    assert found.keys() == {tensor.name for tensor in table}
    assert len(found) == len(network.weights)


@every_backend
def test_activations():
    x = np.linspace(-4, 4, 9).astype("float32")
    quick = values(ACTIVATIONS["quick_gelu"](ops.convert_to_tensor(x)))
    assert quick == pytest.approx(x / (1 + np.exp(-1.702 * x)), abs=1e-6)
    # x times the normal distribution function: 0.841345 at 1.
    exact = values(ACTIVATIONS["gelu"](ops.convert_to_tensor([1.0, -1.0])))
    assert exact == pytest.approx([0.841345, -0.158655], abs=1e-6)


@at_length
def test_dtype_and_config_come_back():
    config = TextEncoderConfig(20, 5, width=8, depth=1, heads=2, mlp_width=8)
    network = TextEncoder(config, dtype="mixed_bfloat16", name="mine")
    assert network.weights[0].dtype == "float32"
    assert network(TOKENS[:, :5]).dtype == ops.cast(0, "bfloat16").dtype
    copy = TextEncoder.from_config(network.get_config())
    assert copy.config == config and copy.name == "mine"
    assert copy.dtype_policy.name == "mixed_bfloat16"
