"""What widgets say as a request: nothing of Gradio, and no network."""

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.apps.page.asking import LARGER, TASKS, asking, tasks_of
from kerasdiffusion.apps.page.page import FILES, gathered, scattered
from kerasdiffusion.apps.page.widgets import read, written
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.requests.request import FIELDS
from tests.tiny import TINY, TINY_DEPTH, TINY_EDITING, TINY_UPSCALER


def test_what_is_not_said_is_the_models_own(models):
    found = asking({"prompt": "a cat", "num_steps": None, "seed": ""}, models)
    assert found.request.task == "text_to_image" and found.model == "emoji"
    assert found.request.given() == {"prompt": "a cat", "progress_bar": False}
    assert found.size == (32, 32)


def test_each_field_comes_to_the_request_as_it_is_written(models):
    said = {
        "prompt": "two cats",
        "negative_prompt": "dark",
        "width": 48.0,
        "height": 40,
        "num_steps": 3.0,
        "seed": str(2**64 - 1),  # (more than a browser's numbers hold)
        "sampler": "euler",
        "freeu": "1.5,1.6,0.9,0.2",
        "variation_strength": 0.25,
        "batch_size": 2,
        "hires_scale": "2",
        "hires_sampler": "heun",
    }
    request, _, size = vars(asking(said, models)).values()
    assert (request.num_steps, request.seed, size) == (3, 2**64 - 1, (40, 48))
    assert request.freeu == (1.5, 1.6, 0.9, 0.2) and request.sampler == "euler"
    assert request.variation_strength == 0.25 and request.batch_size == 2
    assert request.negative_prompt == "dark"
    assert (request.hires_scale, request.hires_sampler) == (2.0, "heun")


@pytest.mark.parametrize(
    "said, rule",
    [
        ({"num_steps": 0}, "`num_steps` must be a whole number from 1"),
        ({"seed": "many"}, "`seed` must be a whole number"),
        ({"freeu": "1,2"}, "`freeu` must be 4 numbers"),
        ({"width": 10**6}, "`width` must be a whole number of pixels"),
        ({"model": "other"}, "must be one that this server has"),
        ({"adapters": [("none-such", 1.0)]}, None),
        ({"task": "inpaint"}, "There must be a picture"),
        ({"control": {"network": "canny"}}, "must be one that this server has"),
    ],
)
def test_what_cannot_be_is_refused_with_the_rule(models, said, rule):
    if rule is None:  # names of adapters are looked up where jobs are handed in
        assert asking({"prompt": ""} | said, models).request.adapters
        return
    with pytest.raises(Refused, match=rule):
        asking({"prompt": ""} | said, models)


def test_styles_stand_around_the_prompt(models):
    found = asking({"prompt": "a cat", "styles": ["Ink", "Clay"]}, models).request
    assert found.prompt.startswith("ink drawing of a cat, ")
    assert "made of clay" in found.prompt
    assert found.negative_prompt == "colour, photograph, drawing, text"


def test_a_picture_comes_to_the_size_that_is_chosen(models, photo):
    said = {"prompt": "", "task": "image_to_image", "picture": photo, "strength": 0.5}
    cut = asking(said, models).request.image
    assert cut.size == (32, 32)  # the middle of 64 x 32
    middle = np.asarray(Image.open(photo))[:, 16:48]
    np.testing.assert_array_equal(np.asarray(cut), middle)
    whole = asking(said | {"fit": "as large as it is"}, models)
    assert whole.request.image.size == (64, 32) and whole.size is None


def test_a_drawing_is_the_mask(models, photo):
    layer = Image.new("RGBA", (64, 32))
    layer.paste((255, 45, 45, 190), (20, 8, 30, 16))
    said = {"prompt": "", "task": "inpaint", "picture": photo, "drawn": [layer]}
    said |= {"fit": "as large as it is"}
    mask = np.asarray(asking(said, models).request.mask)
    assert set(np.unique(mask)) == {0, 255}
    assert mask[8:16, 20:30].all() and mask.sum() == 255 * 80
    other = np.asarray(asking(said | {"invert": True}, models).request.mask)
    np.testing.assert_array_equal(other, 255 - mask)
    with pytest.raises(Refused, match="A part must be marked"):
        asking(said | {"drawn": []}, models)


def test_a_part_with_padding_and_what_is_beyond_edges_is_of_the_models_size(
    models, photo
):
    layer = Image.new("RGBA", (64, 32), (255, 0, 0, 255))
    said = {"prompt": "", "picture": photo, "drawn": [layer], "padding": 8}
    assert asking(said | {"task": "inpaint"}, models).size == (32, 32)
    found = asking(said | {"task": "outpaint", "left": 16, "feather": 2}, models)
    assert found.size == (32, 32) and found.request.image.size == (64, 32)
    assert (found.request.left, found.request.feather) == (16, 2)


def test_larger_is_enlarged_and_painted_over(models, photo):
    said = {"prompt": "", "task": LARGER, "picture": photo, "times": 2.0}
    said |= {"strength": 0.35, "fit": "as large as it is"}
    request = asking(said, models).request
    assert request.task == "image_to_image" and request.strength == 0.35
    assert request.image.size == (128, 64)


def test_a_map_of_depths_keeps_its_bits(models, tmp_path, photo):
    path = tmp_path / "depth.png"
    deep = (np.arange(32 * 64).reshape(32, 64) * 31).astype("uint16")
    Image.fromarray(deep).save(path)
    said = {"prompt": "", "task": "depth_to_image", "picture": photo}
    request = asking(said | {"depth_file": str(path)}, models).request
    np.testing.assert_array_equal(np.asarray(request.depth), deep)


def test_what_can_be_done_is_what_the_network_sees():
    assert tasks_of(TINY)[0] == "text_to_image" and LARGER in tasks_of(TINY)
    assert tasks_of(TINY_DEPTH) == ["depth_to_image"]
    assert tasks_of(TINY_EDITING) == ["edit"]
    assert tasks_of(TINY_UPSCALER) == ["upscale"]
    assert {task for x in (TINY, TINY_EDITING) for task in tasks_of(x)} <= set(TASKS)


@pytest.mark.parametrize(
    "name, value",
    [
        ("seed", 2**63),
        ("num_steps", 7),
        ("guidance_interval", (0.5, 5.0)),
        ("deep_cache", (3, 0)),
        ("spectrum", (0.4, 3.0, 1.0, 2.0, 0.5, 4.0, 0.9)),
        ("sigmas", (14.0, 3.0, 0.5)),
        ("pag_applied_layers", ("down", "mid")),
        ("sampler", "dpmpp_2m_karras"),
        ("apg", (0.0, 7.5, -0.75)),
        ("original_size", (512, 768)),
        ("closed", True),
    ],
)
def test_a_value_that_is_shown_is_read_again(name, value):
    assert read(name, written(name, value)) == FIELDS[name].check(value)


def test_rows_are_gathered_and_scattered_again():
    raw = {"adapter_0": "ink", "weight_0": 0.5, "adapter_1": "", "weight_1": 1.0}
    raw |= {"control_network": "canny", "control_low": 50, "editor": None}
    values = gathered(raw)
    assert values["adapters"] == [("ink", 0.5)] and values["drawn"] == []
    assert values["control"] == {"network": "canny", "low": 50}
    again = scattered(values)
    assert (again["adapter_0"], again["weight_0"]) == ("ink", 0.5)
    assert again["adapter_1"] == "" and again["control_low"] == 50
    assert "editor" in FILES
