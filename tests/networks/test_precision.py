"""Values beyond float16, which `auto` takes on GPUs before Ampere."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.networks.parts import precision_of
from kerasdiffusion.networks.wider import looks_lost
from tests.tiny import ONE_LEVEL, TINY, TINY_SDXL, TINY_UPSCALER, tiny_model

HALF = ("float16", "mixed_float16")
AT_LENGTH = [pytest.mark.heavy, pytest.mark.every_backend_at_length]
LATENTS = np.random.default_rng(0).normal(size=(1, 16, 16, 4)).astype("float32")
#: float16 ends at 65504.
LOUD = 1e6


def loud_model(config=TINY_SDXL, precision="float32", **options):
    """A model whose autoencoder has inner values beyond float16, but one that is told.

    The first convolutions are louder, and the group norms behind take it back.
    """
    autoencoder = replace(config.autoencoder, force_upcast=True)
    config = config.replace(autoencoder=autoencoder)
    model = tiny_model(config=config, precision=precision, **options)
    for first in (model.decoder.decoder.conv_in, model.image_encoder.encoder.conv_in):
        for variable in first.weights:
            variable.assign(LOUD * variable.value)
    return model


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param("float16", marks=pytest.mark.every_backend_at_length),
        pytest.param("mixed_float16", marks=AT_LENGTH),
        pytest.param("bfloat16", marks=AT_LENGTH),
    ],
)
def test_an_autoencoder_that_says_so_computes_in_float32(precision):
    expected = loud_model().decode_latents(LATENTS).astype(int)
    assert expected.std() > 20
    model = loud_model(precision=precision)
    found = model.decode_latents(LATENTS).astype(int)
    most = 0 if precision in HALF else 12
    assert np.abs(found - expected).mean() <= most
    assert model.diffusion_model.compute_dtype == precision.removeprefix("mixed_")


@pytest.mark.heavy  # layers: `tests/compute/test_precision.py`; a step: `test_room`
def test_weights_of_16_bits_paint_what_float32_paints_with_them():
    half, whole = tiny_model(precision="float16_weights"), tiny_model()
    for part in ("text_encoder", "diffusion_model", "decoder"):
        pairs = getattr(half, part).variables, getattr(whole, part).variables
        for variable, like in zip(*pairs, strict=True):
            assert variable._value.dtype == "float16"
            like.assign(keras.ops.cast(variable._value, "float32"))
    settings = {"num_steps": 2, "seed": 1, "progress_bar": False}
    found, expected = (
        each.text_to_image("two cats", **settings).astype(int) for each in (half, whole)
    )
    assert expected.std() > 20 and np.abs(found - expected).max() <= 1


def test_where_it_is_heeded():
    def found(config, said=True, part="decoder", precision="float16"):
        autoencoder = replace(config.autoencoder, force_upcast=said)
        return precision_of(part, config.replace(autoencoder=autoencoder), precision)

    assert found(TINY_SDXL) == found(TINY_UPSCALER) == "float32"
    # Pipelines of Stable Diffusion 1 and 2 pass by it: most of their files say it.
    assert found(TINY) == found(TINY_SDXL, said=False) == "float16"
    assert found(TINY_SDXL, part="diffusion_model") == "float16"
    assert found(TINY_SDXL, precision="bfloat16") == "bfloat16"
    assert found(TINY_SDXL, precision="mixed_float16") == "float32"


def overflowing(precision="float16", config=ONE_LEVEL, **options):
    """A model that does not say that its autoencoder is beyond float16."""
    return loud_model(config, precision, **options)


@pytest.mark.parametrize(
    "tiling",
    [
        # By default tiles show it, and `test_one_picture_of_several` without them.
        pytest.param(False, marks=AT_LENGTH),
        pytest.param(64, marks=pytest.mark.every_backend_at_length),
    ],
)
def test_what_overflows_is_computed_again(tiling):
    options = {"img_height": 96, "img_width": 128, "tiling": tiling}
    latents = np.random.default_rng(1).normal(size=(1, 48, 64, 4)).astype("float32")
    picture = np.random.default_rng(2).uniform(-1, 1, (1, 96, 128, 3))
    picture = picture.astype("float32")
    whole = overflowing("float32", **options)
    decoded, encoded = whole.decode_latents(latents), whole.encode_picture(picture)
    assert decoded.std() > 20 and encoded.std() > 0.05
    model = overflowing(LOUD_HALF, **options)
    for _ in range(2):
        with pytest.warns(UserWarning, match="decoder's values do not fit float16"):
            found = model.decode_latents(latents)
        assert np.abs(found.astype(int) - decoded).mean() < 0.1
        with pytest.warns(UserWarning, match="image_encoder's values do not fit floa"):
            found = model.encode_picture(picture)
        np.testing.assert_allclose(found, encoded, atol=1e-3)
    # Learned since: the wider one has it too.
    bias = model.decoder.decoder.conv_out.bias
    bias.assign(bias - 1.0)
    with pytest.warns(UserWarning, match="computed once more"):
        darker = model.decode_latents(latents)
    assert darker.mean() < decoded.mean() - 20


#: Variables in float32, which hold the loud kernels, and values in float16.
LOUD_HALF = "mixed_float16"


@pytest.mark.heavy
@pytest.mark.parametrize("low_memory", [True, False])
def test_tasks_and_low_memory_too(low_memory, tmp_path, recwarn):
    whole = overflowing("float32")
    whole.save_preset(tmp_path / "model")
    settings = {"num_steps": 2, "seed": 1, "progress_bar": False}
    expected = whole.text_to_image("two cats", **settings)
    model = StableDiffusion.from_preset(
        tmp_path / "model",
        config=whole.config,
        tokenizer=whole.tokenizer,
        precision="mixed_float16",
        low_memory=low_memory,
    )
    with pytest.warns(UserWarning, match="decoder's values do not fit float16"):
        found = model.text_to_image("two cats", **settings)
    assert found.std() > 20
    assert np.abs(found.astype(int) - expected).mean() < 8
    with pytest.warns(UserWarning, match="image_encoder's values do not fit"):
        found = model.image_to_image(expected[0], "two cats", **settings)
    assert found.std() > 20


def test_one_picture_of_several():
    model = overflowing(LOUD_HALF)
    model.decoder.decoder.conv_in.kernel.assign(
        model.decoder.decoder.conv_in.kernel / LOUD
    )
    quiet = np.concatenate([LATENTS, 0.5 * LATENTS])
    loud = np.concatenate([LATENTS, 1e7 * LATENTS])
    expected = model.decode_latents(quiet)
    with pytest.warns(UserWarning, match="decoder's values do not fit"):
        found = model.decode_latents(loud)
    assert (found[0] == expected[0]).all() and found[1].std() > 20


@pytest.mark.every_backend
def test_text_encoders_are_looked_at():
    def loud_text(precision):
        model = tiny_model(precision=precision)
        layer = model.text_encoder.weights[0]
        layer.assign(1e6 * layer.value)  # the norms behind take it back
        return model

    expected = loud_text("float32").encode_text("two cats")
    model = loud_text("mixed_float16")
    with pytest.warns(UserWarning, match="text_encoder's values do not fit float16"):
        found = model.encode_text("two cats")
    np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.every_backend_at_length
def test_latents_that_are_lost_are_said():
    model = tiny_model(config=ONE_LEVEL, precision="mixed_float16")
    kernel = model.diffusion_model.conv_in.kernel
    kernel.assign(1e9 * kernel.value)
    settings = {"num_steps": 2, "seed": 1, "progress_bar": False}
    with pytest.warns(UserWarning, match="diffusion_model gave is not.*fit float16"):
        model.text_to_image("two cats", **settings)
    model = tiny_model(config=ONE_LEVEL, precision="float32")
    bias = model.diffusion_model.conv_out.bias
    bias.assign(np.nan * bias.value)
    with pytest.warns(UserWarning, match="diffusion_model gave.*'conv_out.bias' for"):
        model.text_to_image("two cats", **settings)
    model = tiny_model(config=ONE_LEVEL, precision="float32")
    bias = model.decoder.decoder.conv_out.bias
    bias.assign(np.nan * bias.value)
    with pytest.warns(UserWarning, match="the decoder gave.*'decoder.conv_out.bias'"):
        model.text_to_image("two cats", **settings)


def test_a_black_picture_may_be_one(recwarn):
    for precision in ("float32", "mixed_float16"):
        model = tiny_model(precision=precision)
        out = model.decoder.decoder.conv_out
        out.kernel.assign(0.0 * out.kernel.value)
        out.bias.assign(0.0 * out.bias.value - 3.0)
        assert (model.decode_latents(LATENTS) == 0).all()
    assert not [each for each in recwarn if each.category is UserWarning]


def test_looks_lost():
    grey = np.full((40, 40, 3), 128, "uint8")
    dot = np.zeros((40, 40, 3), "uint8")
    dot[5, 5] = 7
    pictures = np.stack([grey, 0 * grey, 0 * grey + 255, dot])
    assert looks_lost(pictures).tolist() == [False, True, True, False]
