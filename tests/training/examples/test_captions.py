"""What a caption is this time."""

import numpy as np
import pytest

from kerasdiffusion.training.examples.captions import Captions

TAGS = "sks dog, grass, sun, red ball, tree"


def test_a_caption_is_itself():
    assert {Captions().of("a, dog ", number) for number in range(9)} == {"a, dog "}


def test_tags_are_shuffled_behind_those_that_are_kept():
    found = [Captions(shuffle=True, keep_tokens=1).of(TAGS, i) for i in range(50)]
    assert len(set(found)) > 10
    for each in found:
        tags = each.split(", ")
        assert tags[0] == "sks dog" and sorted(tags) == sorted(TAGS.split(", "))


def test_it_depends_on_seed_and_number_alone():
    first, again = Captions(shuffle=True, seed=1), Captions(shuffle=True, seed=1)
    assert [first.of(TAGS, i) for i in range(20)] == [
        again.of(TAGS, i) for i in reversed(range(20))
    ][::-1]
    other = Captions(shuffle=True, seed=2)
    assert [first.of(TAGS, i) for i in range(20)] != [
        other.of(TAGS, i) for i in range(20)
    ]


def test_shares_of_what_is_dropped():
    found = [Captions(dropout=0.3).of(TAGS, i) for i in range(2000)]
    assert np.mean([each == "" for each in found]) == pytest.approx(0.3, abs=0.04)
    how = Captions(tag_dropout=0.5, keep_tokens=1)
    found = [how.of(TAGS, i).split(", ") for i in range(2000)]
    assert all(each[0] == "sks dog" for each in found)
    assert np.mean([len(each) - 1 for each in found]) == pytest.approx(2.0, abs=0.1)


def test_what_is_dropped_does_not_change_the_order():
    how = Captions(shuffle=True, dropout=0.5, seed=3)
    plain = Captions(shuffle=True, seed=3)
    both = [(how.of(TAGS, i), plain.of(TAGS, i)) for i in range(50)]
    assert {a for a, _ in both} & {""}
    assert all(a in ("", b) for a, b in both)


@pytest.mark.parametrize(
    "options",
    [{"dropout": 1.5}, {"tag_dropout": -1}, {"keep_tokens": -1}, {"separator": " "}],
)
def test_values_out_of_range(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: "):
        Captions(**options)
