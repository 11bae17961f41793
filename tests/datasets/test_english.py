import pytest

from kerasdiffusion.datasets.emoji import table
from kerasdiffusion.datasets.english import (
    article,
    can_count,
    is_plural,
    noun_phrase,
    plural,
)
from kerasdiffusion.datasets.names import STARTER, spoken_names


@pytest.mark.parametrize(
    "phrase, expected",
    [
        ("red apple", "a"),
        ("apple", "an"),
        ("owl", "an"),
        ("unicorn", "a"),
        ("umbrella", "an"),
        ("euro banknote", "a"),
        ("hourglass", "an"),
        ("one-piece swimsuit", "a"),
        ("x-ray", "an"),
        ("OK hand", "an"),
        ("ufo", "a"),
        ("T-Rex", "a"),
        ("e-mail", "an"),
    ],
)
def test_the_article_follows_the_sound(phrase, expected):
    assert article(phrase) == expected


@pytest.mark.parametrize(
    "one, many",
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("fox", "foxes"),
        ("strawberry", "strawberries"),
        ("monkey", "monkeys"),
        ("mouse", "mice"),
        ("maple leaf", "maple leaves"),
        ("snowman", "snowmen"),
        ("fish", "fish"),
        ("tomato", "tomatoes"),
        ("octopus", "octopuses"),
        ("slice of pizza", "slices of pizza"),
        ("cup of coffee", "cups of coffee"),
        ("person walking", "people walking"),
        ("smiling face with sunglasses", "smiling faces with sunglasses"),
        ("bow and arrow", "bows and arrows"),
        ("flying saucer", "flying saucers"),
    ],
)
def test_the_head_noun_takes_the_plural(one, many):
    assert plural(one) == many
    assert can_count(one)


def test_plurals_and_masses_take_no_article():
    assert noun_phrase("grapes") == "grapes"
    assert noun_phrase("scissors", "small") == "small scissors"
    assert noun_phrase("bread") == "bread"
    assert noun_phrase("Santa Claus") == "Santa Claus"
    assert noun_phrase("earth") == "the earth"
    for name in ("grapes", "bread", "Santa Claus", "earth", "thumbs up"):
        assert not can_count(name)
    assert is_plural("skis") and not is_plural("cactus") and not is_plural("glass")


def test_adjectives_stand_before_the_name_and_decide_the_article():
    assert noun_phrase("apple", "small") == "a small apple"
    assert noun_phrase("ring", "", "orange") == "an orange ring"
    assert noun_phrase("ring", "green", count=3) == "three green rings"


def test_names_are_plain_words():
    for name in table():
        for said in spoken_names(name, "emoji", tuple(table())):
            assert said == said.strip()
            assert not set(said) & set(":,;()’"), said


@pytest.mark.parametrize("objects", [STARTER, tuple(table())], ids=["starter", "all"])
def test_no_two_objects_share_a_name(objects):
    owner = {}
    for name in objects:
        for said in spoken_names(name, "emoji", objects):
            assert owner.setdefault(said, name) == name, said


def test_what_one_would_type_names_the_starter_objects():
    said = {word for name in STARTER for word in spoken_names(name, "emoji", STARTER)}
    assert {"apple", "red apple", "dog", "cat", "car", "tree", "pizza"} <= said
    assert {"rocket", "umbrella", "book", "clock", "moon", "train"} <= said
