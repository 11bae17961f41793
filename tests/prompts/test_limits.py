"""What a prompt may say at most, and that reading one takes as long as it is."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasdiffusion.prompts import BREAK, Span, compose, parse, schedule
from kerasdiffusion.prompts.encode import Encoder
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.requests.arguments import check_prompts
from kerasdiffusion.storage.bounds import BOUNDS
from tests.tiny import TINY, tiny_tokenizer

MOST = BOUNDS["prompt_characters"].most
DEEP = BOUNDS["prompt_brackets"].most
CASES = json.loads((Path(__file__).parent / "data" / "a1111.json").read_text("utf-8"))
PROMPTS = [case["prompt"] for case in CASES if len(case["prompt"]) < 400]

# Each once took the square of its length, or a memory of it.
SLOW = {
    "open brackets": "(" * DEEP + "a(b)" * (MOST // 5),
    "brackets in brackets": ("(" * DEEP + "a" + ")" * DEEP) * (MOST // (2 * DEEP + 1)),
    "edits in edits": ("[" * 150 + "a" + ":b:3]" * 150) * (MOST // 1000),
    "escapes in brackets": "(" * DEEP + r"\(" * (MOST // 3),
    "space beside AND": "a AND b" + " " * (MOST - 10) + "c",
    "space behind AND": "a AND b" + " " * (MOST - 10),
    "space before a colon": "a AND b" + " " * (MOST - 20) + ": x",
    "space": "a" + " " * (MOST - 10) + "b",
    "space and BREAK": (" " * 5000 + "BREAK") * 12,
    "colons": ":" * MOST,
    "colons and space": ": " * (MOST // 2),
    "digits": "(a:" + "1" * (MOST - 10) + "x)",
    "points": "(a:" + "." * (MOST - 10),
    "alternatives": "[" + "a|" * (MOST // 2 - 10) + "b]",
    "closed only": ")]" * (MOST // 2),
    "backslashes": "\\" * (MOST - 1),
    "one word": "a" * MOST,
    "signs": "!?" * (MOST // 2),
    "entities": "&amp;" * (MOST // 5),
}


@pytest.mark.parametrize(
    "marks", ["\u0301\u0316", "&#769;&#790;", "&amp;#769;\u0316", "\xcc\x81\xcc\x96"]
)
def test_marks_without_end_are_refused_ahead_of_being_put_in_order(marks):
    """Which takes the square of their number, whatever they are written as."""
    with pytest.raises(ValueError, match="at most 64 combining marks in a row"):
        Tokenizer().tokens("e" + marks * (MOST // len(marks) - 1))
    long = "a red e\u0301toile, " * 200
    assert Tokenizer().tokens(long) == Tokenizer().tokens(long.replace("e\u0301", "é"))


@pytest.mark.parametrize("prompt", SLOW.values(), ids=SLOW)
def test_a_prompt_at_the_limit_is_read_or_refused_at_once(prompt):
    assert len(prompt) <= MOST
    began = time.process_time()
    for read in (compose, lambda text: schedule(text, 20), parse, Tokenizer().tokens):
        try:
            read(prompt)
        except ValueError as error:
            assert "Received" in str(error)
            assert len(str(error)) < 1000
    assert time.process_time() - began < 30


def test_a_longer_one_is_refused_by_whoever_reads_it():
    for read in (parse, compose, lambda text: schedule(text, 10), check_prompts):
        read("a" * MOST)
        with pytest.raises(ValueError, match=f"at most {MOST} char.*: {MOST + 1} in"):
            read("a" * (MOST + 1))
    with pytest.raises(ValueError, match="at most .* characters.*`negative_prompt`"):
        check_prompts(["a", "b" * 10**7], "negative_prompt")


@pytest.mark.parametrize("sign", ["(", "[", "([", "a[", "😀:("])
def test_brackets_open_at_once(sign):
    depth = DEEP // len(re.sub(r"[^(\[]", "", sign))
    parse("a" + sign[:-1] + "(" * 10)
    rule = f"at most {DEEP} brackets open at once"
    with pytest.raises(ValueError, match=rf"{rule}.* written \\\("):
        schedule(sign * (depth + 1), 10)
    with pytest.raises(ValueError, match=f"{rule}|weight"):
        parse(sign * (depth + 1))
    assert parse("(a) [b] " * 1000)[0].text == "a"
    assert parse(r"\(" * 1000) == [Span("(" * 1000, 1.0)]


@pytest.mark.parametrize(
    "prompt",
    [
        "(red:1e5) (red:" + "9" * 300 + ")",
        "(red:-" + "9" * 300 + ")",
        "(red:" + "9" * 400 + ")",
        "((red:10000):10000)",
        "(" * 150 + "red",
    ],
)
def test_a_weight_that_would_paint_black_names_its_word(prompt):
    with pytest.raises(ValueError, match="from -1000000 to 1000000.*for 'red' in"):
        parse(prompt)
    assert parse("(red:1000000)") == [Span("red", 1e6)]


@pytest.mark.parametrize("share", ["9" * 300, "-" + "9" * 400, "1000001"])
def test_a_share_too(share):
    with pytest.raises(ValueError, match="weight or a share .*for 'a dog' in"):
        compose(f"a cat AND a dog :{share}")
    assert compose("a AND b :-1000000")[1].weight == -1e6


def test_what_and_joins():
    most = BOUNDS["prompt_branches"].most
    assert len(compose(" AND ".join(["a cat"] * most))) == most
    with pytest.raises(ValueError, match=f"at most {most} parts.*: 1000 in 'a "):
        compose(" AND ".join(["a cat"] * 1000))


def test_chunks_and_stages_are_counted_before_the_first_is_encoded():
    def run(tokens, seen):
        raise AssertionError("encoded before it was counted")

    for weighting in ("a1111", "compel", "none"):
        encoder = Encoder(tiny_tokenizer(), run, weighting)
        room = TINY.tokenizer.context_length - 2
        most = BOUNDS["prompt_chunks"].most
        with pytest.raises(
            ValueError, match=f"at most {most} chunks .*: {most + 1} in"
        ):
            encoder.texts(["two " * (room * most + 1)])
        with pytest.raises(ValueError, match="with all its stages .* 4096 chunks"):
            encoder.texts(["two " * (room * 5)] * 1000)


# Signs, words and spaces of which prompts are made, the odd ones too.
PIECES = st.sampled_from(
    ["(", ")", "[", "]", ":", "|", "\\", "BREAK", "AND", "a", "red cat", " ", "   "]
    + ["\n", "\t", "\u3000", "1.2", ":1.3)", ":0.5]", ":5", ".", "+3", "-1", "<", "x_"]
)
WRITTEN = st.one_of(
    st.lists(PIECES, max_size=40).map("".join),
    st.sampled_from(PROMPTS),
    st.tuples(st.sampled_from(PROMPTS), PIECES, st.integers(0, 400)).map(
        lambda t: t[0][: t[2]] + t[1] + t[0][t[2] :]
    ),
    st.text(max_size=60),
)


def read_slowly(prompt):
    """What `AND` joins and `BREAK` parts by A1111's own patterns, in square time."""
    share = re.compile(r"^((?:\s|.)*?)(?:\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+)))?\s*$")
    parts = re.split(r"\bAND\b", prompt)
    if len(parts) == 1:
        return [(prompt, 1.0)]
    found = [share.search(part).groups() for part in parts]
    return [(text, 1.0 if number is None else float(number)) for text, number in found]


@settings(deadline=None, max_examples=300)
@given(WRITTEN)
def test_every_prompt_is_read_as_a1111_reads_it_or_refused(prompt):
    assert [tuple(span) for span in compose(prompt)] == read_slowly(prompt)
    try:
        spans = parse(prompt)
    except ValueError as error:
        assert "Received" in str(error)
        return
    assert spans and all(np.isfinite(span.weight) for span in spans)
    # Each that opens or closes nothing, and is not escaped, is text.
    if not re.search(r"[()\[\]\\<#]", prompt):
        pieces = re.split(r"(:)", prompt)
        parts = [re.split(r"\s*\bBREAK\b\s*", piece) for piece in pieces]
        texts = [[]]
        for first, *others in parts:
            texts[-1].append(first)
            texts += [[other] for other in others]
        expected = []
        for i, text in enumerate(texts):
            joined = Span("".join(text), 1.0)
            expected += [joined] if i == 0 else [BREAK, joined]
        assert spans == expected
    stages = schedule(prompt, 7)
    assert [stage.last for stage in stages] == sorted({s.last for s in stages})
    assert stages[-1].last == 7


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from("(["), st.sampled_from(["", "1.3", "0.5", "2"])),
        max_size=12,
    )
)
def test_weights_multiply_from_the_innermost_bracket_out(brackets):
    prompt, expected = "word", 1.0
    for sign, number in brackets:
        if sign == "[":
            prompt, expected = f"[{prompt}]", expected * (1 / 1.1)
        elif number:
            prompt, expected = f"({prompt}:{number})", expected * float(number)
        else:
            prompt, expected = f"({prompt})", expected * 1.1
    assert parse(prompt) == [Span("word", expected)]


def test_the_page_states_the_limits():
    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text("utf-8")
    stated = page[page.index("## Limits") :]
    for name, bound in BOUNDS.items():
        if name.startswith("prompt_"):
            assert f"{bound.most:,}" in stated, name
