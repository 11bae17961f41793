"""Settings that come back out of a picture."""

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from kerasdiffusion.apps.page.asking import asking
from kerasdiffusion.apps.page.restore import settings_of
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.pictures import encoded
from kerasdiffusion.requests.request import Request
from kerasdiffusion.requests.text import described
from tests.tiny import TINY

WEB_UI = (
    "a red apple\nNegative prompt: dark\nSteps: 12, Sampler: Euler a, Schedule type: "
    "Karras, CFG scale: 5, Seed: 42, Size: 48x64, Model: other, Tiling: True, "
    "Version: v1.10.1"
)


def written(tmp_path, request, size=(32, 32)):
    """A file of what a request says of itself."""
    (text,) = described(request, TINY.generation, size, "emoji")
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(np.zeros((*size, 3), "uint8"), text))
    return path


def test_a_picture_of_ours_gives_the_request_again(models, tmp_path):
    request = Request(
        task="text_to_image",
        prompt="two (cats:1.2)",
        negative_prompt="dark",
        num_steps=3,
        seed=2**63,
        sampler="euler_karras",
        unconditional_guidance_scale=4.0,
        freeu=(1.5, 1.6, 0.9, 0.2),
        variation_seed=5,
        variation_strength=0.25,
        clip_skip=2,
        rng="torch",
        progress_bar=False,
    )
    values, remarks = settings_of(written(tmp_path, request, (40, 48)), models)
    found = asking(values, models)
    assert remarks == [] and found.size == (40, 48)
    assert found.request == request


def test_what_a_picture_does_not_say_goes_back_to_the_defaults(models, tmp_path):
    request = Request(task="text_to_image", prompt="a cat", seed=1)
    values, _ = settings_of(written(tmp_path, request), models)
    assert values["freeu"] == "" and values["pag_scale"] == 0.0
    assert values["variation_strength"] == 0.0 and values["styles"] == []


def test_what_it_began_with_must_be_given_again(models, tmp_path):
    image = np.zeros((32, 32, 3), "uint8")
    request = Request(
        task="outpaint", prompt="", image=image, left=16, feather=4, seed=1
    )
    values, remarks = settings_of(written(tmp_path, request), models)
    assert (values["task"], values["left"], values["right"]) == ("outpaint", 16, 0)
    assert values["feather"] == 4
    assert remarks == ["The picture that it began with must be dropped again."]


def test_a_picture_of_another_program_is_followed_as_far_as_it_goes(models, tmp_path):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", WEB_UI)
    path = tmp_path / "theirs.png"
    Image.new("RGB", (48, 64)).save(path, pnginfo=chunks)
    values, remarks = settings_of(path, models)
    request, model, size = vars(asking(values, models)).values()
    assert (request.prompt, request.negative_prompt) == ("a red apple", "dark")
    assert (request.num_steps, request.seed, size) == (12, 42, (64, 48))
    assert (request.sampler, request.spacing) == ("euler_ancestral", "karras")
    assert request.rng == "torch-cuda" and model == "emoji"
    assert remarks == [
        "The model 'other' is not here; emoji is chosen.",
        "'Tiling' is not followed.",
    ]


def test_a_picture_that_says_nothing_is_refused_without_its_place(models, photo):
    with pytest.raises(Refused, match="must hold a text chunk") as caught:
        settings_of(photo, models)
    assert photo not in caught.value.message


def test_adapters_are_found_by_their_names(models, tmp_path):
    (models.adapters / "ink.safetensors").write_bytes(b"")
    named = [("ink", 0.5), ("/elsewhere/gone.safetensors", 1.0)]
    request = Request(task="text_to_image", prompt="a", seed=1, adapters=named)
    values, remarks = settings_of(written(tmp_path, request), models)
    (models.adapters / "ink.safetensors").unlink()
    assert values["adapters"] == [("ink", 0.5)]
    assert remarks == ["The adapter 'gone' is not here."]
