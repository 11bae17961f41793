"""A1111's text as it is found: with line ends, templates and remarks behind it."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from kerasdiffusion.pictures.generation_parameters import (
    format_parameters,
    parse_parameters,
)

LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x768"
TEXT = f"a castle\nNegative prompt: blurry\n{LINE}"
PLAIN = {
    "prompt": "a castle",
    "negative_prompt": "blurry",
    "steps": 20,
    "sampler": "Euler a",
    "guidance_scale": 7.0,
    "seed": 42,
    "width": 512,
    "height": 768,
}


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT + "\n",
        TEXT + "\n\n  \n",
        TEXT + " ",
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r\n") + "\r\n",
        TEXT + ",",
    ],
)
def test_line_ends_change_nothing(text):
    assert parse_parameters(text) == PLAIN


@pytest.mark.parametrize(
    ("behind", "more"),
    [
        (', Template: "{a|b},\nx"', {"Template": "{a|b},\nx"}),
        (
            "\nTemplate: a {red|blue} castle\nNegative Template: blurry, {dark|dim}",
            {
                "Template": "a {red|blue} castle",
                "Negative Template": "blurry, {dark|dim}",
            },
        ),
        ("\nTemplate: {a|\nb}\n", {"Template": "{a|\nb}"}),
        ("\nUsed embeddings: bad [1234]", {"Used embeddings": "bad [1234]"}),
        ("\nmade with love", {"Other text": "made with love"}),
        (', Lora hashes: "a: 1, b: 2"', {"Lora hashes": "a: 1, b: 2"}),
        (
            ', TI hashes: "x: 1", Hashes: {"vae": "1", "a": "2"}, Version: v1.9.0\n',
            {"TI hashes": "x: 1", "version": "v1.9.0"},
        ),
    ],
)
def test_what_stands_behind_the_parameters_is_kept_apart(behind, more):
    found = parse_parameters(TEXT + behind)
    assert {name: found[name] for name in PLAIN} == PLAIN
    assert {name: found[name] for name in more} == more


@pytest.mark.parametrize(
    "prompt", ["Steps: 3 to heaven", "a: b, c: d\nSteps: many", f"{LINE}\nagain"]
)
def test_a_prompt_that_looks_like_parameters_is_a_prompt(prompt):
    assert parse_parameters(f"{prompt}\n{LINE}")["prompt"] == prompt


def test_json_is_no_prompt():
    swarm = {"prompt": "a cat", "negativeprompt": "blurry", "seed": 7, "steps": 20}
    text = json.dumps({"sui_image_params": swarm}, indent=2)
    assert parse_parameters(text)["prompt"] == "a cat"
    with pytest.raises(ValueError, match="known program.*Received: an object of 'x'"):
        parse_parameters('{"x": 1}')
    assert parse_parameters("{a|b} cat")["prompt"] == "{a|b} cat"
    assert parse_parameters("{red|blue}")["prompt"] == "{red|blue}"


WORDS = some.text(
    some.characters(exclude_categories=("Cs", "Cc"), exclude_characters='"'),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(prompt=WORDS, negative=WORDS, behind=some.sampled_from(["", "\n", "\n\n", " "]))
def test_every_prompt_is_read_back(prompt, negative, behind):
    made = PLAIN | {"prompt": prompt, "negative_prompt": negative}
    if prompt.lstrip().startswith("Negative prompt:"):
        return  # as in the web UI
    assert parse_parameters(format_parameters(**made) + behind) == made


@settings(deadline=None, max_examples=300)
@given(some.data())
def test_a_changed_text_keeps_its_numbers_or_is_a_prompt(data):
    """No change of a byte turns a number into another without a trace of it."""
    at = data.draw(some.integers(0, len(TEXT) - 1))
    with_ = data.draw(
        some.sampled_from(["", "\n", "\r\n", ",", ":", '"', "x", "{", " "])
    )
    text = TEXT[:at] + with_ + TEXT[at + data.draw(some.integers(0, 1)) :]
    found = parse_parameters(text)
    for name in ("seed", "steps"):
        label = f"{name.capitalize()}: {PLAIN[name]},"
        if label in text and found.get(name) != PLAIN[name]:
            # Then nothing was read as parameters, and all is there to be seen.
            rest = " ".join(map(str, found.values()))
            assert str(PLAIN[name]) in rest


@pytest.mark.parametrize(
    "piece", ["a: b\n", '"\n', "Steps: 1\n", "\n", "Steps: 1, ", '{"a', "a:", "\\"]
)
def test_long_texts_take_no_quadratic_time(piece):
    started = time.perf_counter()
    for start in ("", f"{LINE}\n", f'{LINE}, x: "'):
        parse_parameters(start + piece * 100_000)
    assert time.perf_counter() - started < 20
