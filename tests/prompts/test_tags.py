"""Tags of adapters and remarks: taken out of prompts as A1111 takes them."""

import time
import warnings

import pytest

from kerasdiffusion.prompts import Span, Tag, parse, split_tags
from kerasdiffusion.prompts.tags import (
    take_remarks,
    take_tags,
    warn_of_remarks,
    warn_of_tags,
)

# What A1111 1.10 leaves of a text: its `strip_comments`, then its `parse_prompt`.
TAKEN = {
    "a cat <lora:add_detail:0.8>": "a cat ",
    "<lora:x:1> a cat": " a cat",
    "a <lyco:x:1:0.5> cat": "a  cat",
    "a cat<hypernet:x>": "a cat",
    "(a <lora:x:1>:1.2)": "(a :1.2)",
    "[<lora:x:1>:12]": "[:12]",
    "a <unknown:x> b": "a  b",
    "<lora:a<b:1>": "",
    "<lo<lora:x:1>ra:y>": "<lora:y>",
    "<lora:x:\n1>": "",
    "<cat-toy> <cat> <lora:> < lora:x> <lora :x>": None,
    "a <lora:x:1": None,
    "1 < 2: a > b": None,
    "a cat # not a dog\nsunny": "a cat \nsunny",
    "# first\na cat": "\na cat",
    "a\n# whole line\nb": "a\nb",
    "a\n# one\n# two\nb": "a\n\nb",
    "a cat #": "a cat \n",
    "a # <lora:x:1>\nb": "a \nb",
    "<lora:x:1 # half\n>": "<lora:x:1 \n>",
}
TAKEN["<lora:x:1 # half\n>"] = ""


@pytest.mark.parametrize("prompt", TAKEN, ids=repr)
def test_what_is_left_is_what_a1111_leaves(prompt):
    expected = prompt if TAKEN[prompt] is None else TAKEN[prompt]
    assert split_tags(prompt)[0] == expected


def test_a_tag_is_its_kind_its_name_and_what_follows():
    text, tags = split_tags("a <lora:x:0.8:0.5> cat <lyco:y:te=0:unet=1> <hypernet:z>")
    assert text == "a  cat  "
    assert tags == (
        Tag("lora", "x", ("0.8", "0.5")),
        Tag("lyco", "y", ("te=0", "unet=1")),
        Tag("hypernet", "z"),
    )
    assert "".join(map(str, tags)) == "<lora:x:0.8:0.5><lyco:y:te=0:unet=1><hypernet:z>"
    assert split_tags("a # <lora:x:1>") == ("a \n", ())


def test_a_parsed_prompt_has_no_tag():
    assert parse("a cat <lora:add_detail:0.8>") == [Span("a cat ", 1.0)]
    assert parse("(cat:1.2) # (dog:2)")[1:] == [Span(" \n", 1.0)]
    assert parse("a <b> c") == [Span("a <b> c", 1.0)]


def test_texts_of_two_encoders_ask_once():
    context = object()
    pair = ("a <lora:x:1>", "b <lora:x:1><lora:y>")
    texts, tags = take_tags(["c", pair, context, None])
    assert texts == ["c", ("a ", "b "), context, None]
    assert tags == [(), (Tag("lora", "x", ("1",)), Tag("lora", "y")), (), ()]


def test_in_a_negative_prompt_a_tag_is_text_and_a_warning():
    with pytest.warns(UserWarning, match=r"asks for nothing.*Received: <lora:x:1>"):
        found = take_remarks(["a <lora:x:1> # b", None, ("c # d", "e")])
    assert found == ["a <lora:x:1> \n", None, ("c \n", "e")]


def test_the_user_is_told_what_was_taken_out_and_no_more():
    with pytest.warns(UserWarning, match=r"not followed: <lora:x:1>, <lyco:y>\. "):
        warn_of_tags([Tag("lora", "x", ("1",)), Tag("lyco", "y")] * 2)
    with pytest.warns(UserWarning, match=r"Taken out of the prompt: # not a dog\. A #"):
        warn_of_remarks(["a cat # not a dog\nsunny", ("b", None)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_tags([])
        warn_of_remarks(["a cat", None])
        assert take_remarks(["a <cat>"]) == ["a <cat>"]
    with pytest.warns(UserWarning) as told:
        warn_of_tags(Tag("lora", "x" * 10**6 + str(i)) for i in range(100))
    assert len(str(told[0].message)) < 1000
    assert "and 95 more" in str(told[0].message)


@pytest.mark.parametrize(
    "prompt",
    ["<a:" * 10**5, "<" * 10**6, "<a" * 10**5 + ":", "#" * 10**6, "<a:b>" * 10**5]
    + ["\n#" * 10**5, "<a:" * 10**5 + ">", "<a:>" * 10**5],
    ids=lambda prompt: prompt[:5],
)
def test_the_time_grows_as_the_length(prompt):
    began = time.process_time()
    split_tags(prompt)
    assert time.process_time() - began < 30  # else it takes minutes: their square
