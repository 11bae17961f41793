"""What CLIP's cleaning makes of a text, and how deep entities may be in each other."""

import html
import random

import ftfy
import pytest

from kerasdiffusion.prompts.cleaning import clean

PARTS = (
    *("&amp;", "&lt;", "&eacute;", "amp;", "&", "#38;", " ", ";", "Ã©", "a", "ﬁ"),
    *("&quot;", "\u2019", "＆", "&Atilde;&copy;", "&#x27;", "\n", "Café", "；"),
)


def original(text):
    """`basic_clean` and `whitespace_clean` of openai/CLIP, and `lower`."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return " ".join(text.split()).strip().lower()


@pytest.mark.parametrize("length", [5, 50, 400])
def test_it_is_the_original(length):
    dice = random.Random(length)
    for _ in range(40):
        text = "".join(dice.choice(PARTS) for _ in range(length))
        assert clean(text) == original(text), text


@pytest.mark.parametrize(
    "text",
    [
        "&" + "amp;" * 15_000,
        "&" + "am\0p;" * 12_000,
        "＆" + "ａｍｐ；" * 12_000,
        "&amp" + "&semi" * 12_000 + ";",
    ],
)
def test_entities_within_each_other_have_a_limit(text):
    with pytest.raises(ValueError, match="at most 64 HTML entities within each other"):
        clean(text)
