"""What Keras promises of a model: to be saved, read, cloned, copied and exported."""

import copy
import pickle

import keras
import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.compute import backend
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.models.keras_files import exporting
from kerasdiffusion.models.t2i_adapter import T2IAdapter
from kerasdiffusion.models.tiny_autoencoder import TinyDecoder
from kerasdiffusion.networks import vocabularies
from kerasdiffusion.presets.config import T2IAdapterConfig, TinyAutoencoderConfig
from tests.networks.test_control import CONFIG
from tests.tiny import TEXTS, TINY, TINY_SDXL, tiny_model

SETTINGS = {"num_steps": 2, "seed": 1, "progress_bar": False}


def paint(model):
    return model.text_to_image(TEXTS[0], **SETTINGS)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.mark.every_backend_at_length
def test_keras_file(model, tmp_path):
    expected = paint(model)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again) is StableDiffusion and again.config == model.config
    assert (paint(again) == expected).all()
    model.save_weights(tmp_path / "m.weights.h5")
    other = StableDiffusion.from_config(model.get_config())
    other.load_weights(tmp_path / "m.weights.h5")
    for one, same in zip(other.weights, model.weights, strict=True):
        assert one.path == same.path
        np.testing.assert_array_equal(*map(backend.to_numpy, (one.value, same.value)))


def test_copies(model):
    expected = paint(model)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again is not model and (paint(again) == expected).all()
        kernel = again.decoder.decoder.conv_out.kernel
        kernel.assign(0.0 * kernel)
        assert (paint(again) != expected).any()
    assert (paint(model) == expected).all()


def test_settings_are_the_models_own():
    model = StableDiffusion(
        img_height=64,
        img_width=32,
        config=TINY_SDXL,
        weights=None,
        precision="bfloat16",
        tiling=64,
        jit_compile=False,
        tokenizer=tiny_model().tokenizer,
        name="mine",
    )
    found = model.get_config()
    assert not model._parts  # nothing is made to say so
    for again in (StableDiffusion.from_config(found), keras.models.clone_model(model)):
        assert again.config == TINY_SDXL and again.name == "mine"
        assert again.tokenizer.vocabulary == model.tokenizer.vocabulary
        assert (again.img_height, again.img_width, again.tiling) == (64, 32, 64)
        assert again.precision == "bfloat16" and again.jit_compile is False


def test_a_model_whose_parts_come_and_go(model, tmp_path):
    model.save_preset(tmp_path / "model")
    options = {"config": TINY, "tokenizer": model.tokenizer, "low_memory": True}
    lean = StableDiffusion(weights=tmp_path / "model", **options)
    lean.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert (paint(again) == paint(model)).all()


@pytest.mark.every_backend_at_length
def test_parts(model, tmp_path):
    networks = [getattr(model, part) for part in TINY.parts]
    networks += [
        ControlNet(CONFIG, name="a"),
        T2IAdapter(T2IAdapterConfig(block_widths=(8, 16), blocks_per_level=1)),
        TinyDecoder(TinyAutoencoderConfig(width=8), dtype="mixed_bfloat16"),
    ]
    for network in networks:
        path = tmp_path / f"{network.name}.keras"
        network.save(path)
        again = keras.models.load_model(path)
        assert type(again) is type(network) and again.config == network.config
        assert again.dtype_policy.name == network.dtype_policy.name
        for one, other in zip(network.weights, again.weights, strict=True):
            one, other = map(backend.to_numpy, (one.value, other.value))
            np.testing.assert_array_equal(one, other)


def test_what_cannot_be_saved_is_said_ahead(tmp_path):
    model = tiny_model()
    model.quantize("int8", ["diffusion_model"])
    for save in (
        lambda: model.save(tmp_path / "m.keras"),
        lambda: model.diffusion_model.save(tmp_path / "m.keras"),
        lambda: copy.deepcopy(model),
        model.get_config,
    ):
        with pytest.raises(ValueError, match="Received: .*8 bits"):
            save()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def served(tmp_path):
    """Exports a model or a part as a SavedModel; gives what TensorFlow reads of it."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("SavedModels are TensorFlow's")

    def export(exported, **options):
        exported.export(tmp_path / "saved", verbose=False, **options)
        return tf.saved_model.load(tmp_path / "saved")

    return export


LATENTS = np.random.default_rng(0).normal(size=(1, 16, 16, 4)).astype("float32")


def test_export_of_a_part(model, served, tmp_path):
    paint(model)  # its programs are no part of it
    signature = [keras.InputSpec(shape=LATENTS.shape, dtype="float32")]
    again = served(model.decoder, input_signature=signature)
    found = again.serve(LATENTS)
    expected = keras.ops.convert_to_numpy(model.decoder(LATENTS))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(ValueError, match="input_signature.*Received: none for the dec"):
        model.decoder.export(tmp_path / "none")


@pytest.mark.heavy
def test_export_of_the_whole(model, served):
    paint(model)
    inputs = {
        "tokens": model.tokenizer([TEXTS[0]]).astype("int32"),
        "latents": LATENTS,
        "timestep": np.array([500.0], "float32"),
    }
    expected = keras.ops.convert_to_numpy(model(inputs))
    again = served(model)
    np.testing.assert_allclose(again.serve(inputs), expected, atol=1e-4)


def test_packages_that_an_export_needs():
    with pytest.raises(ImportError, match="pip install onnx. Received: format='onnx'"):
        with exporting("onnx"):
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")


def test_a_single_file_has_its_tokens(model, tmp_path):
    """As the bundled model's, whose text encoder knows few."""
    expected = paint(model)
    model.save_preset(tmp_path / "m.safetensors")
    again = StableDiffusion.from_preset(tmp_path / "m.safetensors")
    assert again.tokenizer.vocabulary == model.tokenizer.vocabulary
    assert (paint(again) == expected).all()
    assert vocabularies.as_metadata(vocabularies.from_json(None)) == {}  # CLIP's
    for broken in ({}, {"ids": [], "merges": []}, {"ids": {}, "merges": ["one"]}):
        with pytest.raises(ValueError, match="A vocabulary must"):
            vocabularies.from_json(broken)


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.h5", "m.keras", "m.bin"])
def test_a_folder_is_not_named_like_a_file(model, tmp_path, name):
    with pytest.raises(ValueError, match=f"must be a folder, or a file.*{name}"):
        model.save_preset(tmp_path / name)
    with pytest.raises(ValueError, match="must be a folder.*m.safetensors"):
        model.save_preset(tmp_path / "m.safetensors", format="diffusers")
    assert not list(tmp_path.iterdir())
