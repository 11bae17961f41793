"""KerasCV's networks: its arguments, its inputs and its order of layers."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.keras_cv.models.stable_diffusion import (
    Decoder,
    DiffusionModel,
    DiffusionModelV2,
    ImageEncoder,
    TextEncoder,
)
from kerasdiffusion.weights import WeightsError
from tests.tiny import TINY, tiny_model

LENGTH = TINY.text_encoder.context_length
TOKENS = np.arange(2 * LENGTH).reshape(2, LENGTH).astype("int32")
POSITIONS = np.arange(LENGTH)[None]
PICTURES = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype("float32")


def array(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.fixture(scope="module")
def own():
    return tiny_model()


def test_tokens_and_positions_by_list_by_name_and_alone(own):
    expected = array(own.text_encoder(TOKENS))
    encoder = TextEncoder(LENGTH)
    given = (
        [TOKENS, POSITIONS],
        {"tokens": TOKENS, "positions": POSITIONS},
        [TOKENS.astype("float64"), POSITIONS],
        TOKENS,
    )
    for inputs in given:
        assert array(encoder(inputs, training=False)) == pytest.approx(
            expected, abs=1e-5
        )
    turned = array(encoder([TOKENS, POSITIONS[:, ::-1]]))
    assert np.abs(turned - expected).max() > 0.1


def test_float_tokens_keep_their_number_in_half_precision():
    encoder = TextEncoder(LENGTH, dtype="mixed_bfloat16")
    odd = np.full((1, LENGTH), 545)
    expected = array(ops.cast(encoder([odd, POSITIONS]), "float32"))
    found = array(ops.cast(encoder([odd.astype("float32"), POSITIONS]), "float32"))
    assert (found == expected).all()


def test_the_text_encoders_layers_are_in_kerascvs_order():
    encoder = TextEncoder(LENGTH, vocab_size=546)
    tokens, positions, embedding, *layers, norm = encoder.layers
    assert isinstance(tokens, keras.layers.InputLayer) and positions.name == "positions"
    assert "clip_embedding" in embedding.name
    assert len(layers) == TINY.text_encoder.depth
    x = embedding([TOKENS, POSITIONS])
    for layer in layers:
        x = layer(x)
    assert array(norm(x)) == pytest.approx(array(encoder(TOKENS)), abs=1e-5)
    assert encoder.layers[2] is embedding
    assert len(encoder.weights) == len(tiny_model().text_encoder.weights)


def test_a_text_encoder_of_one_word_more_learns_that_alone():
    old = TextEncoder(LENGTH)
    new = TextEncoder(LENGTH, vocab_size=547, download_weights=False)
    table = old.layers[2].token_embedding.get_weights()[0]
    table = np.concatenate([table, table[-1:]])
    for i, layer in enumerate(old.layers):
        if i != 2:
            new.layers[i].set_weights(layer.get_weights())
    new.layers[2].token_embedding.set_weights([table])
    new.layers[2].position_embedding.set_weights(
        old.layers[2].position_embedding.get_weights()
    )
    assert array(new([TOKENS, POSITIONS])) == pytest.approx(
        array(old([TOKENS, POSITIONS])), abs=1e-5
    )
    for layer in new.layers:
        layer.trainable = "clip_embedding" in layer.name
    new.layers[2].position_embedding.trainable = False
    (only,) = new.trainable_weights
    assert tuple(only.shape) == (547, TINY.text_encoder.width)


def test_the_u_net_takes_the_embedded_timestep(own):
    network = DiffusionModel(32, 32, LENGTH)
    latents = np.random.default_rng(1).normal(size=(2, 8, 8, 4)).astype("float32")
    context = np.ones((2, LENGTH, 32), "float32")
    timestep = np.array([1.0, 801.0], "float32")
    half = network.time_embedding.width // 2
    angles = timestep[:, None] * np.exp(-np.log(10000.0) * np.arange(half) / half)
    waves = np.concatenate([np.cos(angles), np.sin(angles)], 1).astype("float32")
    plain = {"latents": latents, "timestep": timestep, "crossattn": context}
    expected = array(own.diffusion_model(plain))
    named = {"latent": latents, "timestep_embedding": waves, "context": context}
    for inputs in ([latents, waves, context], named, plain):
        found = array(network(inputs, training=True))
        assert found == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match=r"shape \(batch, 32\).*: \(2, 320\)"):
        network([latents, np.zeros((2, 320), "float32"), context])


def test_moments_are_what_the_last_layer_but_one_gives(own):
    expected = array(own.image_encoder(PICTURES))
    encoders = (
        ImageEncoder(),
        ImageEncoder(16, 16),
        ImageEncoder(download_weights=True),
    )
    for encoder in encoders:
        assert array(encoder(PICTURES)) == pytest.approx(expected, abs=1e-5)
    whole = keras.Model(encoder.input, encoder.layers[-2].output)
    mean, log_variance = np.split(array(whole(PICTURES)), 2, -1)
    assert mean * 0.18215 == pytest.approx(expected, abs=1e-5)
    assert np.abs(log_variance).max() > 0
    assert array(keras.Model(encoder.input, encoder.output)(PICTURES)) == pytest.approx(
        expected, abs=1e-5
    )
    assert whole(np.zeros((1, 24, 32, 3), "float32")).shape[1:3] == (12, 16)
    random = ImageEncoder(False)
    assert np.abs(array(random(PICTURES)) - expected).max() > 0.01


def test_the_decoder_too(own):
    latents = np.random.default_rng(1).normal(size=(1, 8, 8, 4)).astype("float32")
    found = array(Decoder(16, 16)(latents))
    assert found == pytest.approx(array(own.decoder(latents)), abs=1e-5)


def test_weights_are_read_from_every_file_that_there_is(own, folder, tmp_path):
    first, second = (DiffusionModel(32, 32, LENGTH) for _ in range(2))
    first.set_weights([each + 1.0 for each in first.get_weights()])
    first.save_weights(tmp_path / "unet.weights.h5", save_format=None, options=None)
    second.load_weights(tmp_path / "unet.weights.h5", by_name=False, options=None)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        assert (a == b).all()
    second.load_weights(folder / "unet" / "diffusion_pytorch_model.safetensors")
    for a, b in zip(own.diffusion_model.weights, second.weights, strict=True):
        assert (array(a) == array(b)).all()
    with pytest.raises(ValueError, match="whole or not at all.*by_name=True"):
        second.load_weights(tmp_path / "unet.weights.h5", by_name=True)
    with pytest.raises(ValueError, match="one format.*save_format='h5'"):
        second.save_weights(tmp_path / "b.weights.h5", save_format="h5")
    with pytest.raises((WeightsError, OSError)):
        second.load_weights(tmp_path / "none.h5")


def test_version_2_has_its_own_model(behind, folder):
    behind.use(folder, version=2)
    assert DiffusionModelV2(32, 32, LENGTH).version == 2
    with pytest.raises(ValueError, match="must be 1 or 2. Received: 3"):
        behind.use(folder, version=3)


def test_kerass_files_tell_these_networks_from_our_own(own, tmp_path):
    fronts = (TextEncoder(LENGTH), DiffusionModel(32, 32, LENGTH), ImageEncoder())
    for front in fronts:
        mine = getattr(own, front.part)
        again = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(front)
        )
        assert type(again) is type(front) and again.config == front.config
        plain = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(mine)
        )
        assert type(plain) is type(mine) and type(mine) is not type(front)
    path = tmp_path / "encoder.keras"
    fronts[0].save(path)
    again = keras.models.load_model(path)
    assert array(again([TOKENS, POSITIONS])) == pytest.approx(
        array(fronts[0](TOKENS)), abs=1e-5
    )
