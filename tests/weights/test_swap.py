"""A model with an autoencoder or a text encoder from somewhere else."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from kerasdiffusion import StableDiffusion
from kerasdiffusion.presets.config import TinyAutoencoderConfig
from kerasdiffusion.presets.named import PRESETS, Preset
from kerasdiffusion.weights import WeightsError
from kerasdiffusion.weights.save import save_file
from kerasdiffusion.weights.swap import read_configs
from tests.tiny import TINY, tiny_model

SMALL = TINY.replace(
    autoencoder=TinyAutoencoderConfig(
        width=8, encoder_blocks=(1, 1), decoder_blocks=(1, 1)
    )
)


def first(network):
    import keras

    return keras.ops.convert_to_numpy(network.weights[0])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model, another, and one with a tiny autoencoder, as folders and files."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for seed, (name, config) in enumerate(
        {"one": TINY, "other": TINY, "small": SMALL}.items()
    ):
        found[name] = tiny_model(seed, config=config)
        found[name].save_preset(folder / name)
    save_file(folder / "other.safetensors", found["other"]._parts, TINY)
    return folder, found


@pytest.mark.parametrize("place", ["other", "other/vae", "other.safetensors"])
def test_another_autoencoder(models, place):
    folder, found = models
    model = StableDiffusion.from_preset(folder / "one", vae=folder / place)
    for part in ("image_encoder", "decoder"):
        expected = first(getattr(found["other"], part))
        np.testing.assert_array_equal(first(getattr(model, part)), expected)
    for part in ("text_encoder", "diffusion_model"):
        expected = first(getattr(found["one"], part))
        np.testing.assert_array_equal(first(getattr(model, part)), expected)


def test_another_text_encoder(models):
    folder, found = models
    source = folder / "other" / "text_encoder"
    model = StableDiffusion.from_preset(folder / "one", text_encoder=source)
    expected = first(found["other"].text_encoder)
    np.testing.assert_array_equal(first(model.text_encoder), expected)
    expected = first(found["one"].decoder)
    np.testing.assert_array_equal(first(model.decoder), expected)


@pytest.mark.parametrize("place", ["other", "other/unet", "other.safetensors"])
def test_another_u_net(models, place):
    """As SDXL takes a distilled one; its own is not read."""
    folder, found = models
    model = StableDiffusion.from_preset(folder / "one", unet=folder / place)
    expected = first(found["other"].diffusion_model)
    np.testing.assert_array_equal(first(model.diffusion_model), expected)
    expected = first(found["one"].decoder)
    np.testing.assert_array_equal(first(model.decoder), expected)


def test_a_preset_may_have_its_u_net_elsewhere(models, monkeypatch):
    folder, found = models
    preset = Preset(str(folder / "one"), "", TINY, unet=str(folder / "other/unet"))
    monkeypatch.setitem(PRESETS, "lightning", preset)
    model = StableDiffusion.from_preset("lightning")
    expected = first(found["other"].diffusion_model)
    np.testing.assert_array_equal(first(model.diffusion_model), expected)


def test_a_tiny_autoencoder_paints_and_comes_back(models):
    folder, found = models
    model = StableDiffusion.from_preset(folder / "one", vae=folder / "small")
    assert model.config.autoencoder == SMALL.autoencoder
    pictures = model.text_to_image("two cats", seed=1, num_steps=2)
    assert pictures.shape == (1, 32, 32, 3)
    again = StableDiffusion.from_preset(folder / "small")
    assert again.config == SMALL
    expected = first(found["small"].decoder)
    np.testing.assert_array_equal(first(again.decoder), expected)


def test_tiny_autoencoders_come_in_two_files(models, tmp_path):
    """With numbers for names, as they are published."""
    folder, found = models
    config = TinyAutoencoderConfig(width=64)
    from kerasdiffusion.models.tiny_autoencoder import TinyDecoder
    from kerasdiffusion.weights import names
    from kerasdiffusion.weights.load import load_weights

    random = np.random.default_rng(0)
    files = {}
    for part in ("image_encoder", "decoder"):
        tensors = {
            tensor.original.split(".", 2)[2]: random.normal(size=tensor.shape).astype(
                "float32"
            )
            for tensor in names.tensors(part, config)
        }
        files[part] = tmp_path / f"{part}.safetensors"
        safetensors.numpy.save_file(tensors, files[part])
    assert "1.weight" in tensors and "3.conv.0.weight" in tensors
    decoder = TinyDecoder(config, name="decoder")
    load_weights({"decoder": decoder}, files)
    expected = tensors["1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(first(decoder), expected)
    eight = dataclasses.replace(TINY.autoencoder, block_widths=(16, 16, 16, 16))
    found = read_configs(TINY.replace(autoencoder=eight), {"autoencoder": files})
    assert found.autoencoder == config


def test_says_what_does_not_fit(models, tmp_path):
    folder, _ = models
    values = json.loads((folder / "other/vae/config.json").read_text())
    values["latent_channels"] = 16
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(WeightsError, match="latent_channels of 4 to fit.*16 in"):
        read_configs(TINY, {"autoencoder": tmp_path})
    with pytest.raises(WeightsError, match="must hold text_encoder/config.json"):
        read_configs(TINY, {"text_encoder": tmp_path / ".."})


def test_the_prediction_type_can_be_said():
    found = read_configs(TINY, {}, "v_prediction")
    assert found.schedule.prediction_type == "v_prediction"
    with pytest.raises(ValueError, match="must be one of epsilon.*Received: 'v'"):
        read_configs(TINY, {}, "v")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
def test_small_dtypes_are_stored_and_read(models, tmp_path, dtype):
    import ml_dtypes

    _, found = models
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    path = tmp_path / "model.safetensors"
    found["one"].save_preset(path, dtype=dtype)
    model = StableDiffusion.from_preset(path, tokenizer=found["one"].tokenizer)
    for part in TINY.parts:
        expected = first(getattr(found["one"], part)).astype(kind).astype("float32")
        np.testing.assert_array_equal(first(getattr(model, part)), expected)
