"""A request's text, in the words of AUTOMATIC1111's web UI where it has any."""

import pytest

from kerasdiffusion.pictures.generation_parameters import (
    format_parameters,
    parse_parameters,
)
from kerasdiffusion.presets.config import GenerationConfig
from kerasdiffusion.requests.request import Request
from kerasdiffusion.requests.text import described, fields_in


def text_of(**fields):
    request = Request(task="text_to_image", prompt="a cat", seed=1, **fields)
    (text,) = described(request, GenerationConfig(), (64, 64), "emoji")
    return parse_parameters(format_parameters(**text))


@pytest.mark.parametrize(
    ("sampler", "spacing", "told", "back"),
    [
        ("euler", None, ("Euler", "Uniform", None), ("euler", None)),
        ("euler", "karras", ("Euler", "Karras", None), ("euler_karras", None)),
        ("euler_karras", None, ("Euler", "Karras", None), ("euler_karras", None)),
        ("euler_karras", "beta", ("Euler", "Beta", None), ("euler", "beta")),
        ("euler", "trailing", ("Euler", None, "trailing"), ("euler", "trailing")),
        ("ddim", None, ("DDIM", None, None), ("ddim", None)),
        ("ddim", "karras", ("DDIM", "Karras", None), ("ddim", "karras")),
        (
            *("dpmpp_2m", "align_your_steps_11"),
            ("DPM++ 2M", "Align Your Steps", None),
            ("dpmpp_2m", "align_your_steps_11"),
        ),
    ],
)
def test_the_spacing_is_the_web_uis_schedule_type_where_it_has_one(
    sampler, spacing, told, back
):
    text = text_of(sampler=sampler, spacing=spacing)
    names = ("sampler", "schedule_type", "Spacing")
    assert tuple(text.get(name) for name in names) == told
    read = fields_in(text)
    assert (read["sampler"], read.get("spacing")) == back


def test_a_spacing_of_its_own_is_read_as_it_was_written_once():
    line = "Steps: 20, Sampler: Euler, Schedule type: {}, Seed: 1, Spacing: beta"
    for kind in ("Uniform", "Karras"):
        read = fields_in(parse_parameters("a cat\n" + line.format(kind)))
        assert (read["sampler"], read["spacing"]) == ("euler", "beta")


def test_a_second_pass_is_told_as_the_web_ui_tells_it():
    fields = {"hires_scale": 1.5, "hires_steps": 9, "hires_prompt": "a cat, sharp"}
    text = text_of(**fields)
    assert (text["strength"], text["Hires upscaler"]) == (0.7, "Latent")
    assert (text["height"], text["width"]) == (64, 64)  # the first pass's
    read = fields_in(text)
    assert {name: read[name] for name in fields} == fields
    assert read["hires_strength"] == 0.7 and "strength" not in read
    of_picture = fields_in({**text, "Task": "image_to_image"})
    assert of_picture["strength"] == 0.7
