"""Tasks that begin with a picture."""

import keras
import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_model

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
APPLE = "a red apple"

every_backend = pytest.mark.every_backend
at_length = pytest.mark.every_backend_at_length
compiled = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs eagerly: nothing is traced"
)


def paint(model, image=PICTURE, prompt=APPLE, **options):
    options = {"seed": 1, "num_steps": 4, "progress_bar": False, **options}
    return model.image_to_image(image, prompt, **options)


def as_the_autoencoder_sees(model, picture):
    pixels = picture[None].astype("float32") / 127.5 - 1.0
    seen = keras.ops.convert_to_numpy(model.decoder(model.image_encoder(pixels)))
    return np.clip(np.round((seen + 1.0) * 127.5), 0, 255)


@every_backend
def test_no_strength_gives_the_picture_back_as_the_autoencoder_sees_it(tiny):
    found = paint(tiny, strength=0.0)
    assert found.shape == (1, 32, 32, 3) and found.dtype == np.uint8
    assert np.abs(found - as_the_autoencoder_sees(tiny, PICTURE)).max() <= 1
    # Less than a step is none.
    assert (paint(tiny, strength=0.2) == found).all()


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param("dpmpp_2m_karras", marks=at_length),
        pytest.param("ddim", marks=at_length),
        pytest.param("heun", marks=every_backend),
    ],
)
def test_full_strength_is_text_to_image_from_the_same_noise(tiny, sampler):
    options = {"seed": 1, "num_steps": 4, "progress_bar": False, "sampler": sampler}
    expected = tiny.text_to_image(APPLE, **options)
    assert (paint(tiny, strength=1.0, sampler=sampler) == expected).all()


@at_length
def test_strength_is_the_share_of_the_steps(tiny):
    for strength, steps in ((0.3, 3), (0.29, 2), (0.75, 7), (1.0, 10)):
        seen = []
        paint(tiny, strength=strength, num_steps=10, callback=seen.append)
        assert [step.step for step in seen] == list(range(1, steps + 1))


@at_length
def test_more_strength_goes_farther_from_the_picture(tiny):
    start = paint(tiny, strength=0.0).astype("float64")
    distances = [
        np.abs(paint(tiny, strength=strength, num_steps=10) - start).mean()
        for strength in (0.2, 0.5, 0.9)
    ]
    assert 0.0 < distances[0] < distances[1] < distances[2]


@at_length
def test_the_result_has_the_pictures_own_size(tiny):
    picture = PICTURE[:29, :19]
    assert paint(tiny, picture, strength=0.5).shape == (1, 29, 19, 3)
    padded = np.pad(picture, ((0, 1), (0, 1), (0, 0)), mode="edge")
    whole = paint(tiny, padded, strength=0.5)
    assert (paint(tiny, picture, strength=0.5) == whole[:, :29, :19]).all()


@at_length
def test_each_prompt_may_have_its_picture_and_its_seeds(tiny):
    two = paint(tiny, [PICTURE, PICTURE[::-1]], [APPLE, "two cats"], strength=0.5)
    (alone,) = paint(tiny, PICTURE[::-1], "two cats", seed=2, strength=0.5)
    assert np.abs(two[1].astype(int) - alone).max() <= 1
    many = paint(tiny, prompt=[APPLE, "two cats"], batch_size=2, strength=0.5)
    assert many.shape == (4, 32, 32, 3)


@at_length
def test_any_picture_will_do(tiny, tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    expected = paint(tiny, strength=0.5)
    for source in (tmp_path / "a.png", Image.fromarray(PICTURE), PICTURE / 255.0):
        assert (paint(tiny, source, strength=0.5) == expected).all()


@compiled
@at_length
def test_nothing_but_a_size_compiles_anew():
    model = tiny_model()
    paint(model, strength=0.5)
    traces = dict(model.traces)
    paint(model, PICTURE[::-1], "two cats", strength=0.9, seed=5, num_steps=7)
    paint(model, sampler="euler_ancestral", unconditional_guidance_scale=3.0)
    assert model.traces == traces


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"strength": 1.1}, ValueError, "`strength` must be from 0 to 1.*: 1.1"),
        ({"strength": "1"}, TypeError, "`strength` must be a number.*: '1'"),
        ({"image": 5}, TypeError, "must be a path, a PIL image.*: 5"),
        ({"image": [PICTURE] * 3}, ValueError, "each of the 1 prompts.*: 3 pictures"),
        (
            {"image": [PICTURE, PICTURE[:16]], "prompt": ["a", "b"]},
            ValueError,
            r"one size. Received: \[\(16, 32\), \(32, 32\)\]",
        ),
        ({"num_steps": 0}, ValueError, "from 1 to 1000. Received: 0"),
        ({"num_steps": 2.5}, TypeError, "must be a whole number.*: 2.5"),
        ({"prompt": 5}, TypeError, "`prompt` must be a string"),
        (
            {"refiner": "sdxl-refiner"},
            ValueError,
            "`image_to_image` takes no `refiner`",
        ),
        ({"strenght": 1}, TypeError, "Did you mean strength.*Received: 'strenght'"),
    ],
)
def test_bad_arguments(tiny, arguments, error, message):
    with pytest.raises(error, match=message):
        paint(tiny, **arguments)
