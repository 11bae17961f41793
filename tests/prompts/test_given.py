"""Prompts as callers have them: every array of strings is prompts, bytes are not."""

import re

import numpy as np
import pytest

from kerasdiffusion.prompts.given import texts
from kerasdiffusion.requests.arguments import check_negatives, check_prompts

TWO = ["a cat", "zwei Hände"]


def named(value) -> str:
    """A name that is the same in every process: no address in memory."""
    return re.sub(r" object at 0x\w+", "", str(value))


class Column:
    """What a column of pandas or Polars shows of itself."""

    def __init__(self, values):
        self.values = np.array(values, object)
        self.shape, self.dtype = self.values.shape, self.values.dtype

    def to_numpy(self):
        return self.values


def test_arrays_of_strings_are_lists_of_prompts():
    arrays = [
        np.array(TWO),
        np.array(TWO, object),
        np.array(TWO)[::-1][::-1],
        Column(TWO),
        list(np.array(TWO)),
        tuple(np.array(TWO, object)),
    ]
    if hasattr(np.dtypes, "StringDType"):
        arrays.append(np.array(TWO, np.dtypes.StringDType()))
    for prompts in arrays:
        for width in (None, 64):
            found = check_prompts(prompts, width=width)
            assert found == TWO
            assert {type(prompt) for prompt in found} == {str}
        assert check_negatives(prompts, 2) == TWO


def test_one_string_is_one_prompt_whatever_holds_it():
    class Own(str):
        def __str__(self):
            return "something else"

    for prompt in (
        np.str_("a cat"),
        np.array("a cat"),
        np.array(["a cat"]),
        Own("a cat"),
    ):
        assert check_prompts(prompt, width=64) == ["a cat"]
        assert type(check_prompts(prompt)[0]) is str


def test_a_batch_of_strings_of_tensorflow_is_read_as_utf_8():
    tf = pytest.importorskip("tensorflow")
    assert check_prompts(tf.constant(TWO), width=64) == TWO
    assert check_prompts([tf.constant("a cat"), "b"], width=64) == ["a cat", "b"]
    with pytest.raises(ValueError, match="must be UTF-8. Received: .*0xff"):
        check_prompts(tf.constant([b"\xff"]), width=64)


@pytest.mark.parametrize(
    "prompts",
    [b"a", [b"a"], np.array([b"a"]), np.bytes_(b"a"), bytearray(b"a"), Column([b"a"])],
    ids=named,
)
def test_bytes_are_refused_with_the_way_out(prompts):
    with pytest.raises(TypeError, match=r"list of strings: bytes .*\.decode\(\).*b'a"):
        check_prompts(prompts, width=64)


@pytest.mark.parametrize(
    "prompts, error, message",
    [
        (np.array([TWO]), ValueError, r"one axis.*Received: the shape \(1, 2\)"),
        (
            Column(["a", float("nan")]),
            TypeError,
            "strings alone. Received: nan of type",
        ),
        (np.array(["a", None], object), TypeError, "strings alone. Received: None of"),
        (np.array([]).astype(str), ValueError, "must not be an empty list"),
        ({"a cat": 1}, TypeError, r"must be a string or a list.*\{'a cat': 1\}"),
        ({"a cat"}, TypeError, r"must be a string or a list.*\{'a cat'\}"),
        (iter(["a cat"]), TypeError, "must be a string or a list.*list_iterator"),
        ([["a cat"]], TypeError, r"must be a string or a list.*\[\['a cat'\]\]"),
    ],
    ids=named,
)
def test_what_is_no_list_of_strings_is_refused(prompts, error, message):
    with pytest.raises(error, match=message):
        check_prompts(prompts, width=64)


def test_contexts_stay_contexts():
    context = np.ones((3, 64), "float32")
    listed = check_prompts([context, np.str_("a cat")], width=64)
    assert listed[0].shape == (3, 64)
    assert listed[1] == "a cat"
    assert len(check_prompts(np.stack([context] * 2), width=64)) == 2
    held = np.empty(2, object)
    held[:] = [context, context]
    assert texts(held) is held


def test_a_message_is_short_whatever_was_given():
    with pytest.raises(TypeError) as caught:
        check_prompts([5] * 10**6)
    assert len(str(caught.value)) < 500
