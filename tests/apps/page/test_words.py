"""Sizes by ratio, styles, and how many tokens a prompt has."""

import pytest

from kerasdiffusion.apps.page import counting, painting, sizes
from kerasdiffusion.apps.server.styles import OWN
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.prompts.tokenizer import Tokenizer
from tests.tiny import TINY


@pytest.mark.parametrize("ratio", sizes.RATIOS.values())
def test_a_ratio_has_about_as_many_pixels_as_the_model_was_taught_on(ratio):
    config = PRESETS["sd1.5"].config
    height, width = sizes.size_for(ratio, config)
    assert height % 64 == 0 and width % 64 == 0
    assert 0.8 < width / height / ratio < 1.25
    assert 0.75 < height * width / 512**2 < 1.3
    assert sizes.size_for(1.0, TINY) == (32, 32)


def test_styles_have_a_place_for_the_prompt():
    assert all("{prompt}" in style.prompt for style in OWN.values())


@pytest.mark.parametrize(
    "text, count, room",
    [
        ("", 0, 75),
        ("a red apple", 3, 75),
        ("a (red:1.2) apple <lora:ink:0.5>", 3, 75),
        ("a cat AND a red dog", 3, 75),
        ("cat, " * 40, 80, 150),
    ],
)
def test_tokens_are_counted_as_the_text_encoder_reads_them(text, count, room):
    assert counting.tokens(text, Tokenizer()) == (count, room)


def test_a_prompt_that_is_half_written_has_no_count():
    assert counting.told("a cat", Tokenizer()) == "2 / 75 tokens"
    assert counting.told("a" * 70000, Tokenizer()) == ""


def test_waits_are_said_as_people_say_them():
    said = [painting.waited(x) for x in (0.2, 59.0, 75.0, 1200.0)]
    assert said == ["1 s", "59 s", "1 min 15 s", "20 min"]


def test_drawings_that_nobody_asks_for_do_not_fill_the_memory():
    from kerasdiffusion.apps.page import beginnings

    kept = beginnings._Latest()
    for number in range(3 * beginnings._DRAWINGS):
        kept[number] = b"a drawing"
    assert len(kept) == beginnings._DRAWINGS and number in kept and 0 not in kept
