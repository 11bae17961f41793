"""The language of prompts, beside what A1111's own code makes of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kerasdiffusion.prompts import BREAK, Span, compose, parse, schedule
from kerasdiffusion.prompts.syntax import parse_text

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "a1111.json").read_text("utf-8"))


def pairs(spans):
    return [list(span) for span in spans]


def test_240_prompts_are_parsed_as_a1111_does():
    assert len(CASES) == 240
    for case in CASES:
        assert pairs(parse_text(case["prompt"])) == case["spans"], case["prompt"]
    prompts = [case["prompt"] for case in CASES]
    assert max(len(prompt.split()) for prompt in prompts) >= 1000
    for sign in ("(", "[", "\\(", "BREAK", "猫"):
        assert sum(sign in prompt for prompt in prompts) >= 5, sign
    assert sum(len(case["spans"]) > 3 for case in CASES) > 60


def test_240_prompts_are_composed_as_a1111_does():
    several = [case for case in CASES if len(case["composed"]) > 1]
    assert len(several) > 20
    for case in several:
        assert pairs(compose(case["prompt"])) == case["composed"], case["prompt"]


def test_without_and_a_prompt_has_no_share():
    """A1111 takes a number behind the last colon for one, a time of day too."""
    alone = [case for case in CASES if len(case["composed"]) == 1]
    assert sum(weight != 1.0 for case in alone for _, weight in case["composed"]) == 4
    for case in alone:
        assert compose(case["prompt"]) == [Span(case["prompt"], 1.0)]


def test_240_prompts_are_scheduled_as_a1111_does():
    known = [case for case in CASES if case["schedule"] is not None]
    for case in known:
        found = pairs(schedule(case["prompt"], case["steps"]))
        assert found == case["schedule"], case["prompt"]
    assert len(known) > 150
    assert sum(len(case["schedule"]) > 1 for case in known) > 50


def test_what_is_written_and_what_it_weighs():
    assert parse("a (red:1.5) [apple]") == [
        Span("a ", 1.0),
        Span("red", 1.5),
        Span(" ", 1.0),
        Span("apple", 1 / 1.1),
    ]
    assert parse(r"\(red\) BREAK \\") == [Span("(red)", 1.0), BREAK, Span("\\", 1.0)]
    assert parse("((red))")[0].weight == pytest.approx(1.21)
    with pytest.raises(ValueError, match=r"must be a number.*Received: '1\.2\.3' in"):
        parse("(red:1.2.3)")


def test_a_construct_before_a_stray_bracket_is_one():
    assert pairs(schedule("[a:b:3](", 10)) == [[3, "a("], [10, "b("]]


def test_a_number_of_steps_may_be_infinite():
    assert schedule("[a:b:1e999]", 10) == schedule("[a:b:10]", 10)


def test_the_parser_needs_no_framework():
    script = (
        "import sys; from kerasdiffusion.prompts import parse; parse('(a)');"
        "print({'keras', 'tensorflow', 'torch', 'jax', 'numpy'} & set(sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert child.stdout.strip() == b"set()", child.stderr
