"""Pictures and texts are encoded once, and what is stale is never taken."""

import functools

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.pictures.read import to_unit
from kerasdiffusion.training.examples.buckets import brought, fit
from kerasdiffusion.training.examples.encoded import (
    EncodedPictures,
    EncodedTexts,
    Kept,
    Tokens,
    tokens_of,
)
from kerasdiffusion.training.examples.folders import read_folder
from tests.tiny import TINY_SDXL, tiny_model


@pytest.fixture
def picture(tmp_path):
    dice = np.random.default_rng(0)
    pixels = dice.integers(0, 255, (32, 32, 3), "uint8")
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "a.png")
    return read_folder(folder, "a cat").pictures[0]


def test_latents_are_the_models_own(tiny, picture):
    to = fit(picture.size, 16, 8)
    found = EncodedPictures(tiny, Kept())(picture, to)
    pixels = np.asarray(Image.open(picture.path))
    expected = tiny.encode_picture(to_unit([brought(pixels, to)]))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_mirrored_is_encoded_so(tiny, picture):
    to = fit(picture.size, 16, 8)
    latents = EncodedPictures(tiny, Kept())
    found = latents(picture, to._replace(mirrored=True))
    pixels = brought(np.asarray(Image.open(picture.path)), to)[:, ::-1]
    np.testing.assert_allclose(
        found, tiny.encode_picture(to_unit([pixels]))[0], atol=1e-6
    )
    assert (found != latents(picture, to)).any()


def test_a_second_run_finds_what_is_there(tiny, picture, tmp_path):
    to = fit(picture.size, 16, 8)
    first, second = Kept(tmp_path / "kept"), Kept(tmp_path / "kept")
    made = EncodedPictures(tiny, first)(picture, to)
    found = EncodedPictures(tiny, second)(picture, to)
    assert (first.made, second.made) == (1, 0)
    np.testing.assert_array_equal(made, found)


def test_nothing_stale_is_taken(tiny, picture, tmp_path):
    kept = Kept(tmp_path / "kept")
    EncodedPictures(tiny, kept)(picture, fit(picture.size, 16, 8))
    EncodedPictures(tiny, kept)(picture, fit(picture.size, 32, 8))
    assert kept.made == 2  # another size
    other = tiny_model(seed=1)
    EncodedPictures(other, kept)(picture, fit(picture.size, 16, 8))
    assert kept.made == 3  # another network
    Image.new("RGB", (32, 32)).save(picture.path)
    EncodedPictures(tiny, kept)(picture, fit(picture.size, 16, 8))
    assert kept.made == 4  # another picture
    for file in kept.folder.iterdir():
        file.write_bytes(file.read_bytes()[:-8])
    EncodedPictures(tiny, kept)(picture, fit(picture.size, 16, 8))
    assert kept.made == 5  # a broken file


@pytest.mark.parametrize("config", [None, TINY_SDXL], ids=["one", "two encoders"])
def test_texts_are_what_the_networks_are_told(config):
    model = tiny_model() if config is None else tiny_model(config=config)
    kept = Kept()
    texts = EncodedTexts(model, kept)
    told = texts("two cats")
    expected = model.encode_text("two cats", prompt_weighting="none")[0]
    np.testing.assert_allclose(told["context"], expected, atol=1e-6)
    if config is None:
        assert set(told) == {"context"}
    else:
        pooled = model.encode_pooled("two cats", prompt_weighting="none")[0]
        np.testing.assert_allclose(told["pooled"], pooled, atol=1e-6)
        tokens = Tokens(functools.partial(tokens_of, model))
        assert set(tokens("two cats")) == {"tokens", "tokens_2"}
    made = kept.made
    texts("two cats")
    assert kept.made == made and not texts.cut


def test_texts_that_are_too_long_are_known(tiny):
    texts = EncodedTexts(tiny, Kept())
    assert texts("two cats " * 20)["context"].shape == (12, 32)
    assert texts.cut == {"two cats " * 20}


@pytest.mark.parametrize("config", [None, TINY_SDXL], ids=["one", "two encoders"])
def test_a_long_text_is_read_to_its_end_as_a_prompt_is(config):
    model = tiny_model() if config is None else tiny_model(config=config)
    text = "two cats, " * 5
    expected = model.encode_text(text, prompt_weighting="none")[0]
    count = len(expected) // 12
    assert count > 1
    texts = EncodedTexts(model, Kept(), chunks=count)
    np.testing.assert_allclose(texts(text)["context"], expected, atol=1e-6)
    assert not texts.cut
    # A shorter one is filled up as a prompt is beside a long one.
    short = model.encode_text(["two cats", text], prompt_weighting="none")[0]
    np.testing.assert_allclose(texts("two cats")["context"], short, atol=1e-6)


def test_another_layer_is_read(tiny):
    found = EncodedTexts(tiny, Kept(), clip_skip=2)("two cats")["context"]
    expected = tiny.encode_text("two cats", clip_skip=2)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - EncodedTexts(tiny, Kept())("two cats")["context"]).max() > 0.1


def test_brackets_weigh_nothing(tiny):
    texts = EncodedTexts(tiny, Kept())
    expected = tiny.encode_text("(cats)", prompt_weighting="none")[0]
    np.testing.assert_allclose(texts("(cats)")["context"], expected, atol=1e-6)
