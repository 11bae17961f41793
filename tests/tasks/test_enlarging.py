"""A second, larger pass: it is what its parts make by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from kerasdiffusion.requests.larger import OF_LATENTS
from kerasdiffusion.requests.request import Request
from tests.tiny import TEXTS, tiny_model

SHORT = {"num_steps": 4, "seed": 3, "progress_bar": False}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.mark.every_backend_at_length
def test_over_an_enlarged_picture_it_is_image_to_image(model):
    (first,) = model.text_to_image(TEXTS[0], **SHORT)
    large = Image.fromarray(first).resize((48, 48), Image.Resampling.LANCZOS)
    expected = model.image_to_image(large, TEXTS[0], strength=0.5, **SHORT)
    found = model.text_to_image(
        TEXTS[0],
        hires_scale=1.5,
        hires_upscaler="Lanczos",
        hires_strength=0.5,
        hires_steps=2,  # which are the last two of four
        **SHORT,
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("upscaler", OF_LATENTS)
def test_latents_are_enlarged_as_pytorch_does(model, upscaler):
    run = model.run(Request(task="text_to_image", prompt=TEXTS[0], **SHORT))
    run.pictures()
    way, antialias = OF_LATENTS[upscaler]
    large = torch.nn.functional.interpolate(
        torch.from_numpy(np.array(run.latents)).permute(0, 3, 1, 2),
        scale_factor=1.5,
        mode=way,
        antialias=antialias,
    )
    expected = model.decode_all(large.permute(0, 2, 3, 1).numpy())
    found = model.text_to_image(
        TEXTS[0],
        hires_scale=1.5,
        hires_upscaler=upscaler,
        hires_strength=0.0,  # what is enlarged, and nothing more
        **SHORT,
    )
    assert found.shape == (1, 48, 48, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_steps_are_counted_as_they_are_made(model):
    def steps(**options):
        request = Request(
            task="text_to_image", prompt=TEXTS[:2], hires_scale=2, **SHORT, **options
        )
        run = model.run(request)
        assert len(list(run)) == len(run)
        assert run.pictures().shape == (2, 64, 64, 3)
        return len(run)

    assert steps(hires_strength=0.4) == 4 + 4
    assert steps(hires_strength=1.0, hires_steps=1) == 4 + 1
    assert steps(hires_strength=0.0) == 4


def test_a_size_of_another_ratio_takes_the_middle(model):
    request = Request(task="text_to_image", prompt="a", hires_size=(64, 32))
    assert request.enlarged_sizes((32, 32)) == ((64, 64), (64, 32))
    request = Request(task="text_to_image", prompt="a", hires_size=(0, 48))
    assert request.enlarged_sizes((64, 32)) == ((96, 48), (96, 48))
    options = {"hires_strength": 0.0, "hires_upscaler": "Latent (nearest)", **SHORT}
    whole = model.text_to_image(TEXTS[0], hires_scale=2, **options)
    found = model.text_to_image(TEXTS[0], hires_size=(64, 32), **options)
    assert found.shape == (1, 64, 32, 3) and whole.shape == (1, 64, 64, 3)


def test_it_has_a_prompt_and_a_sampler_of_its_own(model):
    options = {"hires_scale": 1.5, "hires_steps": 3, **SHORT}
    usual = model.text_to_image(TEXTS[0], **options)
    for own in (
        {"hires_prompt": TEXTS[1]},
        {"hires_negative_prompt": TEXTS[1]},
        {"hires_sampler": "ddim"},
        {"hires_spacing": "trailing"},
    ):
        assert (model.text_to_image(TEXTS[0], **options, **own) != usual).any(), own
    same = model.text_to_image(TEXTS[0], hires_prompt=TEXTS[0], **options)
    np.testing.assert_array_equal(same, usual)


def test_a_stopped_run_gives_the_first_pass(model):
    (first,) = model.text_to_image(TEXTS[0], **SHORT)
    run = model.run(
        Request(task="text_to_image", prompt=TEXTS[0], hires_scale=2, **SHORT)
    )
    for step in run:
        if step.step == 4:
            run.stop()
    np.testing.assert_array_equal(run.pictures()[0], first)


@pytest.mark.parametrize(
    "options, rule",
    [
        ({"hires_steps": 5}, "must come with `hires_scale`"),
        ({"hires_scale": 2, "hires_size": (64, 64)}, "not both"),
        ({"hires_size": (16, 16)}, "no smaller"),
        ({"hires_scale": 0.5}, "from 1 to 8"),
        ({"hires_scale": 2, "hires_upscaler": "ESRGAN_4x"}, "must be one of"),
    ],
)
def test_what_does_not_go_is_refused(model, options, rule):
    with pytest.raises(ValueError, match=rule):
        model.text_to_image("a", **options, **SHORT)
