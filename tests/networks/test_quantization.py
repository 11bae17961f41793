"""8-bit weights: what they hold, what is computed with them, what cannot be done."""

import numpy as np
import pytest
from keras import ops

from kerasdiffusion import StableDiffusion
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.networks.quantization import is_quantized, quantize
from kerasdiffusion.training.bundled.autoencoder import AutoencoderTrainer
from kerasdiffusion.training.bundled.diffusion import DiffusionTrainer
from tests.tiny import TINY, lively, tiny_model

CAT = {"prompt": "two cats", "num_steps": 2, "seed": 3, "progress_bar": False}


def unet():
    network = DiffusionModel(TINY.diffusion_model)
    random = np.random.default_rng(0)
    for variable in network.variables:
        variable.assign(lively(random, variable.path, tuple(variable.shape)))
    return network


def seen():
    random = np.random.default_rng(1)
    shapes = {"latents": (1, 8, 8, 4), "crossattn": (1, 5, 32), "timestep": (1,)}
    return {
        name: ops.array(random.normal(size=shape).astype("float32"))
        for name, shape in shapes.items()
    }


def rounded(kernel):
    """Whole numbers from -127 to 127 times a scale for each output channel."""
    axes = tuple(range(kernel.ndim - 1))
    # As Keras has it, so that what is half way is rounded the same.
    scale = np.float32(127.0) / (np.abs(kernel).max(axis=axes, keepdims=True) + 1e-7)
    return np.round(kernel * scale) / scale


def test_it_computes_with_the_rounded_weights():
    inputs = seen()
    network, other = unet(), unet()
    plain = ops.convert_to_numpy(network(inputs))
    kernels = [each for each in other.variables if each.path.endswith("/kernel")]
    for kernel in kernels:
        kernel.assign(rounded(ops.convert_to_numpy(kernel)))
    expected = ops.convert_to_numpy(other(inputs))

    assert quantize(network) == len(kernels)
    small = [each for each in network.variables if each.dtype == "int8"]
    assert [each.shape for each in small] == [each.shape for each in kernels]
    found = ops.convert_to_numpy(network(inputs))
    assert np.abs(found - plain).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(plain).max())


def test_rounding_activations_too_is_less_exact():
    inputs = seen()
    plain, errors = ops.convert_to_numpy(unet()(inputs)), []
    for activations in (False, True):
        network = unet()
        quantize(network, activations)
        errors.append(np.abs(ops.convert_to_numpy(network(inputs)) - plain).mean())
    assert 1e-4 < errors[0] < errors[1] < 0.1 * np.abs(plain).mean()


def test_a_model_before_and_after_it_is_built_and_through_a_folder(tmp_path):
    model = tiny_model()
    plain = model.text_to_image(**CAT)
    model.quantize("int8")
    found = model.text_to_image(**CAT)
    assert 0.0 < np.abs(found.astype(int) - plain).mean() < 4.0
    assert is_quantized(model.diffusion_model) and is_quantized(model.text_encoder)
    assert not is_quantized(model.decoder)

    model.save_preset(tmp_path / "model")
    again = StableDiffusion(32, 32, weights=tmp_path / "model")
    again.quantize(parts=["text_encoder", "diffusion_model"])
    assert not again.built
    # What was rounded once is not rounded again, but for the scales' last digits.
    assert np.abs(again.text_to_image(**CAT).astype(int) - found).max() <= 2
    floats = StableDiffusion.from_preset(
        tmp_path / "model", img_height=32, img_width=32
    )
    assert not is_quantized(floats.diffusion_model)
    assert np.abs(floats.text_to_image(**CAT).astype(int) - found).max() <= 2


def test_what_cannot_be_done_is_said(tmp_path):
    model = StableDiffusion(32, 32, config=TINY, weights=None)
    for arguments, error, message in (
        ({"mode": "int4"}, ValueError, "`mode` must be \"int8\".* Received: 'int4'"),
        ({"mode": "float8"}, ValueError, '`mode` must be "int8"'),
        ({"parts": "decoder"}, TypeError, "must be a list of names.*'decoder'"),
        ({"parts": ["encoder"]}, ValueError, "Did you mean .*decoder.*: 'encoder'"),
    ):
        with pytest.raises(error, match=message):
            model.quantize(**arguments)
    assert not model.built
    half = StableDiffusion(32, 32, config=TINY, weights=None, precision="float16")
    with pytest.raises(ValueError, match="bfloat16 or float32.* Received: 'float16'"):
        half.quantize()
    model.quantize(parts=["diffusion_model"])
    with pytest.raises(ValueError, match="quantized once. Received: 'diffusion_model'"):
        model.quantize()
    model.build()
    with pytest.raises(ValueError, match="quantized once. Received: 'diffusion_model'"):
        quantize(model.diffusion_model)
    for low_memory in (True, "smallest"):
        low = StableDiffusion(32, 32, weights="asset://emoji", low_memory=low_memory)
        with pytest.raises(ValueError, match='"smallest" .* into 8 bits'):
            low.quantize()
    with pytest.raises(ValueError, match="True, False or \"smallest\".*'least'"):
        StableDiffusion(weights="asset://emoji", low_memory="least")


@pytest.mark.every_backend_at_length
def test_weights_are_read_into_8_bits_as_they_would_be_rounded_later(tmp_path):
    tiny_model().save_preset(tmp_path / "model")
    sources = {"weights": tmp_path / "model"}
    later = StableDiffusion(32, 32, **sources)
    later.build()
    later.quantize()
    expected = later.text_to_image(**CAT)
    smallest = StableDiffusion(32, 32, **sources, low_memory="smallest")
    for _ in range(2):  # what was given up is read into 8 bits again
        np.testing.assert_array_equal(smallest.text_to_image(**CAT), expected)
    before = StableDiffusion(32, 32, **sources)
    before.quantize()
    np.testing.assert_array_equal(before.text_to_image(**CAT), expected)
    for model in (smallest, before):
        assert is_quantized(model.diffusion_model) and is_quantized(model.text_encoder)
        assert not is_quantized(model.decoder)


def test_what_is_in_8_bits_does_not_learn():
    model = tiny_model()
    parts = model.diffusion_model, model.text_encoder
    empty = np.zeros(12, "int32")
    quantize(model.text_encoder)
    with pytest.raises(ValueError, match="before they are quantized.*'text_encoder'"):
        DiffusionTrainer(*parts, model.config.schedule, empty)
    model.text_encoder.trainable = False  # for the U-Net alone
    DiffusionTrainer(*parts, model.config.schedule, empty)
    quantize(model.decoder)
    with pytest.raises(ValueError, match="before they are quantized.*'decoder'"):
        AutoencoderTrainer(model.image_encoder, model.decoder)
