"""KerasCV's StableDiffusion: what its guides do with it."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.keras_cv.models import StableDiffusion
from kerasdiffusion.keras_cv.models.stable_diffusion import TextEncoder
from kerasdiffusion.keras_cv.models.stable_diffusion.stable_diffusion import _rounded
from tests.tiny import TINY, TINY_SDXL, tiny_model

LENGTH = TINY.text_encoder.context_length
CATS = "two cats"


@pytest.fixture(scope="module")
def model(folder):
    return StableDiffusion(32, 32, jit_compile=False, weights=folder)


@pytest.fixture
def painted(model):
    def paint(prompt=CATS, **options):
        how = {"num_steps": 3, "seed": 1, "progress_bar": False, **options}
        return model.text_to_image(prompt, **how)

    return paint


def test_a_batch_of_one_prompt_and_its_seed(painted):
    found = painted(batch_size=3)
    assert found.shape == (3, 32, 32, 3) and found.dtype == np.uint8
    assert (found == painted(batch_size=3)).all()
    assert (found[0] != found[1]).any()
    assert (painted(seed=None) != painted(seed=None)).any()
    assert (painted() != painted(negative_prompt="blurry")).any()


def test_the_noise_of_a_seed_is_the_backends(model, painted):
    noise = keras.random.normal((2, *model.latent_shape), seed=1)
    context = model.encode_text(CATS)
    how = {"num_steps": 3, "progress_bar": False}
    found = model.generate_image(context, batch_size=2, diffusion_noise=noise, **how)
    assert (found == painted(batch_size=2)).all()
    with pytest.raises(ValueError, match="should not both be passed"):
        model.generate_image(context, diffusion_noise=noise, seed=1)


def test_steps_are_ddims_from_the_last_training_step_to_the_first(painted):
    main = tiny_model()
    noise = ops.convert_to_numpy(keras.random.normal(main.latent_shape, seed=5))
    how = {"progress_bar": False, "diffusion_noise": noise, "seed": 0}
    how["unconditional_guidance_scale"] = 7.5
    expected = main.generate_image(
        main.encode_text(CATS), timesteps=[999, 500, 0], sampler="ddim", **how
    )
    how.pop("seed")
    front = StableDiffusion(32, 32)
    found = front.generate_image(front.encode_text(CATS), num_steps=3, **how)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    other = front.generate_image(
        front.encode_text(CATS), num_steps=3, sampler="euler", **how
    )
    assert (other != found).any()


def test_a_walk_takes_encodings_from_ops(model):
    first, second = (ops.squeeze(model.encode_text(text)) for text in (CATS, "dark"))
    walked = ops.linspace(first, second, 4)
    noise = keras.random.normal((16, 16, 4), seed=3)
    how = {"num_steps": 2, "progress_bar": False}
    found = model.generate_image(walked, batch_size=4, diffusion_noise=noise, **how)
    assert found.shape == (4, 32, 32, 3)
    noises = ops.stack([noise, -noise])
    one = model.generate_image(first, batch_size=2, diffusion_noise=noises, **how)
    assert np.abs(one[0].astype(int) - found[0].astype(int)).max() <= 1


def test_prompts_are_plain_text_of_one_chunk(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        context = model.encode_text("two (cats:2) <a:b>"[: LENGTH - 4])
    assert context.shape == (1, LENGTH, 32)
    with pytest.raises(
        ValueError, match=r"too long \(should be <= 12 tokens\).*tokens in"
    ):
        model.encode_text("two cats " * 40)


def test_a_learned_token_is_painted_after_its_encoder_is_set(folder):
    model = StableDiffusion(32, 32)
    size = model.config.text_encoder.vocabulary_size
    assert model.tokenizer.add_tokens("<my-cat>") == 1
    assert model.tokenizer.encode("two <My-Cat>")[-2:] == [
        size,
        model.tokenizer.end_of_text,
    ]
    with pytest.raises(ValueError, match=f"below {size}.*set `_text_encoder`"):
        model.encode_text("<my-cat>")
    new = TextEncoder(
        LENGTH, vocab_size=len(model.tokenizer.vocab), download_weights=False
    )
    old = model.text_encoder
    for i, layer in enumerate(old.layers):
        if i != 2:
            new.layers[i].set_weights(layer.get_weights())
    table = old.layers[2].token_embedding.get_weights()[0]
    cats = model.tokenizer.encode("cats")[1]
    table = np.concatenate([table, table[cats : cats + 1]])
    new.layers[2].token_embedding.set_weights([table])
    new.layers[2].position_embedding.set_weights(
        old.layers[2].position_embedding.get_weights()
    )
    before = model.encode_text("two")
    model._text_encoder = new
    assert model.text_encoder is new and model._text_encoder is new
    assert model.encode_text("two") == pytest.approx(before, abs=1e-5)
    count = len(model.tokenizer.encode("cats")) - 2
    if count == 1:
        assert model.encode_text("<my-cat>") == pytest.approx(
            model.encode_text("cats"), abs=1e-5
        )
    found = model.text_to_image("a <my-cat>", num_steps=2, progress_bar=False)
    assert found.shape == (1, 32, 32, 3)
    assert sum(weight is new.weights[0] for weight in model.weights) == 1
    assert not any(weight is old.weights[0] for weight in model.weights)
    with pytest.raises(TypeError, match="must be a `kerasdiffusion.keras_cv` TextEnc"):
        model._text_encoder = model.decoder


def test_weights_that_are_read_into_a_part_are_painted_with(painted, model, tmp_path):
    before = painted()
    network = model.diffusion_model
    network.save_weights(tmp_path / "unet.weights.h5")
    kept = network.get_weights()
    network.set_weights([0.5 * each for each in kept])
    assert (painted() != before).any()
    network.load_weights(tmp_path / "unet.weights.h5")
    assert (painted() == before).all()


def test_inpaint_by_kerascvs_order_keeps_where_the_mask_is_one(model):
    picture = np.random.default_rng(0).uniform(0, 255, (32, 32, 3)).astype("float32")
    mask = np.ones((32, 32), "int32")
    mask[8:24, 8:24] = 0
    found = model.inpaint(CATS, picture, mask, num_steps=2, seed=0, verbose=False)
    assert found.shape == (1, 32, 32, 3)
    assert (found[0] == np.round(picture).astype("uint8"))[mask == 1].all()
    assert (found[0] != np.round(picture).astype("uint8"))[mask == 0].mean() > 0.5
    with pytest.raises(
        TypeError, match=r"The order is `inpaint\(prompt, image, mask\)`"
    ):
        model.inpaint(picture, mask, CATS)
    with pytest.raises(ValueError, match="0 .painted. and 1 .stays.*from 0 to 255"):
        model.inpaint(CATS, picture, mask * 255)
    with pytest.raises(ValueError, match="`num_resamples` must be 1"):
        model.inpaint(CATS, picture, mask, num_resamples=2)


def test_sizes_are_taken_or_rounded_as_kerascv_rounds():
    assert [_rounded(size) for size in (512, 448, 500, 3, 128)] == [
        512,
        448,
        512,
        128,
        128,
    ]


def test_a_model_of_two_text_encoders_is_refused():
    with pytest.raises(ValueError, match="one text encoder.*text_encoder_2"):
        StableDiffusion(32, 32, config=TINY_SDXL, weights=None)
