import importlib.util
from pathlib import Path

import numpy as np
import pytest

from kerasdiffusion.storage.bounds import BOUNDS, check_bound, shown


def test_a_limit_is_the_most_that_is_taken():
    most = BOUNDS["json"].most
    check_bound("json", most, "a.json")
    with pytest.raises(
        ValueError, match=rf"at most {most} bytes. Received: {most + 1}"
    ):
        check_bound("json", most + 1, "a.json")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 10**5000], ids=["nan", "inf", "5,001 digits"]
)
def test_what_is_no_count_is_refused_and_not_written_out(value):
    with pytest.raises(ValueError, match="Received") as caught:
        check_bound("json", value, "a" * 10**6)
    assert len(str(caught.value)) < 500


def test_every_limit_reads_as_a_sentence():
    for name, bound in BOUNDS.items():
        assert bound.most > 0, name
        assert bound.what[0].isupper() and not bound.what.endswith("."), name


@pytest.mark.parametrize(
    "value",
    ["a" * 10**6, b"a" * 10**6, 10**10**5, {"a": ["b" * 999] * 999}, np.zeros(10**5)],
    ids=["text", "bytes", "integer", "nested", "array"],
)
def test_what_was_received_is_one_short_line(value):
    assert 0 < len(shown(value)) <= 200
    assert "\n" not in shown(value)


def test_short_things_are_shown_whole():
    assert shown("apple") == "'apple'"
    assert shown((1, 2.5)) == "(1, 2.5)"
    assert shown("a\nb") == r"'a\nb'"


def test_what_holds_itself_is_shown():
    circle = []
    for _ in range(10**5):
        circle = [circle]
    assert "..." in shown(circle)


def test_the_docs_show_every_limit_as_it_is():
    """`python docs/limits.py` writes the table."""
    path = Path(__file__).parents[2] / "docs" / "limits.py"
    spec = importlib.util.spec_from_file_location("limits", path)
    limits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(limits)
    page = limits.PAGE.read_text("utf-8")
    assert page == limits.current(page)
