import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.backend import Program, empty_weights
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.presets.config import AutoencoderConfig
from kerasdiffusion.weights import names
from tests.tiny import TINY, enliven

every_backend = pytest.mark.every_backend
at_length = pytest.mark.every_backend_at_length
CONFIG = TINY.autoencoder
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def encoder():
    with empty_weights():
        network = ImageEncoder(CONFIG)
    enliven([network])
    return network


@pytest.fixture(scope="module")
def decoder():
    with empty_weights():
        network = Decoder(CONFIG)
    enliven([network])
    return network


def values(tensor):
    return ops.convert_to_numpy(tensor)


def pictures(*shape):
    return RANDOM.uniform(-1, 1, (*shape, 3)).astype("float32")


@pytest.mark.parametrize(
    "height, width",
    [
        pytest.param(8, 12, marks=at_length),
        pytest.param(10, 6, marks=every_backend),
    ],
)
def test_sizes(encoder, decoder, height, width):
    encode, decode = (Program(each, [each]) for each in (encoder, decoder))
    latents = values(encode(pictures(2, height, width)))
    assert latents.shape == (2, height // 2, width // 2, 4)
    assert values(decode(latents)).shape == (2, height, width, 3)


@every_backend
def test_the_result_is_the_scaled_mean(encoder):
    images = pictures(1, 8, 8)
    mean, log_variance = encoder.moments(images)
    assert values(encoder(images)) == pytest.approx(values(mean) * 0.18215, abs=1e-6)
    assert values(log_variance).shape == (1, 4, 4, 4)
    assert np.abs(values(mean) - values(log_variance)).max() > 0.1


@every_backend
def test_the_variance_is_kept_finite(encoder):
    bias = values(encoder.quant_conv.bias)
    try:
        for shift, end in ((1e4, 20.0), (-1e4, -30.0)):
            encoder.quant_conv.bias.assign(bias + shift * (np.arange(8) > 3))
            assert (values(encoder.moments(pictures(1, 8, 8))[1]) == end).all()
    finally:
        encoder.quant_conv.bias.assign(bias)


@every_backend
def test_the_decoder_undoes_the_scale(decoder):
    """Twice the scale factor is half the latents."""
    latents = RANDOM.normal(size=(1, 4, 4, 4)).astype("float32")
    double = Decoder(AutoencoderConfig(3, 4, (16, 32), 1, 8, scale_factor=0.3643))
    for variable, own in zip(double.weights, decoder.weights, strict=True):
        variable.assign(own)
    assert values(double(2 * latents)) == pytest.approx(
        values(decoder(latents)), abs=1e-4
    )


@every_backend
def test_the_names_are_those_of_the_files(encoder, decoder):
    for part, network in (("image_encoder", encoder), ("decoder", decoder)):
        table = names.tensors(part, CONFIG)
        found = {names.canonical_name(v.path, network.name) for v in network.weights}
        assert found == {tensor.name for tensor in table}


@pytest.mark.parametrize("kind", [ImageEncoder, Decoder])
@at_length
def test_dtype_and_config_come_back(kind):
    network = kind(CONFIG, dtype="bfloat16", name="mine")
    assert network.weights[0].dtype == "bfloat16"
    copy = kind.from_config(network.get_config())
    assert copy.config == CONFIG and copy.name == "mine"
    assert copy.dtype_policy.name == "bfloat16"
