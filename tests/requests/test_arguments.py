"""Every bad argument: an error that states the rule, before anything is built."""

import math

import numpy as np
import pytest

from kerasdiffusion import StableDiffusion, WeightsError
from kerasdiffusion.networks.latent_diffusion import LatentDiffusion
from kerasdiffusion.requests.arguments import (
    check_negatives,
    check_prompts,
)
from tests.tiny import TINY, tiny_tokenizer


@pytest.fixture
def model(monkeypatch):
    def build(self, input_shape=None):
        raise AssertionError("built before the arguments were checked")

    monkeypatch.setattr(LatentDiffusion, "build", build)
    return StableDiffusion(config=TINY, weights=None, tokenizer=tiny_tokenizer())


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"prompt": 5}, TypeError, "`prompt` must be a string or a list .*: 5"),
        ({"prompt": ["a", None]}, TypeError, r"`prompt` must .*: \['a', None\]"),
        ({"prompt": b"a"}, TypeError, "`prompt` must be a string.*Received: b'a'"),
        ({"prompt": []}, ValueError, r"`prompt` must not be an empty list.*: \[\]"),
        ({"negative_prompt": 0}, TypeError, "`negative_prompt` must be a .*: 0"),
        ({"negative_prompt": []}, ValueError, "`negative_prompt` must not be an empty"),
        (
            {"negative_prompt": ["a", "b", "c"], "prompt": ["x", "y"]},
            ValueError,
            "one for all or one for each of the 2 prompts. Received: 3 of them",
        ),
        ({"batch_size": 0}, ValueError, "`batch_size` must be .* from 1 to.*: 0"),
        ({"batch_size": -1}, ValueError, "`batch_size` must be .* from 1 to.*: -1"),
        ({"batch_size": 1.5}, TypeError, "`batch_size` must be a whole number.*: 1.5"),
        ({"batch_size": True}, TypeError, "`batch_size` must be a whole number.*: Tr"),
        ({"num_steps": 0}, ValueError, "from 1 to 1000. Received: 0"),
        ({"num_steps": -5}, ValueError, "from 1 to 1000. Received: -5"),
        ({"num_steps": 1001}, ValueError, "from 1 to 1000. Received: 1001"),
        ({"num_steps": 2.5}, TypeError, "`num_steps` must be a whole number.*: 2.5"),
        ({"num_steps": "9"}, TypeError, "`num_steps` must be a whole number.*: '9'"),
        (
            {"unconditional_guidance_scale": math.nan},
            ValueError,
            "`unconditional_guidance_scale` must be finite. Received: nan",
        ),
        ({"unconditional_guidance_scale": math.inf}, ValueError, "finite.*: inf"),
        ({"unconditional_guidance_scale": "7"}, TypeError, "a number. Received: '7'"),
        ({"seed": -2}, ValueError, r"`seed` must be .* to 2\*\*64 - 1.*: -2"),
        ({"seed": 2**64}, ValueError, r"`seed` must be a whole number .*: 184467"),
        ({"seed": 1.0}, TypeError, "`seed` must be a whole number.*Received: 1.0"),
        ({"seed": [1, 2]}, ValueError, "each of the 1 images. Received: 2 values"),
        ({"sampler": "eular"}, ValueError, "Did you mean euler.*Received: 'eular'"),
        ({"sampler": ""}, ValueError, "`sampler` must be one of.*Received: ''"),
        ({"sampler": 3}, TypeError, "`sampler` must be a string. Received: 3"),
        ({"spacing": "cosine"}, ValueError, "Received: 'cosine'"),
        ({"eta": 0.5}, ValueError, "takes no `eta`.*Received: eta=0.5"),
        ({"eta": -1, "sampler": "ddim"}, ValueError, "at least 0.*Received: -1"),
        ({"smapler": "ddim"}, TypeError, "Did you mean sampler.*Received: 'smapler'"),
        ({"options": {}}, TypeError, "`text_to_image` takes prompt.*: 'options'"),
    ],
)
def test_text_to_image(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.text_to_image(**{"prompt": "two cats", **arguments})


ENCODED = np.zeros((12, 32), "float32")


@pytest.mark.parametrize(
    "encoded, arguments, error, message",
    [
        ("two cats", {}, TypeError, "what `encode_text` gives.*Received: 'two cats'"),
        (ENCODED[:, :31], {}, ValueError, r"shape \(tokens, 32\).*: \(1, 12, 31\)"),
        (ENCODED[0], {}, ValueError, r"shape \(tokens, 32\).*Received: \(32,\)"),
        (ENCODED[None][:0], {}, ValueError, r"shape .*Received: \(0, 12, 32\)"),
        (
            np.stack([ENCODED] * 3),
            {"batch_size": 2},
            ValueError,
            "With 3 prompts, `batch_size` must be as many or 1. Received: 2",
        ),
        (
            ENCODED,
            {"diffusion_noise": np.zeros((4, 16, 16))},
            ValueError,
            r"`diffusion_noise` must have the shape \(16, 16, 4\).*: \(4, 16, 16\)",
        ),
        (
            ENCODED,
            {"diffusion_noise": np.zeros((3, 16, 16, 4)), "batch_size": 2},
            ValueError,
            r"behind a batch of 2. Received: \(3, 16, 16, 4\)",
        ),
        (ENCODED, {"unconditional_guidance_scale": math.nan}, ValueError, "finite"),
        (ENCODED, {"num_steps": 0}, ValueError, "from 1 to 1000. Received: 0"),
        (
            ENCODED,
            {"negative_prompt": ["a", "b"]},
            ValueError,
            "each of the 1 prompts. Received: 2 of them",
        ),
    ],
)
def test_generate_image(model, encoded, arguments, error, message):
    with pytest.raises(error, match=message):
        model.generate_image(encoded, **arguments)


def test_encoded_text_of_another_length_than_the_negative_prompt(tiny):
    with pytest.raises(ValueError, match=r"must have 12 tokens.*of \[9, 12\] tokens"):
        tiny.generate_image(ENCODED[:9])


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"img_height": 100}, ValueError, "multiples of 8.*height=100, width=512"),
        ({"img_width": 0}, ValueError, "multiples of 8, at least 8.*width=0"),
        ({"img_width": -64}, ValueError, "multiples of 8, at least 8.*width=-64"),
        ({"img_height": 512.0}, TypeError, "must be integers.*height=512.0"),
        ({"jit_compile": "yes"}, ValueError, "`jit_compile` must .*Received: 'yes'"),
        ({"precision": "int8"}, ValueError, "`precision` must .*Received: 'int8'"),
        ({"weights": "sd1.6"}, ValueError, "Did you mean sd1.5.*Received: 'sd1.6'"),
        ({"weights": "/no/such"}, WeightsError, "no such file.*Received: '/no/such'"),
    ],
)
def test_the_constructor(arguments, error, message):
    with pytest.raises(error, match=message):
        StableDiffusion(**arguments)


def test_saving(model, tmp_path):
    with pytest.raises(ValueError, match="'diffusers' or 'original'. Received: 'onnx'"):
        model.save_preset(tmp_path / "model", format="onnx")


def test_good_arguments_pass():
    assert check_prompts("a") == check_prompts(("a",)) == ["a"]
    assert check_negatives(None, 3) == [""]
    assert check_negatives(["a", "b"], 2) == ["a", "b"]
