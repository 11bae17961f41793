"""Every name that KerasCV's guides import, its layers, and hints where others look."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

import kerasdiffusion
from kerasdiffusion import keras_cv

ROOM = "kerasdiffusion.keras_cv.models.stable_diffusion"


@pytest.mark.parametrize(
    "module, name",
    [
        (ROOM, "NoiseScheduler"),
        (ROOM, "SimpleTokenizer"),
        (f"{ROOM}.clip_tokenizer", "SimpleTokenizer"),
        (f"{ROOM}.constants", "_ALPHAS_CUMPROD"),
        (f"{ROOM}.constants", "_UNCONDITIONAL_TOKENS"),
        (f"{ROOM}.decoder", "Decoder"),
        (f"{ROOM}.diffusion_model", "DiffusionModel"),
        (f"{ROOM}.diffusion_model", "DiffusionModelV2"),
        (f"{ROOM}.image_encoder", "ImageEncoder"),
        (f"{ROOM}.noise_scheduler", "NoiseScheduler"),
        (f"{ROOM}.stable_diffusion", "MAX_PROMPT_LENGTH"),
        (f"{ROOM}.text_encoder", "TextEncoderV2"),
        ("kerasdiffusion.keras_cv.models", "StableDiffusion"),
        ("kerasdiffusion.keras_cv.models", "StableDiffusionV2"),
        ("kerasdiffusion.keras_cv.layers", "RandomCropAndResize"),
    ],
)
def test_names_are_where_the_guides_import_them(module, name):
    found = getattr(importlib.import_module(module), name)
    place = keras_cv
    for part in module.removeprefix("kerasdiffusion.keras_cv").strip(".").split("."):
        place = getattr(place, part)
    assert getattr(place, name) is found


def test_importing_loads_no_framework():
    script = (
        "import sys; from kerasdiffusion import keras_cv; keras_cv.use('sd1.5');"
        "import kerasdiffusion.keras_cv.models.stable_diffusion.clip_tokenizer as t;"
        "print(t.SimpleTokenizer().encode('a cat'));"
        "print({'keras', 'tensorflow', 'torch', 'jax', 'keras_cv'} & set(sys.modules))"
    )
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert child.stdout.split("\n")[:2] == ["[49406, 320, 2368, 49407]", "set()"]


@pytest.mark.parametrize(
    "name", ["NoiseScheduler", "SimpleTokenizer", "StableDiffusionV2", "TextEncoderV2"]
)
def test_the_main_library_says_where_kerascvs_names_are(name):
    with pytest.raises(AttributeError, match=rf"`kerasdiffusion\.keras_cv\..*{name}`"):
        getattr(kerasdiffusion, name)
    with pytest.raises(AttributeError, match=r"kerasdiffusion\.keras_cv\.models"):
        importlib.import_module("kerasdiffusion.models").StableDiffusion  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'YOLOV8Detector'"):
        keras_cv.models.YOLOV8Detector  # noqa: B018


@pytest.mark.parametrize(
    "part", ["TextEncoder", "DiffusionModel", "ImageEncoder", "Decoder"]
)
def test_the_main_networks_say_whose_arguments_those_are(part):
    with pytest.raises(TypeError, match=r"kerasdiffusion\.keras_cv.*Received: 77"):
        getattr(kerasdiffusion, part)(77)


def test_tokens_are_added_found_and_decoded():
    tokenizer = keras_cv.models.stable_diffusion.SimpleTokenizer()
    assert tokenizer.start_of_text == 49406 and tokenizer.end_of_text == 49407
    assert len(tokenizer.vocab) == 49408 and tokenizer.vocab[-1] == "<|endoftext|>"
    assert tokenizer.add_tokens(["<cat-toy>", "<cat-toy>", "cat</w>", "*"]) == 1
    assert tokenizer.add_tokens("two words") == 1
    assert tokenizer.vocab[49408:] == ["<cat-toy>", "two words"]
    ids = tokenizer.encode("a <CAT-toy>, Two Words!")
    assert ids == [49406, 320, 49408, 267, 49409, 256, 49407]
    assert tokenizer.decode(ids[1:4]) == "a <cat-toy>, "
    assert tokenizer.decode([49406, 320, 49407]) == "<|startoftext|>a <|endoftext|>"
    assert tokenizer.decode(np.array([320.0, 2368.0])) == "a cat "
    assert tokenizer.count("<cat-toy><cat-toy>") == 2
    with pytest.raises(ValueError, match="must be a word. Received: ' '"):
        tokenizer.add_tokens(" ")
    with pytest.raises(ValueError, match="at most 49409. Received: 49410"):
        tokenizer.decode([49410])
    with pytest.raises(ValueError, match="comes with the package.*bpe.gz"):
        type(tokenizer)("bpe.gz")


def test_layers_keep_the_size_that_the_guides_ask_for():
    layers = keras_cv.layers
    pictures = (
        np.random.default_rng(0).uniform(0, 255, (2, 40, 36, 3)).astype("float32")
    )
    crop = layers.RandomCropAndResize((32, 24), (0.5, 0.8), (0.9, 1.1), seed=0)
    first, second = (np.asarray(crop(pictures)) for _ in range(2))
    assert first.shape == (2, 32, 24, 3) and (first != second).any()
    assert np.asarray(crop(pictures[0])).shape == (32, 24, 3)
    whole = layers.RandomCropAndResize((40, 36), (1.0, 1.0))
    assert np.asarray(whole(pictures)) == pytest.approx(pictures, abs=0.01)
    assert np.asarray(crop(pictures, training=False)).shape == (2, 32, 24, 3)
    chain = layers.Augmenter([layers.CenterCrop(16, 16), layers.RandomFlip()])
    assert np.asarray(chain(pictures)).shape == (2, 16, 16, 3)
    flipped = np.asarray(layers.RandomFlip(seed=1)(pictures))
    for one, other in zip(flipped, pictures, strict=True):
        assert (one == other).all() or (one == other[:, ::-1]).all()
    with pytest.raises(ValueError, match=r"over 0, up to 1. Received: \(0, 2\)"):
        layers.RandomCropAndResize((8, 8), (0, 2))


def test_a_part_of_the_picture_is_cut_out():
    ramp = np.tile(np.arange(64, dtype="float32")[:, None, None], (1, 64, 1))
    cut = np.asarray(keras_cv.layers.RandomCropAndResize((64, 64), (0.25, 0.25))(ramp))
    assert cut[-1, 0, 0] - cut[0, 0, 0] == pytest.approx(32, abs=1)
    assert 0 <= cut.min() and cut.max() <= 63
