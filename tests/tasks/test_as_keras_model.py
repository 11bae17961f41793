"""StableDiffusion as a Keras model: its programs, parts, dtypes and files."""

import keras
import numpy as np
import pytest
from keras import ops
from safetensors.numpy import load_file, save_file

from kerasdiffusion import StableDiffusion
from kerasdiffusion.compute import backend
from kerasdiffusion.networks.latent_diffusion import LatentDiffusion
from kerasdiffusion.sampling.noise import initial_noise
from tests.tasks.test_stable_diffusion import (
    APPLE,
    CATS,
    LATENTS,
    assert_close,
    compiled,
    final_latents,
    paint,
)
from tests.tiny import TINY, tiny_model, tiny_tokenizer

PARTS = ("text_encoder", "diffusion_model", "image_encoder", "decoder")
at_length = [pytest.mark.heavy, pytest.mark.every_backend_at_length]


@pytest.fixture(scope="module")
def tiny_xla():
    return tiny_model(jit_compile=True)


@compiled
@pytest.mark.parametrize(
    "jit_compile",
    [
        pytest.param("auto", marks=pytest.mark.every_backend),
        # Pictures by XLA: `tests/peers/test_pipelines.py`.
        pytest.param(True, marks=at_length),
    ],
)
def test_nothing_but_a_shape_compiles_anew(jit_compile, tiny, request):
    model = tiny if jit_compile == "auto" else request.getfixturevalue("tiny_xla")
    paint(model)
    before = model.traces
    # Other tests may have had the same model encode pictures.
    assert set(before) - {"encode_image"} == {"encode", "denoise", "decode"}
    for change in (
        {"prompt": "two red cats", "negative_prompt": "dark"},
        {"seed": 99, "unconditional_guidance_scale": 3},
        {"num_steps": 70, "sampler": "euler_ancestral"},
        {"sampler": "heun", "spacing": "trailing"},
        {"sampler": "ddim", "eta": 0.5},
        {"sampler": "heun", "s_churn": 3.0, "s_noise": 1.01, "num_steps": 3},
        {"sampler": "DPM++ SDE", "sigmas": [14.6, 7.0, 1.0], "num_steps": None},
        {"rng": "torch", "variation_seed": 5, "variation_strength": 0.2},
        {"seed_resize_from": (24, 48)},
        {"callback": lambda step: None},
    ):
        assert paint(model, **change).std() > 30
    assert model.traces == before


@pytest.mark.every_backend
def test_new_weights_count_at_once(tiny):
    before, bias = paint(tiny), tiny.decoder.decoder.conv_out.bias
    kept = ops.convert_to_numpy(bias)
    try:
        bias.assign(kept + 0.5)
        brighter = paint(tiny)
    finally:
        bias.assign(kept)
    assert (brighter >= before).all() and brighter.mean() > before.mean() + 30
    assert (paint(tiny) == before).all()


@pytest.mark.heavy
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's XLA")
def test_xla_paints_the_same(tiny, tiny_xla):
    for options in ({}, {"sampler": "euler_ancestral", "num_steps": 8}):
        assert_close(paint(tiny_xla, **options), paint(tiny, **options))


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param("bfloat16", marks=pytest.mark.every_backend),
        pytest.param("float16", marks=at_length),
        pytest.param("mixed_bfloat16", marks=at_length),
        "mixed_float16",
    ],
)
def test_half_precision(precision, tiny):
    """Final latents and pictures: the root of the mean square of their error."""
    model = tiny_model(precision=precision)
    for part in PARTS:
        assert getattr(model, part).compute_dtype == precision.removeprefix("mixed_")
    stored = "float32" if "mixed" in precision else precision
    assert model.decoder.weights[0].dtype == stored
    latents, pictures = final_latents(model, num_steps=10)
    expected, exact = final_latents(tiny, num_steps=10)
    assert np.isfinite(latents).all() and latents.dtype == np.float32
    error = np.linalg.norm(latents - expected) / np.linalg.norm(expected)
    assert error < 2e-2
    off = pictures.astype(float) - exact
    assert np.linalg.norm(off) / np.linalg.norm(exact.astype(float)) < 2e-2


def test_the_whole_is_a_model_too(tiny):
    """Its inputs are not rounded: timesteps 999 and 1000 differ in any precision."""
    inputs = {
        "tokens": tiny_tokenizer()(CATS),
        "latents": initial_noise([1], LATENTS),
        "timestep": np.array([999.0], "float32"),
    }
    found = tiny(inputs)
    inputs["crossattn"] = tiny.text_encoder(inputs["tokens"])
    expected = ops.convert_to_numpy(tiny.diffusion_model(inputs))
    assert ops.convert_to_numpy(found) == pytest.approx(expected, abs=1e-5)
    assert not StableDiffusion(config=TINY, weights=None, precision="bfloat16").autocast


@pytest.mark.every_backend
def test_the_parts_are_keras_models(tiny, tmp_path, capsys):
    for part in PARTS:
        network = getattr(tiny, part)
        assert isinstance(network, keras.Model)
        network.summary()
        assert f"{network.count_params():,}" in capsys.readouterr().out
    network = type(tiny.text_encoder)(TINY.text_encoder)
    tokens = tiny_tokenizer()([APPLE, CATS])
    before = ops.convert_to_numpy(network(tokens))
    network.save_weights(tmp_path / "text.weights.h5")
    network.compile("adam", "mse", jit_compile=backend.resolve_jit_compile("auto"))
    network.fit(tokens, np.zeros_like(before), verbose=0)
    after = ops.convert_to_numpy(network(tokens))
    assert np.abs(after - before).max() > 1e-4
    network.load_weights(tmp_path / "text.weights.h5")
    assert (ops.convert_to_numpy(network(tokens)) == before).all()


@pytest.mark.every_backend
def test_a_saved_folder_paints_the_same(tiny, tmp_path):
    tiny.save_preset(tmp_path / "model")
    model = StableDiffusion.from_preset(tmp_path / "model")
    assert model.config == TINY
    assert model.name == "stable_diffusion"
    assert (paint(model) == paint(tiny)).all()
    with pytest.raises(FileExistsError):
        tiny.save_preset(tmp_path / "model")
    tiny.save_preset(tmp_path / "model", overwrite=True)


def test_a_saved_file_holds_the_same_weights(tiny, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny.save_preset(path, dtype="float16")
    model = StableDiffusion.from_preset(path, tokenizer=tiny_tokenizer())
    assert model.config == TINY
    for part in PARTS:
        pairs = zip(
            getattr(model, part).weights, getattr(tiny, part).weights, strict=True
        )
        for found, wanted in pairs:
            assert found.path == wanted.path
            wanted = ops.convert_to_numpy(wanted).astype("float16")
            assert (ops.convert_to_numpy(found) == wanted).all()
    alone = StableDiffusion(config=TINY, weights=str(path))
    assert (alone.tokenizer("two cats") == tiny.tokenizer("two cats")).all()
    # As another program writes it: without our metadata, which has the tokens.
    save_file(load_file(path), path)
    strange = StableDiffusion(config=TINY, weights=str(path))
    with pytest.raises(ValueError, match="no more tokens than.*Received: 49408 tokens"):
        _ = strange.tokenizer


def test_the_global_dtype_policy_is_honoured():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = StableDiffusion(config=TINY, weights=None)
        assert model.precision == "mixed_bfloat16"
        assert model.dtype_policy.name == "mixed_bfloat16"
        own = StableDiffusion(config=TINY, weights=None, precision="float32")
        assert own.dtype_policy.name == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_nothing_is_built_before_it_is_used(monkeypatch):
    def build(self, input_shape=None):
        raise AssertionError("built")

    monkeypatch.setattr(LatentDiffusion, "build", build)
    model = StableDiffusion(512, 768, True)
    assert (model.img_height, model.img_width) == (512, 768)
    assert model.config.diffusion_model.block_widths == (320, 640, 1280, 1280)
    with pytest.raises(AssertionError, match="built"):
        _ = model.decoder
